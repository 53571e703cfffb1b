"""An engine by messages: what is asked, what is answered, and that it adds up. No threads, no model."""

from queue import SimpleQueue

import pytest
from support.llm_fakes import EOS, FakeRunner, request
from support.llm_services import LETTERS, Breaking, Heard, run_out, service, told

from llmcore.messages import (
    Broken,
    Cancel,
    Checkpoint,
    Decided,
    Delta,
    Done,
    FromEngine,
    Look,
    NotTaken,
    Seen,
    Stop,
    Submit,
    Suspend,
    ToEngine,
)
from llmcore.request import Finish, RefusalCode, Sampling
from llmcore.service import Service, serve

GREEDY = Sampling(temperature=0.0, ignore_eos=True, logprobs=0)
SEEDED = Sampling(seed=7, ignore_eos=True, logprobs=0)


def text_of(serving: Service, **wanted: object) -> str:
    return told(serving, request(id="whole", **wanted)).done["whole"].choices[0].text  # type: ignore[arg-type]


def test_a_request_is_told_in_deltas_and_done_once() -> None:
    heard = told(service(), request(10, id="a", max_tokens=6, sampling=GREEDY))

    (choice,) = heard.done["a"].choices
    assert (choice.index, choice.finish, len(choice.tokens)) == (0, Finish.LENGTH, 6)
    assert choice.text == b"".join(LETTERS.bytes_of(token.token) for token in choice.tokens).decode(errors="replace")
    assert {token.logprob for token in choice.tokens} == {-1.0}


def test_tokens_are_told_only_where_they_are_wanted() -> None:
    heard = told(service(), request(id="a", sampling=Sampling(temperature=0.0, ignore_eos=True)))

    assert heard.done["a"].choices[0].tokens == ()
    assert heard.done["a"].choices[0].text


def test_text_ends_before_the_first_stop_string() -> None:
    whole = text_of(service(), max_tokens=12, sampling=SEEDED)
    stop = whole[4:7]
    cut = whole.index(stop)

    heard = told(service(), request(id="a", max_tokens=12, sampling=SEEDED, stop=("never", stop)))

    (choice,) = heard.done["a"].choices
    assert (choice.text, choice.finish) == (whole[:cut], Finish.STOP)
    assert "".join(token.text for token in choice.tokens)[:cut] == whole[:cut]
    assert len(choice.tokens) <= cut + 1
    assert heard.done["a"].usage.completion_tokens < 12


def test_a_stop_string_ends_one_sample_and_not_the_others() -> None:
    plain = told(service(), request(id="a", n=3, max_tokens=12, sampling=SEEDED)).done["a"].choices
    stop = plain[1].text[3:6]

    stopped = told(service(), request(id="a", n=3, max_tokens=12, sampling=SEEDED, stop=(stop,))).done["a"].choices

    for before, after in zip(plain, stopped, strict=True):
        assert after.text == before.text.split(stop)[0]
    assert stopped[1].finish is Finish.STOP
    assert [choice.index for choice in stopped] == [0, 1, 2]


def test_the_end_of_text_is_no_token_for_the_reader_and_one_on_the_bill() -> None:
    runs = (
        told(service(), request(id="a", max_tokens=200, sampling=Sampling(seed=seed, logprobs=0))).done["a"]
        for seed in range(50)
    )
    done = next(done for done in runs if done.choices[0].finish is Finish.STOP)

    assert EOS not in {token.token for token in done.choices[0].tokens}
    assert done.usage.completion_tokens == len(done.choices[0].tokens) + 1


def test_a_beam_search_is_told_at_its_end() -> None:
    messages = _messages(service(), request(id="a", max_tokens=6, beam_width=4, n=2, sampling=GREEDY))

    assert [type(message) for message in messages] == [Delta, Delta, Done]
    done = messages[-1]
    assert isinstance(done, Done)
    assert [choice.index for choice in done.choices] == [0, 1]
    assert done.choices[0].text != done.choices[1].text


def test_a_cancelled_request_is_done_and_its_blocks_are_free() -> None:
    serving = service()
    heard = _begun(serving, request(id="a", max_tokens=50, sampling=GREEDY), steps=4)

    assert serving.receive(Cancel("a")) == []
    seen = _look(serving)
    run_out(serving, heard)

    assert all(block.references == 0 for block in seen.blocks)
    assert heard.done["a"].choices[0].finish is Finish.CANCELLED
    assert heard.done["a"].choices[0].text


def test_a_message_for_nobody_changes_nothing() -> None:
    serving = service()

    assert serving.receive(Cancel("nobody")) == []
    assert serving.receive(Suspend("nobody")) == []
    assert not serving.has_work


def test_a_request_that_does_not_fit_is_refused_with_its_reason() -> None:
    (answer,) = service().receive(Submit(request(10, id="a", max_tokens=100_000)))

    assert isinstance(answer, NotTaken)
    assert answer.refused.code is RefusalCode.PROMPT_TOO_LONG


def test_a_second_request_of_the_same_id_leaves_the_first_alone() -> None:
    serving = service()
    first = request(id="a", max_tokens=5, sampling=GREEDY)
    heard = _begun(serving, first, steps=2)

    (answer,) = serving.receive(Submit(request(20, id="a")))
    run_out(serving, heard)

    assert isinstance(answer, NotTaken)
    assert heard.result("a") == told(service(), first).result("a")


def test_an_id_is_free_once_its_end_was_told() -> None:
    serving = service()
    heard = _begun(serving, request(id="a", max_tokens=40), steps=3)
    serving.receive(Cancel("a"))

    (answer,) = serving.receive(Submit(request(id="a")))
    run_out(serving, heard)

    assert isinstance(answer, NotTaken)
    assert "id of another request" in answer.refused.reason
    assert heard.done["a"].choices[0].finish is Finish.CANCELLED
    assert told(serving, request(id="a", max_tokens=2)).done["a"].choices[0].finish is Finish.LENGTH


def test_a_sample_whose_logits_are_no_numbers_fails_alone() -> None:
    poisoned = told(service(), request(id="a", max_tokens=3, sampling=GREEDY)).done["a"].choices[0].tokens[1].token

    heard = told(
        service(FakeRunner(num_blocks=64, poison={poisoned})),
        request(id="a", max_tokens=9, sampling=GREEDY),
        request(list(range(3, 30)), id="b", max_tokens=2, sampling=GREEDY),
    )

    (choice,) = heard.done["a"].choices
    assert (choice.finish, choice.detail) == (Finish.FAILED, "its logits are no numbers")
    assert heard.done["b"].choices[0].finish is Finish.LENGTH


def test_what_the_decisions_say_sums_up_to_the_usage() -> None:
    serving = service(FakeRunner(num_blocks=24), max_running=6)
    wanted = [request(20 + n, id=f"r{n}", max_tokens=20, n=1 + n % 3, sampling=SEEDED) for n in range(8)]
    heard = told(serving, *wanted)
    (decided,) = serving.decided()

    assert isinstance(decided, Decided)
    for each in wanted:
        mine = [decision for decision in decided.decisions if decision.request == each.id]
        usage = heard.done[each.id].usage
        assert usage.prompt_tokens == len(each.prompt)
        assert usage.completion_tokens == sum(one.decode_tokens for one in mine) == 20 * each.n
        assert usage.cached_tokens == sum(one.cached_tokens for one in mine)
        assert usage.block_seconds == pytest.approx(sum(one.block_seconds for one in mine))
        assert usage.preemptions == sum(one.kind == "preempted" for one in mine)
    assert any(done.usage.preemptions for done in heard.done.values())
    assert any(done.usage.waited_s for done in heard.done.values())
    assert serving.decided() == []


def test_a_checkpoint_is_taken_at_the_beginning_and_every_so_many_tokens() -> None:
    heard = told(service(checkpoint_tokens=4), request(id="a", max_tokens=13, sampling=GREEDY))

    assert len(heard.checkpoints["a"]) == 1 + 3


def test_no_checkpoints_where_none_are_wanted() -> None:
    assert not told(service(checkpoint_tokens=0), request(id="a", max_tokens=13)).checkpoints


def test_stop_suspends_all_that_runs() -> None:
    serving = service()
    wanted = [request(10 + n, id=f"r{n}", max_tokens=40, sampling=GREEDY) for n in range(12)]
    heard = Heard()
    for each in wanted:
        heard.hear(serving.receive(Submit(each)))
    heard.hear(serving.step())

    heard.hear(serving.receive(Stop()))

    assert heard.done.keys() == heard.suspended.keys() == {each.id for each in wanted}
    assert {choice.finish for done in heard.done.values() for choice in done.choices} == {Finish.SUSPENDED}
    assert not serving.has_work


# ---- the loop -------------------------------------------------------------------------------------------------------


def test_the_loop_answers_what_was_in_the_inbox_and_ends_with_stop() -> None:
    emitted, went_well = _served(service(checkpoint_tokens=8), Submit(request(id="a", max_tokens=3)), Look(5))

    assert went_well
    assert [type(message) for message in emitted if not isinstance(message, Delta)] == [
        *(Checkpoint, Seen),
        *(Done, Decided),
    ]


def test_decisions_are_told_once_a_second_and_when_there_is_no_work() -> None:
    now = iter(0.3 * n for n in range(1000))
    emitted, _ = _served(service(), Submit(request(id="a", max_tokens=20)), clock=lambda: next(now))

    told = [message for message in emitted if isinstance(message, Decided)]
    assert [[decision.kind for decision in batch.decisions] for batch in told] == [
        ["admitted", "started"],
        ["finished"],
    ]


def test_an_engine_whose_books_are_wrong_says_that_it_is_broken_and_ends(caplog: pytest.LogCaptureFixture) -> None:
    healthy = service()
    breaking = Breaking(healthy._engine, LETTERS)

    emitted, went_well = _served(breaking, Submit(request(id="a")))

    assert not went_well
    assert emitted[-1] == Broken("the engine broke: RuntimeError")
    assert "the engine broke" in caplog.text


def _served(serving: Service, *messages: ToEngine, clock: object = None) -> tuple[list[FromEngine], bool]:
    """What the loop emits for these, with a `Stop` as soon as the work is done."""
    inbox: SimpleQueue[ToEngine] = SimpleQueue()
    for message in messages:
        inbox.put(message)
    emitted: list[FromEngine] = []

    def emit(said: object) -> None:
        assert isinstance(said, list)
        emitted.extend(said)
        if any(isinstance(message, Done) for message in said):
            inbox.put(Stop())

    return emitted, serve(serving, inbox, emit, **({"clock": clock} if clock else {}))  # type: ignore[arg-type]


def _messages(serving: Service, wanted: object) -> list[FromEngine]:
    said = serving.receive(Submit(wanted))  # type: ignore[arg-type]
    while serving.has_work:
        said += serving.step()
    return said


def _begun(serving: Service, wanted: object, *, steps: int) -> Heard:
    heard = Heard()
    heard.hear(serving.receive(Submit(wanted)))  # type: ignore[arg-type]
    for _ in range(steps):
        heard.hear(serving.step())
    return heard


def _look(serving: Service) -> Seen:
    (seen,) = serving.receive(Look(1))
    assert isinstance(seen, Seen)
    return seen
