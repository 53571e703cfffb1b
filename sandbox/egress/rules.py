"""Where a sandbox may connect to: exact names and ports, nothing else."""

import re
from dataclasses import dataclass
from typing import Final

from typing_extensions import override

_HOST: Final = re.compile(
    r"(?=.{1,253}\Z)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?)(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*"
)


@dataclass(frozen=True, slots=True, order=True)
class Rule:
    """One name, one port."""

    host: str
    """In small letters, without a trailing dot; never an address."""
    port: int

    @override
    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def parse_rule(text: str) -> Rule:
    """`host:port`, as a person writes it.

    Raises:
        ValueError: it is anything else: an address, a pattern, a URL, no port.
    """
    host, colon, port = text.rpartition(":")
    host = host.lower().removesuffix(".")
    if not colon or not host or not port.isascii() or not port.isdecimal() or not 0 < int(port[:6]) < 65536:
        raise ValueError(
            f'{text!r} is no destination: write "host:port", such as "api.example.com:443"; ports end at 65535'
        )
    if host == "localhost" or host.endswith(".localhost"):
        raise ValueError(
            f"{text!r}: the proxy reaches public addresses only, and a sandbox's own loopback needs no proxy"
        )
    if not _HOST.fullmatch(host) or host.rpartition(".")[2].isdecimal():
        raise ValueError(f"{text!r}: {host!r} is no host name (addresses and patterns are not taken)")
    return Rule(host, int(port))
