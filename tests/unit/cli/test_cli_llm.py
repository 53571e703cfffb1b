"""`pratique llm` against a scripted gateway: what is asked, what is drawn, and that names from agents draw nothing."""

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from rich.cells import cell_len
from rich.console import Console
from support.scripted_model import FREE, GENERATION, HOSTILE, MODEL, block, cached, seen, sequence, tenant

from gateway.cli.approvals import card_lines
from gateway.cli.llm_top import MOST_ROWS, MOST_SIGNS, PALETTE, screen
from gateway.edges.documents import MODEL_WORDS
from gateway.edges.kvmap import COLOURS
from gateway.stores.database import open_database

Pratique: TypeAlias = Callable[..., tuple[int, str, str]]

USED = {
    "tenant": "agt_1",
    "task": "task_1",
    "agent": "ann",
    "requests": 2,
    "prefill_tokens": 100,
    "decode_tokens": 20,
    "cached_tokens": 64,
    "block_seconds": 3.25,
    "waited_s": 1.5,
    "waited": {"no free block": 2},
    "preempted": {"a decode needed its blocks": 1},
    "refused": {},
}

CARDED: dict[str, Any] = {
    "id": "apr_1",
    "state": "pending",
    "call_digest": "d1",
    "version": 1,
    "created": "2027-01-15T08:00:00.000Z",
    "expires": "2027-01-15T08:15:00.000Z",
    "by": "",
    "card": {
        "headline": "shopper wants to change something with till.note",
        "effect": "write",
        "task": "task_1",
        "task_text": "note it",
        "arguments": [],
        "asks": [],
        "rules": [],
        "spends": None,
        "budgets": {},
        "mark": {"integrity": "TRUSTED", "classes": []},
    },
}


def drawn(document: Any, *, width: int = 120, colour: bool = False) -> str:
    out = io.StringIO()
    console = Console(
        file=out,
        width=width,
        force_terminal=colour,
        color_system="256" if colour else None,
        legacy_windows=False,
        _environ={},
    )
    console.print(screen(document, width))
    return out.getvalue()


def test_top_prints_figures_map_sequences_and_tenants_once(pratique: Pratique, gateway: Any) -> None:
    gateway.answer("GET", "/llm", seen())

    code, out, _ = pratique("llm", "top", "--once", "--state", str(gateway.state))

    lines = [line.rstrip() for line in out.splitlines()]
    assert code == 0
    assert lines[0] == "smollm2  vtc, in a thread, window 8192 tokens"
    assert "■▣■■■□··" in lines
    assert "8 blocks: 5 in use, 1 of them shared, 1 cached, 2 free" in lines
    rows = [line.split() for line in lines]
    assert ["act_bob", "bob", "prefill", "40", "16", "3", "2", "0.2", "s", "1"] in rows
    assert ["act_cy", "cy", "waiting", "40", "16", "3", "0", "0.2", "s", "0"] in rows
    assert ["ann", "400", "1000", "50", "12.5", "2", "0", "1"] in rows
    assert lines[1:3] == [
        "21.5 tokens/s  1234 steps  7 preemptions  2 refused",
        "prefix cache 75% found  swapped out 4 of 32 blocks",
    ]


def test_top_as_json_is_what_the_gateway_said(pratique: Pratique, gateway: Any) -> None:
    gateway.answer("GET", "/llm", seen())

    code, out, _ = pratique("llm", "top", "--once", "--json", "--state", str(gateway.state))

    assert (code, json.loads(out)) == (0, seen())


def test_a_gateway_without_a_model_says_so(pratique: Pratique, gateway: Any) -> None:
    gateway.answer("GET", "/llm", {"detail": "no model is configured"}, status=404)

    assert pratique("llm", "top", "--state", str(gateway.state))[::2] == (1, "pratique: no model is configured\n")


def test_each_tenant_has_its_own_colour_on_the_map_and_beside_its_name() -> None:
    assert len(set(PALETTE)) == COLOURS
    coloured = drawn(seen(), colour=True)
    by_name = {name: re.search(rf"\x1b\[([\d;]+)m{name} *\x1b", coloured) for name in ("ann", "bob", "cy")}
    marks = {name: found[1] for name, found in by_name.items() if found}
    assert len(set(marks.values())) == 3
    for name, mark in marks.items():
        signs = re.findall(rf"\x1b\[(?:2;)?{mark}m([■▣□]+)", coloured)
        assert sum(map(len, signs)) == {"ann": 2, "bob": 2, "cy": 2}[name]


def test_a_map_too_large_for_a_terminal_merges_neighbours_and_says_so() -> None:
    large = seen(blocks=(block("a"),) * (3 * MOST_SIGNS) + (FREE,) * 4)

    out = drawn(large)

    assert out.count("■") + out.count("·") <= MOST_SIGNS + 2
    assert "each sign stands for 4" in out


def test_five_hundred_waiting_requests_are_counted_not_listed() -> None:
    out = drawn(seen(sequences=tuple(sequence("a", "waiting", request=f"act_{n}") for n in range(500))))

    assert out.count("act_") == MOST_ROWS
    assert f"and {500 - MOST_ROWS} more" in out


def test_without_a_gateway_usage_is_read_from_its_store(pratique: Pratique, tmp_path: Path) -> None:
    state = tmp_path / "state"
    open_database(state).close()

    assert pratique("llm", "usage", "--state", str(state))[:2] == (0, "nothing was used\n")
    assert pratique("llm", "usage", "--state", str(tmp_path / "none"))[0] == 3


@pytest.mark.promise("console.model-words-inert")
def test_a_models_words_on_a_card_are_marked_on_every_line_and_come_after_all_facts() -> None:
    words = "\x1b[2JSafe.\napproved by alice" + " " * 300 + "approved by bob " + "\u4e2d" * 400

    lines = list(card_lines(CARDED | {"model_summary": words}))

    mark = lines.index(f"\n{MODEL_WORDS}")
    assert "digest d1" in lines[mark - 1]
    assert all(line.startswith("  | ") and cell_len(line) <= 76 for line in lines[mark + 1 :])
    assert "approved by alice" in lines[mark + 1]
    assert not any(sign in line for line in lines for sign in ("\x1b", "\u202e"))
    assert not any("model's words" in line for line in card_lines(CARDED | {"model_summary": None}))


@pytest.mark.promise("terminal-inert")
def test_a_tenants_name_cannot_write_to_the_terminal_or_be_markup() -> None:
    hostile = f"{HOSTILE}[bold red]x[/bold red]\nroot"
    document = seen(
        blocks=(block(hostile), cached(hostile)),
        sequences=(sequence(hostile, "decode", request=hostile),),
        tenants=(tenant(hostile, 1.0),),
    )

    out = drawn(document, width=400)

    assert "\x1b" not in out
    assert "\u202e" not in out
    assert "[bold red]x[/bold red]\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}root" in out


def test_models_and_generations_are_listed(pratique: Pratique, gateway: Any) -> None:
    gateway.answer("GET", "/llm/models", {"models": [MODEL]})
    gateway.answer("GET", "/llm/generations", {"generations": [GENERATION | {"created": "2027-01-15T08:00:00.250Z"}]})
    state = ("--state", str(gateway.state))

    assert pratique("llm", "models", *state)[1].splitlines()[1].startswith("smollm2  ready")
    assert json.loads(pratique("llm", "models", "--json", *state)[1]) == {"models": [MODEL]}
    assert pratique("llm", "list", *state)[1].split()[-6:] == [
        *("act_kept", "suspended", "17", "task_1", "ann", "2027-01-15T08:00:00.250Z")
    ]


def test_suspending_and_forgetting_say_which_one(pratique: Pratique, gateway: Any) -> None:
    for what in ("suspend", "forget"):
        gateway.answer("POST", f"/llm/generations/act_1%2F../{what}", {"id": "act_1/.."})
        assert pratique("llm", what, "act_1/..", "--state", str(gateway.state))[0] == 0
    assert [asked[1] for asked in gateway.asked] == [
        "/llm/generations/act_1%2F../suspend",
        "/llm/generations/act_1%2F../forget",
    ]


def test_usage_is_a_table_with_its_sum_and_the_reasons(pratique: Pratique, gateway: Any) -> None:
    other = USED | {"tenant": "agt_2", "task": "", "agent": "", "waited": {}, "preempted": {}}
    total = {key: value for key, value in USED.items() if key not in ("tenant", "task", "agent")} | {"requests": 4}
    answer = {"usage": [USED, other], "total": total, "erased": 1}
    gateway.answer("GET", "/llm/usage", answer)
    gateway.answer("GET", "/llm/usage?task=task_1&agent=ann", answer)
    state = ("--state", str(gateway.state))

    _, out, _ = pratique("llm", "usage", *state)
    code, text, _ = pratique("llm", "usage", "--task", "task_1", "--agent", "ann", "--json", *state)

    said = " ".join(out.split())
    assert "agt_1 task_1 ann 2 100 64 20 3.2 1.5 waited:" in said
    assert "(all) - - 4 100 64 20" in said
    assert "1 batches were erased from the log" in said
    assert (code, json.loads(text)) == (0, answer)


def test_one_requests_decisions_are_told_in_order(pratique: Pratique, gateway: Any) -> None:
    decision = {"request": "act_1", "tenant": "agt_1", "block_seconds": 0.0}
    none = {"prefill_tokens": 0, "decode_tokens": 0, "cached_tokens": 0}
    decisions = [
        {**decision, **none, "time": 1_800_000_000.0, "kind": "waited", "reason": "no free\x1b block"},
        {**decision, "time": 1_800_000_001.0, "kind": "finished", "reason": ""}
        | {"prefill_tokens": 100, "decode_tokens": 20, "cached_tokens": 0},
    ]
    answer = {"usage": [USED], "total": USED, "erased": 0, "decisions": decisions}
    gateway.answer("GET", "/llm/usage?request=act_1", answer)

    _, out, _ = pratique("llm", "usage", "--request", "act_1", "--state", str(gateway.state))

    assert out.splitlines()[-2:] == [
        "2027-01-15T08:00:00.000Z  waited  no free\N{REPLACEMENT CHARACTER} block",
        "2027-01-15T08:00:01.000Z  finished  (100 prompt, 20 output tokens)",
    ]
