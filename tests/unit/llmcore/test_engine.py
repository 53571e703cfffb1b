"""The life of a request: taken or refused, one step after another, ended; on a runner that believes nobody."""

import re

import pytest
from support.llm_fakes import EOS, SHAPE, FakeRunner, Listener, engine, request, run_out

from llmcore.errors import GrammarError
from llmcore.events import Ended
from llmcore.request import Finish, Grammar, GrammarKind, RefusalCode, Request, Sampling

CHOICE = Grammar(kind=GrammarKind.CHOICE, text='["yes"]')


class CountingMatcher:
    """Knows how many tokens it has accepted."""

    def __init__(self, grammar: Grammar) -> None:
        if not grammar.text:
            raise GrammarError("a choice needs strings to choose from")
        self.accepted = 0

    def accept(self, token: int) -> None:
        self.accepted += 1


def test_a_request_says_as_many_tokens_as_it_may() -> None:
    running = engine(FakeRunner(16))
    assert running.submit(request(10, id="one", max_tokens=5)) is None

    said = run_out(running).said["one"]

    assert len(said.tokens[0]) == 5
    assert said.finish == {0: Finish.LENGTH}


def test_the_end_of_text_ends_it_and_is_not_said() -> None:
    running = engine(FakeRunner(40))
    for seed in range(40):
        sampling = Sampling(temperature=1.0, seed=seed)
        running.submit(request(6, id=f"q{seed}", max_tokens=10, sampling=sampling))

    said = run_out(running).said

    stopped = [each for each in said.values() if each.finish == {0: Finish.STOP}]
    assert stopped
    assert all(EOS not in each.tokens[0] and len(each.tokens[0]) < 10 for each in stopped)


def test_a_step_decodes_first_and_prefills_with_what_the_budget_leaves() -> None:
    runner = FakeRunner(64)
    running = engine(runner, max_step_tokens=16)
    running.submit(request([50, 51, 52, 53], id="short", max_tokens=9))
    running.step()
    running.submit(request(40, id="long", max_tokens=2))
    for _ in range(3):
        running.step()

    counts = [[(chunk.sequence.request.id, chunk.count) for chunk in plan.chunks] for plan in runner.plans[1:]]
    assert counts == [[("short", 1), ("long", 15)], [("short", 1), ("long", 15)], [("short", 1), ("long", 10)]]


def test_a_short_prompt_waits_neither_behind_a_long_one_nor_with_it() -> None:
    runner = FakeRunner(128)
    running = engine(runner, max_step_tokens=16)
    running.submit(request(400, id="long", max_tokens=2))
    running.step()
    running.submit(request([50, 51, 52, 53], id="short", max_tokens=1))

    running.step()

    running.step()

    steps = [[(chunk.sequence.request.id, chunk.count) for chunk in plan.chunks] for plan in runner.plans]
    assert steps == [[("long", 16)], [("short", 4)], [("long", 16)]]


def test_a_long_prompt_gets_on_however_many_short_ones_come() -> None:
    runner = FakeRunner(128)
    running = engine(runner, max_step_tokens=8)
    running.submit(request(80, id="long", max_tokens=1))
    listener = Listener()
    for n in range(200):
        running.submit(request([9, n % 90, n // 90, 4, 5, 6, 7, 8], id=f"short{n}", max_tokens=1))
        listener.hear(running.step())

    assert "long" in listener.said


def test_without_chunking_a_prompt_is_computed_whole_even_beyond_the_budget() -> None:
    runner = FakeRunner(64)
    running = engine(runner, max_step_tokens=8, chunked=False)
    running.submit(request([50, 51, 52, 53], max_tokens=3))
    running.submit(request(30, max_tokens=2))

    run_out(running)

    assert max(plan.num_tokens for plan in runner.plans) == 31
    assert all(chunk.count in (1, 30, 4) for plan in runner.plans for chunk in plan.chunks)


def test_a_cancelled_request_frees_its_blocks_at_once() -> None:
    running = engine(FakeRunner(16))
    running.submit(request(20, id="gone", max_tokens=20, n=2))
    for _ in range(4):
        running.step()
    assert any(block.references for block in running.look(0).blocks)

    assert running.cancel("gone")

    assert not any(block.references for block in running.look(0).blocks)
    events = running.step()
    assert [(event.sequence.index, event.finish) for event in events if isinstance(event, Ended)] == [
        (0, Finish.CANCELLED),
        (1, Finish.CANCELLED),
    ]
    assert not running.has_work


def test_a_sample_can_be_ended_for_what_its_text_says() -> None:
    running = engine(FakeRunner(32))
    running.submit(request(6, id="two", max_tokens=20, n=2))
    listener = Listener()
    first = next(event.sequence for event in running.step() if event.sequence.index == 0)

    running.finish(first, Finish.STOP)
    run_out(running, listener)

    assert listener.said["two"].finish == {0: Finish.STOP, 1: Finish.LENGTH}
    running.finish(first, Finish.STOP)  # it has ended: of no effect
    assert not running.has_work


@pytest.mark.parametrize(
    ("asked", "code", "words"),
    [
        (request((), id="r"), RefusalCode.INVALID, "empty"),
        (request(4, id="r", max_tokens=0), RefusalCode.INVALID, "max_tokens is 0"),
        (request(4, id="r", max_tokens=-1), RefusalCode.INVALID, "max_tokens is -1"),
        (request((7, SHAPE.vocabulary), id="r"), RefusalCode.INVALID, "0 to 100"),
        (request(4, id="r", n=0), RefusalCode.INVALID, "n must be"),
        (request(4, id="r", n=9), RefusalCode.INVALID, "may run at once, 8"),
        (request(4, id="r", n=3, beam_width=2), RefusalCode.INVALID, "3 hypotheses cannot come of 2 beams"),
        (request(4, id="r", beam_width=2, grammar=CHOICE), RefusalCode.INVALID, "beam"),
        (request(4, id="r", grammar=Grammar(kind=GrammarKind.CHOICE)), RefusalCode.INVALID, "strings to choose"),
        (request(500, id="r", max_tokens=13), RefusalCode.PROMPT_TOO_LONG, "500 tokens and 13 .* window of 512"),
        (request(60, id="r", max_tokens=8), RefusalCode.PROMPT_TOO_LONG, "may need 17 KV blocks, and there are 16"),
    ],
)
def test_what_can_never_run_is_refused_with_its_reason(asked: Request, code: RefusalCode, words: str) -> None:
    running = engine(FakeRunner(16), matcher=CountingMatcher)

    refused = running.submit(asked)

    assert refused is not None
    assert refused.code is code
    assert re.search(words, refused.reason)
    assert not running.has_work


def test_a_queue_is_bounded_by_requests_and_by_the_memory_they_need() -> None:
    short = engine(FakeRunner(16), max_waiting=2)
    small = engine(FakeRunner(16), max_waiting_blocks=10)

    by_count = [short.submit(request(4)) for _ in range(3)]
    by_memory = [small.submit(request(10, max_tokens=6)) for _ in range(3)]

    assert [refused and refused.code for refused in by_count] == [None, None, RefusalCode.OVERLOADED]
    assert [refused and refused.code for refused in by_memory] == [None, None, RefusalCode.OVERLOADED]
    assert by_memory[2] is not None
    assert "may need 8 KV blocks, and 4 more would be over 10" in by_memory[2].reason
    assert len(run_out(short).said) == len(run_out(small).said) == 2


def test_500_clients_are_served_or_refused_and_nothing_else() -> None:
    running = engine(FakeRunner(24, host_blocks=8), max_waiting=300, max_step_tokens=64)
    listener = Listener()
    refused = [running.submit(request(5 + n % 30, id=f"c{n}", max_tokens=4, tenant=f"t{n % 7}")) for n in range(500)]

    run_out(running, listener)

    assert sum(each is None for each in refused) == 300 == len(listener.said)
    assert {each.code for each in refused if each is not None} == {RefusalCode.OVERLOADED}
    assert all(said.finish == {0: Finish.LENGTH} for said in listener.said.values())


def test_logits_that_are_no_numbers_fail_their_sequence_and_no_other() -> None:
    healthy = request([3, 4, 5], id="healthy", max_tokens=6)
    running = engine(FakeRunner(32, poison={88}))
    running.submit(request([9, 9, 88], id="sick", max_tokens=6))
    running.submit(healthy)

    said = run_out(running).said

    assert said["sick"].finish == {0: Finish.FAILED}
    assert said["healthy"].finish == {0: Finish.LENGTH}


def test_a_step_that_runs_out_of_memory_ends_nobody_else_than_who_cannot_run_alone() -> None:
    runner = FakeRunner(48, host_blocks=8)
    runner.raises = lambda plan: any(chunk.sequence.request.id == "huge" for chunk in plan.chunks)
    running = engine(runner)
    for n in range(4):
        running.submit(request([5, 6, 7, n], id=f"q{n}", max_tokens=9))
    running.submit(request(6, id="huge", max_tokens=9))
    well = engine(FakeRunner(48))
    for n in range(4):
        well.submit(request([5, 6, 7, n], id=f"q{n}", max_tokens=9))

    listener = run_out(running)

    assert listener.said.pop("huge").finish == {0: Finish.FAILED}
    assert listener.said == run_out(well).said


def test_a_runner_that_fails_now_and_then_loses_no_token() -> None:
    runner = FakeRunner(14, host_blocks=14)
    failures = iter(range(10_000))
    runner.raises = lambda plan: next(failures) % 7 == 6
    running, well = engine(runner), engine(FakeRunner(64))
    for n in range(6):
        for each in (running, well):
            each.submit(request([4, 5, n], id=f"q{n}", max_tokens=12, n=1 + n % 2))

    assert run_out(running).said == run_out(well).said


def test_a_grammar_is_where_the_output_is_whatever_the_runner_did() -> None:
    runner = FakeRunner(32)
    failures = iter([False, False, True])
    runner.raises = lambda plan: next(failures, False)
    running = engine(runner, matcher=CountingMatcher)
    running.submit(request(6, id="g", max_tokens=8, grammar=CHOICE))
    for _ in range(6):
        for event in running.step():
            sequence = event.sequence
            assert sequence.grammar.accepted == len(sequence.output)

    saved = running.take("g")
    assert saved is not None
    again = engine(FakeRunner(32), matcher=CountingMatcher)
    again.restore(saved.request, saved)
    event = again.step()[0]
    assert event.sequence.grammar.accepted >= len(saved.sequences[0].output) > 0


def test_the_engine_shows_every_block_and_whose_it_is() -> None:
    running = engine(FakeRunner(16))
    running.submit(request(9, id="one", tenant="alice", max_tokens=4))
    running.submit(request(9, id="two", tenant="bob", max_tokens=1))
    running.step()
    running.step()

    seen = running.look(7)

    assert (seen.token, seen.model, seen.policy, seen.steps) == (7, "fake", "fifo", 2)
    assert [block.tenant for block in seen.blocks].count("alice") == 3
    assert [(block.tenant, block.is_cached) for block in seen.blocks].count(("bob", True)) == 2
    assert [(each.request, each.state, each.output_tokens) for each in seen.sequences] == [("one", "decode", 2)]
    assert [(each.tenant, each.decode_tokens, each.running) for each in seen.tenants] == [
        ("alice", 2, 1),
        ("bob", 1, 0),
    ]
    assert seen.tokens_per_s > 0
