"""Suspended at any step and gone on with in another runner, a real model says what it would have said."""

import itertools
from collections.abc import Iterator
from dataclasses import replace

import msgspec
import pytest
from support import models  # noqa: F401  (one thread for torch)
from support.llm_services import LETTERS, Heard, told
from support.words import byte_level

from llmcore.engine import Engine, EngineConfig
from llmcore.messages import Restore, Submit, Suspend
from llmcore.ordering import Fifo
from llmcore.request import Grammar, GrammarKind, Request, Sampling
from llmcore.runner.grammar import Grammars
from llmcore.runner.model_runner import ModelRunner
from llmcore.runner.models.shapes import TINY
from llmcore.service import Service
from llmcore.snapshot import decode_snapshot, encode_snapshot

SEEDED = Sampling(seed=5, temperature=0.9, top_p=0.95, presence_penalty=0.5, frequency_penalty=0.2, logprobs=2)
GREEDY = Sampling(temperature=0.0, logprobs=0)


def asked(sampling: Sampling, **more: int) -> Request:
    return Request(id="a", tenant="t", domain="d", prompt=tuple(range(20, 49)), max_tokens=7, sampling=sampling, **more)


ASKED = {
    "greedy": asked(GREEDY),
    "seeded": asked(SEEDED),
    "three samples": asked(SEEDED, n=3),
    "beams": asked(GREEDY, beam_width=3, n=2),
    "grammar": msgspec.structs.replace(
        asked(SEEDED, n=2), grammar=Grammar(kind=GrammarKind.REGEX, text="([a-z][0-9])+!")
    ),
}
OTHER = Request(id="other", tenant="u", domain="e", prompt=tuple(range(90, 110)), max_tokens=60, sampling=GREEDY)


SHAPE = replace(TINY, vocabulary=264, eos=frozenset({257}))
"""A token for each byte, and the end of text."""


@pytest.fixture(scope="module")
def grammars(tmp_path_factory: pytest.TempPathFactory) -> Grammars:
    return Grammars(byte_level(tmp_path_factory.mktemp("words")), SHAPE.vocabulary)


@pytest.fixture(autouse=True)
def nothing_went_wrong_unseen(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


def fresh(grammars: Grammars, *, beside: Request | None = None) -> Service:
    """A service with weights and a cache of its own; `beside`: a request that runs already."""
    runner = ModelRunner.random(SHAPE, num_blocks=40, block_size=8, dtype="float64")
    config = EngineConfig(num_blocks=40, block_size=8, max_running=8, max_step_tokens=12)
    ticks = itertools.count()
    engine = Engine(runner, config=config, ordering=Fifo(), clock=lambda: float(next(ticks)), matcher=grammars.matcher)
    service = Service(engine, LETTERS, checkpoint_tokens=0)
    if beside is not None:
        service.receive(Submit(beside))
        service.step()
    return service


@pytest.mark.promise("llm.resume-identical")
@pytest.mark.parametrize("has_kv", [True, False])
@pytest.mark.parametrize("kind", ASKED)
def test_a_request_suspended_at_any_step_goes_on_token_for_token(grammars: Grammars, kind: str, has_kv: bool) -> None:
    wanted = ASKED[kind]
    whole = told(fresh(grammars), wanted)

    for steps in itertools.count():
        here, heard = fresh(grammars, beside=OTHER), Heard()
        here.receive(Submit(wanted))
        for _ in range(steps):
            heard.hear(here.step())
        heard.hear(here.receive(Suspend("a")))
        if "a" not in heard.suspended:
            break
        snapshot = decode_snapshot(heard.suspended["a"])
        assert snapshot.kv or steps < 3, "it runs by then"
        if not has_kv:
            snapshot = msgspec.structs.replace(snapshot, saved=msgspec.structs.replace(snapshot.saved, kv=None))

        there, again = fresh(grammars, beside=OTHER), Heard()
        labelled = msgspec.structs.replace(wanted, domain="elsewhere", label="worse")
        again.hear(there.receive(Restore("a", encode_snapshot(snapshot), labelled)))
        while "a" not in again.done:
            again.hear(there.step())
        assert texts(again) == texts(whole), f"after {steps} steps"

    assert steps > 7


def texts(heard: Heard) -> list[tuple[int, str, str, list[int]]]:
    """Log-probabilities differ in their last bits where keys and values were computed in other company."""
    return [
        (index, text, finish, [token.token for token in tokens]) for index, text, finish, tokens in heard.result("a")
    ]
