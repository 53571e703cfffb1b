"""Where drivers differ by their nature: the one table of what not every driver can hold alike, and why.

A test that meets a difference looks here and checks exactly what is written; nothing is skipped.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Nature:
    """One driver's own ways."""

    memory_over_bytes: int = 0
    """How far past the limit the memory of programs may reach."""
    pids_over: int = 0
    """How many processes more than the limit there may be."""
    environment: Mapping[str, str] = field(default_factory=lambda: {"PWD": "/desk"})
    """What it adds to a program's environment. The shell that sets limits and becomes the program says where it is."""
    root_entries: frozenset[str] = frozenset()
    """What it adds to the root."""
    starts: int
    """How many starts must leave nothing."""
    starts_quick: int | None = None
    """As many where time is short: the full number is made by `make soak`."""
    sweeps_late: tuple[str, ...] = ()
    """What a gateway's sudden death leaves to the next gateway on this machine to remove: empty control groups."""


NATURE: Final[Mapping[str, Nature]] = {
    # An empty control group is its gateway's to remove; it costs nothing until the next one does.
    "bubblewrap": Nature(starts=200, sweeps_late=("group",)),
    # `.dockerenv` is an empty file by which Docker's containers know what they are in.
    "runc": Nature(starts=50, root_entries=frozenset({".dockerenv"})),
    # gVisor's kernel counts processes a moment after they have begun.
    "gvisor": Nature(pids_over=20, starts=20, root_entries=frozenset({".dockerenv"})),
    # Its emulator is in a sandbox of bubblewrap.
    "vm": Nature(starts=10, environment={}, sweeps_late=("group",)),
}
