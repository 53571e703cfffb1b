"""Suspended at any step and gone on with elsewhere, a request says what it would have said."""

import itertools
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.llm_fakes import SHAPE, FakeRunner, request
from support.llm_services import Heard, restored, service, told

from llmcore.errors import SnapshotError
from llmcore.messages import Checkpoint, NotTaken, Restore, Submit, Suspend
from llmcore.request import Finish, RefusalCode, Request, Sampling
from llmcore.service import Service
from llmcore.snapshot import Snapshot, decode_snapshot, encode_snapshot

GREEDY = Sampling(temperature=0.0, logprobs=2, ignore_eos=True)
SEEDED = Sampling(seed=11, logprobs=0)
ASKED = {
    "greedy": request(11, id="a", max_tokens=9, sampling=GREEDY),
    "seeded": request(11, id="a", max_tokens=9, sampling=SEEDED),
    "three samples": request(11, id="a", max_tokens=7, n=3, sampling=SEEDED),
    "beams": request(11, id="a", max_tokens=7, beam_width=4, n=2, sampling=GREEDY),
}
ASKED["stop strings"] = msgspec.structs.replace(
    ASKED["three samples"],
    stop=(
        told(service(), ASKED["three samples"]).done["a"].choices[0].text[-2:],
        told(service(), ASKED["three samples"]).done["a"].choices[2].text[3:5],
    ),
)
"""One that ends early, one near the end, one at its length."""
OTHER = request(list(range(40, 60)), id="other", max_tokens=40, sampling=GREEDY)
"""Runs beside it, so that its blocks are not the first ones."""


@pytest.fixture(autouse=True)
def nothing_went_wrong_unseen(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """The engine survives a runner that raises, so what the fake one asserts is only logged."""
    yield
    assert [record.getMessage() for record in caplog.records] == []


def crowded() -> Service:
    serving = service(max_step_tokens=9)
    serving.receive(Submit(OTHER))
    serving.step()
    return serving


def suspended(wanted: Request, steps: int) -> tuple[Heard, bytes | None]:
    """After so many steps; None: it had ended by then."""
    serving, heard = crowded(), Heard()
    heard.hear(serving.receive(Submit(wanted)))
    for _ in range(steps):
        heard.hear(serving.step())
    heard.hear(serving.receive(Suspend(wanted.id)))
    while wanted.id not in heard.done:
        heard.hear(serving.step())
    return heard, heard.suspended.get(wanted.id)


@pytest.mark.promise("llm.resume-identical")
@pytest.mark.parametrize("has_kv", [True, False])
@pytest.mark.parametrize("kind", ASKED)
def test_a_request_suspended_at_any_step_goes_on_token_for_token(kind: str, has_kv: bool) -> None:
    wanted = ASKED[kind]
    whole = told(service(), wanted).result("a")

    for steps in itertools.count():
        heard, body = suspended(wanted, steps)
        if body is None:
            break
        snapshot = decode_snapshot(body)
        assert snapshot.kv or steps < 3, "it runs by then"
        if not has_kv:
            body = encode_snapshot(_without_kv(snapshot))
        again = msgspec.structs.replace(wanted, id="b", tenant="t", owner="ann", label="worse")
        assert restored(crowded(), "b", body, again).result("b") == whole, f"after {steps} steps"

    assert steps > 5
    assert heard.result("a") == whole


@pytest.mark.promise("llm.resume-identical")
@given(st.sampled_from(sorted(ASKED)), st.lists(st.integers(0, 4), max_size=5))
@settings(max_examples=40, deadline=None)
def test_it_may_be_suspended_again_and_again(kind: str, pauses: list[int]) -> None:
    wanted = ASKED[kind]
    whole = told(service(), wanted).result("a")
    serving, heard = service(), Heard()
    heard.hear(serving.receive(Submit(wanted)))

    for pause in pauses:
        for _ in range(pause):
            heard.hear(serving.step())
        heard.hear(serving.receive(Suspend("a")))
        if "a" not in heard.suspended:
            break
        serving, heard, body = service(), Heard(), heard.suspended["a"]
        heard.hear(serving.receive(Restore("a", body, wanted)))
    while "a" not in heard.done:
        heard.hear(serving.step())

    assert heard.result("a") == whole


@pytest.mark.promise("llm.resume-identical")
@pytest.mark.parametrize("kind", ASKED)
def test_every_checkpoint_goes_on_token_for_token(kind: str) -> None:
    wanted = ASKED[kind]
    heard = told(service(checkpoint_tokens=1), wanted)

    assert len(heard.checkpoints["a"]) > 4
    for body in heard.checkpoints["a"]:
        assert decode_snapshot(body).kv is None
        assert restored(service(), "a", body, wanted).result("a") == heard.result("a")


def test_what_had_been_said_is_told_again_from_the_beginning() -> None:
    wanted = ASKED["greedy"]
    heard, body = suspended(wanted, 8)
    assert body is not None
    before = heard.texts["a", 0]

    serving, again = service(), Heard()
    again.hear(serving.receive(Restore("a", body, wanted)))
    again.hear(serving.step())

    assert before
    assert again.texts["a", 0].startswith(before)
    assert heard.done["a"].choices[0].finish is Finish.SUSPENDED


def test_what_had_been_said_is_on_the_bill_once_more_and_not_computed_twice_where_kv_was_kept() -> None:
    wanted = ASKED["greedy"]
    _, body = suspended(wanted, 8)
    assert body is not None
    said = decode_snapshot(body).output_tokens
    runner = FakeRunner(num_blocks=64)

    heard = restored(service(runner), "a", body, wanted)

    assert 0 < said < wanted.max_tokens
    assert heard.done["a"].usage.completion_tokens == wanted.max_tokens
    assert runner.tokens_run == wanted.max_tokens - said


def test_large_keys_and_values_are_computed_again() -> None:
    serving, heard = service(snapshot_kv_bytes=10), Heard()
    heard.hear(serving.receive(Submit(ASKED["greedy"])))
    for _ in range(3):
        heard.hear(serving.step())
    heard.hear(serving.receive(Suspend("a")))

    assert decode_snapshot(heard.suspended["a"]).kv is None


def test_keys_and_values_of_other_blocks_are_left_behind() -> None:
    wanted = ASKED["greedy"]
    whole = told(service(), wanted).result("a")
    _, body = suspended(wanted, 5)
    assert body is not None
    runner = FakeRunner(num_blocks=64, block_size=8)

    assert restored(service(runner), "a", body, wanted).result("a") == whole
    assert runner.tokens_run > wanted.max_tokens


# ---- what is refused ------------------------------------------------------------------------------------------------


def refusal(body: bytes, wanted: Request) -> NotTaken:
    (answer,) = service().receive(Restore(wanted.id, body, wanted))
    assert isinstance(answer, NotTaken)
    assert answer.refused.code is RefusalCode.INVALID
    return answer


def test_another_models_snapshot_is_refused() -> None:
    _, body = suspended(ASKED["greedy"], 4)
    assert body is not None
    other = msgspec.structs.replace(decode_snapshot(body), model="other-weights")

    assert "another model" in refusal(encode_snapshot(other), ASKED["greedy"]).refused.reason


@pytest.mark.parametrize(
    "changed",
    [
        {"prompt": (3, 4)},
        {"max_tokens": 500},
        {"n": 2},
        {"sampling": SEEDED},
        {"stop": ("x",)},
    ],
)
def test_a_snapshot_goes_on_only_as_it_was_asked_for(changed: dict[str, object]) -> None:
    wanted = ASKED["greedy"]
    _, body = suspended(wanted, 4)
    assert body is not None

    assert "as it was asked for" in refusal(body, msgspec.structs.replace(wanted, **changed)).refused.reason


@given(st.binary(max_size=100))
def test_bytes_that_are_no_snapshot_are_refused(body: bytes) -> None:
    with pytest.raises(SnapshotError, match="no snapshot"):
        decode_snapshot(body)
    assert "no snapshot" in refusal(body, ASKED["greedy"]).refused.reason


def test_another_versions_snapshot_is_refused() -> None:
    body = msgspec.msgpack.encode({"version": 2, "what": "nobody knows yet"})

    with pytest.raises(SnapshotError, match="version 2, and this program reads version 1"):
        decode_snapshot(body)


def test_a_snapshot_says_whose_it_is_and_under_which_label() -> None:
    wanted = request(id="a", owner="ann", label="secret", max_tokens=3)
    (checkpoint,) = service(checkpoint_tokens=1).receive(Submit(wanted))

    assert isinstance(checkpoint, Checkpoint)
    snapshot = decode_snapshot(checkpoint.snapshot)
    assert (snapshot.request, snapshot.model) == (wanted, SHAPE.digest)


def _without_kv(snapshot: Snapshot) -> Snapshot:
    return msgspec.structs.replace(snapshot, saved=msgspec.structs.replace(snapshot.saved, kv=None))
