"""Requests to the proxy: one head's bytes to what is asked, and the head that is sent on, built anew.

    CONNECT host:port             -> Tunnel
    GET http://host[:port]/path   -> Exchange          (absolute form; RFC 9112, 3.2.2)
    GET /path, inside of TLS      -> Exchange          (origin form)

Strict where parsers are known to differ (RFC 9112, 11.2: request smuggling): whatever could be read in two ways is
refused, and nothing is passed on as it was written.
"""

import re
from dataclasses import dataclass
from typing import Final

from sandbox.egress.refusal import Refusal

LIMIT_BYTES: Final = 16 << 10

_LINE: Final = re.compile(r"([A-Z][A-Z-]{0,23}) ([\x21-\x7e]+) HTTP/1\.([01])")
_FIELD: Final = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)")
_LENGTH: Final = re.compile(r"[0-9]{1,15}")
_ABSOLUTE: Final = re.compile(r"http://([^/?#]*)([/?][^#]*)?")
_ORIGIN: Final = re.compile(r"/[^#]*")

ONE_HOP: Final = frozenset(
    {
        *("connection", "keep-alive", "proxy-connection", "proxy-authorization", "proxy-authenticate"),
        *("te", "trailer", "transfer-encoding", "upgrade", "http2-settings", "content-length", "host"),
    }
)
"""Never sent on as they came: they are about this hop, or are written anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A request line and its fields, names in small letters."""

    method: str
    target: str
    minor: int
    """Of HTTP/1."""
    fields: tuple[tuple[str, str], ...]

    def values(self, name: str) -> list[str]:
        return [value for one, value in self.fields if one == name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tunnel:
    """CONNECT: bytes both ways."""

    authority: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request, one answer."""

    authority: str
    path: str
    head: Head
    length: int | None
    """Bytes of the body; None: it comes in chunks."""

    def forwarded(self, header: tuple[str, str] | None = None) -> bytes:
        """The head to send on; `header` replaces whatever came under its name."""
        dropped = set(ONE_HOP)
        for value in self.head.values("connection"):
            dropped |= {word.strip().lower() for word in value.split(",")}
        if header is not None:
            dropped.add(header[0].lower())
        lines = [f"{self.head.method} {self.path} HTTP/1.{self.head.minor}", f"host: {self.authority}"]
        lines += [f"{name}: {value}" for name, value in self.head.fields if name not in dropped]
        if self.length is None:
            lines.append("transfer-encoding: chunked")
        elif self.length or self.head.values("content-length"):
            lines.append(f"content-length: {self.length}")
        if header is not None:
            lines.append(f"{header[0]}: {header[1]}")
        return "\r\n".join([*lines, "connection: close", "", ""]).encode("latin-1")


def parse_head(data: bytes) -> Head:
    """A whole head, with the empty line that ends it.

    Raises:
        Refusal: it is not exactly as HTTP/1 writes it.
    """
    first, *lines = data.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    line = _LINE.fullmatch(first)
    if line is None:
        raise Refusal("no request line", status=400)
    fields = [_FIELD.fullmatch(one) for one in lines]
    found = tuple((field[1].lower(), field[2].rstrip(" \t")) for field in fields if field)
    if len(found) < len(fields):  # bare CR or LF, NUL, a folded line, a blank before the colon ...
        raise Refusal("a malformed header field", status=400, target=line[2])
    return Head(method=line[1], target=line[2], minor=int(line[3]), fields=found)


def to_proxy(head: Head) -> Tunnel | Exchange:
    """What a client asks of a proxy.

    Raises:
        Refusal: it is neither a tunnel nor plain HTTP, or contradicts itself.
    """
    if head.method == "CONNECT":
        authority = head.target
        if head.values("content-length") or head.values("transfer-encoding"):
            raise Refusal("CONNECT with a body", status=400, target=authority)
        # its Host is read by nobody; Node names the proxy there
        return Tunnel(authority=authority)
    found = _ABSOLUTE.fullmatch(head.target)
    if found is None:
        raise Refusal("neither CONNECT nor http://", status=400, target=head.target)
    path = found[2] or "/"
    return _exchange(head, found[1], path if path.startswith("/") else f"/{path}")


def to_origin(head: Head, host: str, port: int) -> Exchange:
    """What a client asks of the server that it believes to speak to.

    Raises:
        Refusal: it means another, or contradicts itself.
    """
    if not _ORIGIN.fullmatch(head.target) or head.method == "CONNECT":
        raise Refusal("not a path", status=400, target=f"{host}:{port}")
    if head.method == "TRACE":  # its answer is the request, with the header that was set (RFC 9110, 9.3.8)
        raise Refusal("TRACE would tell what the proxy adds", status=400, target=f"{host}:{port}")
    named = head.values("host")
    if named not in ([host], [f"{host}:{port}"]):
        raise Refusal("a Host other than the target", status=421, target=f"{host}:{port}")
    return _exchange(head, named[0], head.target)


def _exchange(head: Head, authority: str, path: str) -> Exchange:
    hosts = [host.removesuffix(":80") for host in head.values("host")]
    if hosts != [authority.removesuffix(":80")] and (hosts or head.minor):
        raise Refusal("a Host other than the target", status=400, target=authority)
    lengths, encodings = head.values("content-length"), head.values("transfer-encoding")
    if len(lengths) + len(encodings) > 1:
        raise Refusal("more than one length", status=400, target=authority)
    if encodings:
        if encodings[0].lower() != "chunked" or not head.minor:
            raise Refusal("an encoding other than chunked", status=400, target=authority)
        return Exchange(authority=authority, path=path, head=head, length=None)
    if lengths and not _LENGTH.fullmatch(lengths[0]):
        raise Refusal("no length", status=400, target=authority)
    return Exchange(authority=authority, path=path, head=head, length=int(lengths[0]) if lengths else 0)
