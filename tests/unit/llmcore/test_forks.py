"""Samples of one prompt: computed once, shared, and copied only where they part."""

import pytest
from support.llm_fakes import FakeRunner, engine, request, run_out

from llmcore.request import Sampling

DRAWN = Sampling(temperature=1.0, seed=5, ignore_eos=True)


@pytest.mark.parametrize("prompt", [4, 5, 8, 11])
@pytest.mark.parametrize("n", [2, 4])
def test_samples_are_what_independent_runs_with_their_seeds_would_say(prompt: int, n: int) -> None:
    together = engine(FakeRunner(64))
    together.submit(request(prompt, id="all", n=n, sampling=DRAWN))
    said = run_out(together).said["all"].tokens

    for index in range(n):  # alone in its engine: every other sample is ended at once
        alone = engine(FakeRunner(64))
        alone.submit(request(prompt, id="all", n=n, sampling=DRAWN))
        tokens: list[int] = []
        while alone.has_work:
            for event in alone.step():
                if event.sequence.index != index:
                    alone.finish(event.sequence, event.sequence.finish or "stop")  # type: ignore[arg-type]
                elif hasattr(event, "tokens"):
                    tokens += event.tokens
        assert tokens == said[index]
    assert len({tuple(tokens) for tokens in said.values()}) == n


@pytest.mark.parametrize(("prompt", "copies"), [(5, 3), (6, 3), (7, 3), (8, 0), (4, 0)])
def test_each_but_one_copies_exactly_the_block_in_which_the_prompt_ends(prompt: int, copies: int) -> None:
    runner = FakeRunner(64)
    running = engine(runner)
    running.submit(request(prompt, n=4, max_tokens=9, sampling=DRAWN))

    run_out(running)

    assert runner.copies == copies
    assert runner.prefill_run == prompt + 3  # once; and its last token, whose logits each sample draws from


def test_the_prompts_blocks_are_shared_by_all_samples() -> None:
    running = engine(FakeRunner(64), max_step_tokens=32)
    running.submit(request(16, n=4, max_tokens=9, sampling=DRAWN))
    running.step()

    assert [block.references for block in running.look(0).blocks if block.references] == [4, 4, 4, 4]


def test_block_seconds_of_a_shared_block_are_shared_too() -> None:
    running = engine(FakeRunner(64), max_step_tokens=32)
    running.submit(request(16, n=4, max_tokens=1, sampling=DRAWN))  # one step of a second, on four blocks

    run_out(running)

    (told,) = [each for each in running.decisions() if each.kind == "finished"]
    assert told.block_seconds == pytest.approx(4.0)
