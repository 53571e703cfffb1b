"""What strangers and careless clients may send, over real sockets: refused, nothing runs, and the next call is served.

What single parts refuse is tested beside them (`unit/wire`, `unit/policies`); here the whole gateway stands behind.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from support.scene import Agent, Said, events, grant, recorded, request, scene, till

from gateway.bootstrap import Running
from gateway.ids import new_id
from policies.capability import Authority, new_private_key
from policies.grant import Grant
from policies.rules import parse_rule

GRANT = ('till.note(to = "me")', "till.echo", "till.deep", "till.huge", "till.big")


def raw(arguments: str, name: str = "till__note") -> bytes:
    """A request's body with its arguments as they are written here."""
    version, capabilities = "io.modelcontextprotocol/protocolVersion", "io.modelcontextprotocol/clientCapabilities"
    meta = f'{{"{version}":"2026-07-28","{capabilities}":{{}}}}'
    params = f'{{"name":"{name}","arguments":{arguments},"_meta":{meta}}}'
    return f'{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}'.encode()


def is_refused(said: Said) -> bool:
    return said.status >= 400 or "error" in said.body or bool(said.code)


# ---- who --------------------------------------------------------------------------------------------------------


def minted(gateway: Running, key: bytes, instance: str, expires: float | None = None) -> str:
    rules = (parse_rule('till.note(to = "me")'),)
    return Authority(key, instance).mint(
        Grant(rules=rules, expires=expires),
        task=new_id("task"),
        agent="agt_x",
        holder="agt_x",
        principal="user",
        token=new_id("tok"),
    )


@pytest.mark.promise("token-or-401")
async def test_a_token_that_is_not_one_of_ours_or_no_longer_stands_gets_a_401(tmp_path: Path) -> None:
    folder = tmp_path / "till"
    async with scene(tmp_path / "state", till(folder)) as gateway:
        good = (await grant(gateway, *GRANT)).token
        keys = tmp_path / "state" / "keys"
        ours, instance = (keys / "tokens.key").read_bytes(), (keys / "instance").read_text()
        for credential in (
            "",
            "garbage",
            good[:-4],
            good[:-4] + "AAAA",
            good.replace(good[40], "A" if good[40] != "A" else "B", 1),
            "x" * 40_000,
            minted(gateway, new_private_key(), instance),
            minted(gateway, ours, "gw_another"),
            minted(gateway, ours, instance, expires=1_000_000_000.0),
            minted(gateway, ours, instance),
        ):
            said = await Agent(gateway.url, credential).call("till__note", to="me", text="let me in")
            assert said.status == 401, credential[:60]
            assert said.body["error"]["message"].startswith("Unauthorized")
        kinds = {event.kind for event in events(gateway)}
        assert not {"decision", "listed", "effect.intent"} & kinds, "strangers cost the log nothing"
        assert not (await Agent(gateway.url, good).call("till__note", to="me", text="served")).code
    assert len(recorded(folder)) == 1


@pytest.mark.parametrize(
    ("field", "status"),
    [({"host": "evil.example"}, 421), ({"origin": "https://evil.example"}, 403), ({"content_type": "text/plain"}, 415)],
)
async def test_a_page_or_a_name_from_elsewhere_reaches_nothing(
    tmp_path: Path, field: dict[str, Any], status: int
) -> None:
    folder = tmp_path / "till"
    async with scene(tmp_path / "state", till(folder)) as gateway:
        token = (await grant(gateway, *GRANT)).token
        asked = request(token, "till__note", {"to": "me", "text": "from a page"}, **field)
        assert (await Agent(gateway.url, token).ask(asked)).status == status
    assert recorded(folder) == []


# ---- what is asked ----------------------------------------------------------------------------------------------

DEEP = "[" * 5_000 + "]" * 5_000
BODIES = {
    "an argument missing": raw('{"to":"me"}'),
    "of another type": raw('{"to":"me","text":5}'),
    "not declared": raw('{"to":"me","text":"x","bcc":"evil"}'),
    "a colliding key": raw('{"to":"me","text":"x","To":"evil"}'),
    "a key in compatible letters": raw('{"to":"me","text":"x","\\uff54o":"evil"}'),
    "no object": raw('["me"]'),
    "a lone surrogate": raw('{"to":"me","text":"\\ud800"}'),
    "an integer beyond 2^53": raw('{"value":9007199254740993}', "till__echo"),
    "a number beyond doubles": raw('{"value":1e999}', "till__echo"),
    "not a number": raw('{"value":NaN}', "till__echo"),
    "nested deeply": raw('{"value":' + DEEP + "}", "till__echo"),
    "nested more than a schema bounds": raw('{"value":' + "[" * 60 + "]" * 60 + "}", "till__echo"),
    "no JSON": b'{"jsonrpc":"2.0","id":1,',
    "not UTF-8": raw('{"to":"me","text":"x"}').replace(b'"x"', b'"\xff"'),
    "a batch": b"[" + raw('{"to":"me","text":"x"}') + b"]",
    "five megabytes": raw('{"to":"me","text":"' + "x" * 5_000_000 + '"}'),
    "empty": b"",
    "a name that is none": raw('{"to":"me","text":"x"}', "till__note__"),
    "another server's": raw('{"to":"me","text":"x"}', "other__note"),
}


@pytest.mark.promise("bad-requests-run-nothing")
async def test_a_request_off_the_rails_runs_nothing_and_the_next_one_is_served(tmp_path: Path) -> None:
    folder = tmp_path / "till"
    async with scene(tmp_path / "state", till(folder)) as gateway:
        token = (await grant(gateway, *GRANT)).token
        for what, body in BODIES.items():
            name = "till__echo" if b"till__echo" in body else "till__note"
            if what in ("a name that is none", "another server's"):
                name = json.loads(body)["params"]["name"]
            said = await Agent(gateway.url, token).ask(request(token, name, {}, raw=body))
            assert is_refused(said), what
            assert recorded(folder) == [], what
        assert events(gateway, kind="effect.intent") == []
        assert not (await Agent(gateway.url, token).call("till__note", to="me", text="served")).code


async def test_of_duplicate_keys_what_is_decided_on_is_what_the_server_gets(tmp_path: Path) -> None:
    folder = tmp_path / "till"
    async with scene(tmp_path / "state", till(folder)) as gateway:
        token = (await grant(gateway, *GRANT)).token
        agent = Agent(gateway.url, token)
        smuggled = raw('{"to":"me","text":"x","to":"evil"}')
        assert is_refused(await agent.ask(request(token, "till__note", {}, raw=smuggled)))
        honest = raw('{"to":"evil","text":"x","\\u0074o":"me"}')
        await agent.ask(request(token, "till__note", {}, raw=honest))
    assert [one["to"] for one in recorded(folder)] in ([], ["me"])


# ---- what is answered -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tool", "arguments", "code"),
    [
        ("deep", {"depth": 40}, ""),
        ("deep", {"depth": 5_000}, "unknown_outcome"),
        ("deep", {"depth": 200_000}, "unknown_outcome"),
        ("big", {"bytes": 11 << 20}, "unknown_outcome"),
        ("huge", {}, ""),
    ],
    ids=["deep", "too deep", "far too deep", "too big", "integers beyond 2^53"],
)
async def test_a_result_that_cannot_be_taken_is_a_code_and_one_that_can_arrives_whole(
    tmp_path: Path, tool: str, arguments: dict[str, Any], code: str
) -> None:
    async with scene(tmp_path / "state", till(tmp_path / "till")) as gateway:
        agent = Agent(gateway.url, (await grant(gateway, *GRANT)).token)
        said = await agent.call(f"till__{tool}", **arguments)
        assert said.code == code
        if tool == "huge":
            assert said.result == {"exact": 2**53 + 1, "long": 123456789012345678901234567890}
        assert not (await agent.call("till__note", to="me", text="served")).code
