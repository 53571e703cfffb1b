"""From a server's profile to its sandbox's way out: what is allowed, its budgets and secrets, its events in the log.

A secret goes from the gateway's own environment into the proxy and no further: no sandbox, log or message holds it.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Final, assert_never

from gateway.errors import Unrecordable, UpstreamError
from gateway.options import Network, SandboxOptions, Secret, ServerOptions
from gateway.upstreams.launch import Record
from policies.jsonvalue import JSONObject
from sandbox.egress.bundle import ENVIRONMENT, bundled
from sandbox.egress.events import Closed, Connected, Event, Exhausted, Refused, Unrecorded
from sandbox.egress.head import ONE_HOP
from sandbox.egress.proxy import Header, Proxy
from sandbox.egress.rules import Rule, parse_rule
from sandbox.egress.tls import Authority
from sandbox.spec import Spec

_MB: Final = 1_000_000
_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_UNFIT: Final = re.compile(r"[^\t\x20-\x7e]|^[ \t]|[ \t]$")


def outlet_for(server: ServerOptions, profile: SandboxOptions, record: Record, task: str) -> Proxy | None:
    """The way out for one process of a server; None: it has none, or the host's own network.

    Raises:
        UpstreamError: a secret names a variable that is not set, or that cannot stand in a header.
    """
    if not profile.egress or server.network is Network.HOST:
        return None
    headers = {parse_rule(to): _header(server.name, to, secret) for to, secret in profile.secrets.items()}
    return Proxy.of(
        frozenset(map(parse_rule, profile.egress)),
        _Events(record=record, server=server.name, task=task),
        most_bytes=profile.egress_mb * _MB,
        most_connections=profile.egress_connections,
        headers=headers,
        authority=_authority(frozenset(headers)) if headers else None,
    )


def equipped(spec: Spec, outlet: Proxy | None, folder: Path | None = None) -> Spec:
    """`spec` with what its programs need to believe an outlet that ends TLS for them.

    Args:
        folder: where the file of authorities is kept; not the gateway's state, which no sandbox may see.

    Raises:
        UpstreamError: the file cannot be written.
    """
    if outlet is None or outlet.authority is None:
        return spec
    folder = _cache() if folder is None else folder
    try:
        mount = bundled(outlet.authority.certificate, folder)
    except OSError as error:
        raise UpstreamError(f"the certificates for a sandbox could not be written to {folder}: {error}") from error
    return replace(spec, env={**ENVIRONMENT, **spec.env}, mounts=(*spec.mounts, mount))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Events:
    """The proxy's events as the audit log's."""

    record: Record
    server: str
    task: str

    async def __call__(self, event: Event) -> None:
        kind, payload = _as_audit(event)
        try:
            await self.record(kind, payload, server=self.server, task=self.task)
        except Unrecordable as error:
            raise Unrecorded from error


def _as_audit(event: Event) -> tuple[str, JSONObject]:
    match event:
        case Connected():
            where = {"host": event.host, "port": event.port, "address": event.address}
            return "egress.connected", {"connection": event.connection, **where}
        case Closed():
            where = {"host": event.host, "port": event.port, "address": event.address}
            moved = {"sent_bytes": event.sent_bytes, "received_bytes": event.received_bytes}
            took = {"duration_ms": round(1e3 * event.duration_s), "why": event.why}
            return "egress.closed", {"connection": event.connection, **where, **moved, **took}
        case Refused():
            return "egress.refused", {"target": event.target, "why": event.why, "count": event.count}
        case Exhausted():
            return "egress.budget", {"what": event.what, "limit": event.limit}
    assert_never(event)


def _header(server: str, to: str, secret: Secret) -> Header:
    if secret.header.lower() in ONE_HOP:
        raise UpstreamError(f"server '{server}': the secret for {to}: {secret.header} is the proxy's own to set")
    value = _filled(server, to, secret.template, os.environ)
    if _UNFIT.search(value):
        raise UpstreamError(f"server '{server}': the secret for {to} cannot stand in a header: it holds control bytes")
    return Header(name=secret.header, value=value)


def _filled(server: str, to: str, template: str, environ: Mapping[str, str]) -> str:
    if missing := [name for name in _VARIABLE.findall(template) if not environ.get(name)]:
        raise UpstreamError(
            f"server '{server}': the secret for {to} needs the variable {missing[0]}, which the gateway does not have"
        )
    return _VARIABLE.sub(lambda found: environ[found[1]], template)


@cache
def _authority(to: frozenset[Rule]) -> Authority:
    """One for all the processes of a profile: it holds for these hosts and no other."""
    return Authority.for_hosts(rule.host for rule in to)


def _cache() -> Path:
    named = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(named) if os.path.isabs(named) else Path.home() / ".cache") / "pratique" / "egress"
