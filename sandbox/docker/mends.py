"""What a person can do about what the engine complains of."""

from typing import Final

LOG: Final = "See the engine's log (journalctl -u docker)."

_MENDS: Final = (
    ("docker-init", "Install the engine's init (Debian: apt install tini), or a Docker package that brings it."),
    ("no space left", "Free disk space where the engine keeps its data (docker system df)."),
    ("no such image", "Build or import the image again."),
    ("/bin/sh", "Images need a /bin/sh; build one with `pratique image build`."),
    ("unknown runtime", "Install gVisor, and register its runtime in /etc/docker/daemon.json (runsc install)."),
    ("unknown or invalid runtime", "Install gVisor, and register it in /etc/docker/daemon.json (runsc install)."),
    ("seccomp", "Use a Docker engine built with seccomp, on a kernel that has it."),
    ("memory limit", "Raise `memory_mb` of the sandbox's profile."),
    ("timeout", "See whether the engine is overloaded or stuck (docker ps), and restart it."),
    ("bind source path", "The engine must see the same files as the gateway: run both on one machine, unconfined."),
    ("mount", "See that the engine sees the mounted path, and that nothing else is mounted there."),
)


def mend_for(complaint: str) -> str:
    """The likeliest mend, by what the complaint speaks of."""
    lower = complaint.lower()
    return next((mend for part, mend in _MENDS if part in lower), LOG)
