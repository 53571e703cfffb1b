"""From a profile to a way out: what is allowed, what it costs, what the log says of it."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.errors import Unrecordable, UpstreamError
from gateway.options import Network, SandboxOptions, Secret, ServerOptions
from gateway.outlets import equipped, outlet_for
from policies.jsonvalue import JSONObject
from sandbox.egress.events import Closed, Connected, Exhausted, Refused, Unrecorded
from sandbox.egress.proxy import Header
from sandbox.egress.rules import Rule
from sandbox.spec import Spec

SERVER = ServerOptions(name="web", command=("web",))
TO = "api.example.com:443"


@dataclass
class Audit:
    is_dead: bool = False
    written: list[tuple[str, JSONObject, str, str]] = field(default_factory=list)

    async def __call__(self, kind: str, payload: JSONObject, *, server: str, task: str = "") -> None:
        if self.is_dead:
            raise Unrecordable("disk full")
        self.written.append((kind, payload, server, task))


def with_secret(template: str = "Bearer ${WEB_TOKEN}", header: str = "Authorization") -> SandboxOptions:
    return SandboxOptions(egress=(TO,), secrets={TO: Secret(header=header, template=template)})


def test_a_profile_without_egress_and_a_server_on_the_hosts_network_have_no_outlet() -> None:
    assert outlet_for(SERVER, SandboxOptions(), Audit(), "task_1") is None
    hosted = ServerOptions(name="web", command=("web",), network=Network.HOST)
    assert outlet_for(hosted, SandboxOptions(egress=(TO,)), Audit(), "task_1") is None


def test_a_profile_becomes_rules_and_budgets() -> None:
    outlet = outlet_for(
        SERVER, SandboxOptions(egress=(TO, "b.example.com:80"), egress_mb=3, egress_connections=7), Audit(), ""
    )
    assert outlet is not None
    assert outlet.rules == {Rule("api.example.com", 443), Rule("b.example.com", 80)}
    assert (outlet.visits.budget.most_bytes, outlet.visits.budget.most_connections) == (3_000_000, 7)
    assert outlet.authority is None
    spec = Spec(argv=("web",))
    assert equipped(spec, outlet) is spec
    assert equipped(spec, None) is spec


@pytest.mark.promise("egress-secrets")
def test_a_secret_comes_from_the_gateways_environment_and_stands_in_nothing_that_is_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WEB_TOKEN", "s3cret")
    outlet = outlet_for(SERVER, with_secret(), Audit(), "task_1")
    assert outlet is not None
    assert outlet.headers == {Rule("api.example.com", 443): Header(name="Authorization", value="Bearer s3cret")}
    spec = equipped(Spec(argv=("web",), env={"SSL_CERT_FILE": "/mine"}), outlet, tmp_path)
    assert spec.env["NODE_EXTRA_CA_CERTS"] == spec.mounts[0].target
    assert spec.env["SSL_CERT_FILE"] == "/mine"
    assert "s3cret" not in repr(outlet) + repr(spec) + repr(dict(spec.env)) + Path(spec.mounts[0].source).read_text()


def test_a_secret_that_cannot_be_had_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEB_TOKEN", raising=False)
    with pytest.raises(UpstreamError, match=r"server 'web': .*api\.example\.com:443 needs the variable WEB_TOKEN"):
        outlet_for(SERVER, with_secret(), Audit(), "")


@pytest.mark.parametrize("value", ["a\r\nX: y", "a\x7f", "é", " padded "])
def test_a_secret_that_would_break_a_header_is_refused_and_not_repeated(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEB_TOKEN", value)
    with pytest.raises(UpstreamError, match="cannot stand in a header") as raised:
        outlet_for(SERVER, with_secret("${WEB_TOKEN}"), Audit(), "")
    assert value not in str(raised.value)


def test_a_header_that_frames_requests_is_no_place_for_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_TOKEN", "1")
    with pytest.raises(UpstreamError, match="Content-Length is the proxy's own to set"):
        outlet_for(SERVER, with_secret("${WEB_TOKEN}", "Content-Length"), Audit(), "")


def test_a_folder_that_cannot_be_written_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WEB_TOKEN", "1")
    (tmp_path / "file").touch()
    outlet = outlet_for(SERVER, with_secret(), Audit(), "")
    with pytest.raises(UpstreamError, match="could not be written to"):
        equipped(Spec(argv=("web",)), outlet, tmp_path / "file")


@pytest.mark.promise("egress-recorded")
async def test_events_stand_in_the_log_under_their_server_and_task() -> None:
    audit = Audit()
    outlet = outlet_for(SERVER, SandboxOptions(egress=(TO,)), audit, "task_1")
    assert outlet is not None
    where = {"host": "api.example.com", "port": 443, "address": "93.184.216.34"}
    record = outlet.visits.record
    await record(Connected(connection=1, host="api.example.com", port=443, address="93.184.216.34"))
    await record(
        Closed(
            connection=1,
            host="api.example.com",
            port=443,
            address="93.184.216.34",
            sent_bytes=10,
            received_bytes=20,
            duration_s=0.0126,
            why="ended",
        )
    )
    await record(Refused(target="evil:1", why="not in the allow-list"))
    await record(Exhausted(what="bytes", limit=100))
    closed = {"connection": 1, **where, "sent_bytes": 10, "received_bytes": 20, "duration_ms": 13, "why": "ended"}
    assert audit.written == [
        ("egress.connected", {"connection": 1, **where}, "web", "task_1"),
        ("egress.closed", closed, "web", "task_1"),
        ("egress.refused", {"target": "evil:1", "why": "not in the allow-list", "count": 1}, "web", "task_1"),
        ("egress.budget", {"what": "bytes", "limit": 100}, "web", "task_1"),
    ]


def test_a_log_that_cannot_be_written_is_told_as_such() -> None:
    outlet = outlet_for(SERVER, SandboxOptions(egress=(TO,)), Audit(is_dead=True), "task_1")
    assert outlet is not None
    with pytest.raises(Unrecorded):
        asyncio.run(outlet.visits.record(Exhausted(what="bytes", limit=1)))
