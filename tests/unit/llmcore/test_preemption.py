"""However requests are batched, cut, shared and thrown out, they say the same."""

from itertools import product

import pytest
from support.llm_fakes import FakeRunner, Listener, engine, request, run_out

from llmcore.ordering import POLICIES, ordering_named
from llmcore.request import Request, Sampling

DRAWN = Sampling(temperature=1.0, seed=3, ignore_eos=True)
AXES = {
    "blocks": (14, 24, 200),
    "host": (0, 6, 100),
    "max_step_tokens": (8, 16, 64),
    "chunked": (True, False),
    "prefix_cache": (True, False),
    "preemption": ("auto", "swap", "recompute"),
    "policy": POLICIES,
}


def pairwise() -> list[dict[str, object]]:
    """Rows in which every two values of two axes meet; each takes, greedily, what covers most new pairs."""
    names = list(AXES)
    rows = [dict(zip(names, values, strict=True)) for values in product(*AXES.values())]

    def pairs(row: dict[str, object]) -> set[tuple[object, ...]]:
        return {(a, row[a], b, row[b]) for a in names for b in names if a < b}

    missing = set().union(*map(pairs, rows))
    cover = []
    while missing:
        cover.append(max(rows, key=lambda row: len(pairs(row) & missing)))
        missing -= pairs(cover[-1])
    return cover


def load() -> list[Request]:
    shared = list(range(2, 12))
    return [
        request([*shared, 20], id="a1", max_tokens=12),
        request([*shared, 21, 22], id="a2", max_tokens=9, sampling=DRAWN),
        request([*shared, 23], id="b1", tenant="b", n=2, max_tokens=8, sampling=DRAWN),
        request([30, 31, 32], id="b2", tenant="b", max_tokens=14),
        request(list(range(40, 64)), id="c1", tenant="c", max_tokens=5, priority=1),
        request([*shared, 24], id="c2", tenant="c", n=2, beam_width=2, max_tokens=7),
    ]


EXPECTED = {}
for asked in load():
    alone = engine(FakeRunner(200), max_step_tokens=512, prefix_cache=False)
    alone.submit(asked)
    EXPECTED |= run_out(alone).outputs()


@pytest.mark.promise("llm.preempted-identical")
@pytest.mark.parametrize("row", pairwise(), ids=lambda row: "-".join(str(value) for value in row.values()))
def test_the_same_tokens_whatever_the_engine_does(row: dict[str, object]) -> None:
    config = dict(row)
    runner = FakeRunner(config.pop("blocks"), host_blocks=config.pop("host"))  # type: ignore[arg-type]
    running = engine(runner, ordering=ordering_named(str(config.pop("policy"))), **config)
    for asked in load():
        assert running.submit(asked) is None

    listener = run_out(running)

    assert listener.outputs() == EXPECTED
    if row["blocks"] != 24:
        assert (running.look(0).preemptions > 0) == (row["blocks"] == 14)


def crowd(runner: FakeRunner, **config: object) -> list[str]:
    """Three that fit together only while they are short; answers how each preemption was done."""
    running = engine(runner, **config)
    for n in range(3):
        running.submit(request([5 + n, 6, 7, 8], id=f"q{n}", max_tokens=24))
    run_out(running)
    return [each.reason for each in running.decisions() if each.kind == "preempted"]


def test_who_came_last_makes_room_and_comes_back_in_order() -> None:
    running = engine(FakeRunner(12, host_blocks=12))
    for n in range(3):
        running.submit(request([5 + n, 6, 7, 8], id=f"q{n}", max_tokens=24))
    listener = run_out(running)

    told = running.decisions()
    assert [each.request for each in told if each.kind == "preempted"][:2] == ["q2", "q1"]
    assert [each.request for each in told if each.kind == "resumed"] == ["q1", "q2"]
    assert list(listener.said) == ["q0", "q1", "q2"]
    assert [each.request for each in told if each.kind == "finished"] == ["q0", "q1", "q2"]


def test_what_costs_less_is_done() -> None:
    cheap_swap = crowd(FakeRunner(12, host_blocks=12), swap_block_s=0.001, recompute_token_s=0.001)
    cheap_compute = crowd(FakeRunner(12, host_blocks=12), swap_block_s=0.1, recompute_token_s=0.001)

    assert cheap_swap
    assert cheap_compute
    assert all("swapped out" in reason for reason in cheap_swap)
    assert all("computed again" in reason for reason in cheap_compute)


def test_where_host_memory_is_full_it_is_computed_again() -> None:
    reasons = crowd(FakeRunner(12, host_blocks=4), preemption="swap")

    assert any("swapped out" in reason for reason in reasons)
    assert any("computed again" in reason for reason in reasons)


def test_swapping_moves_a_shared_block_once() -> None:
    runner = FakeRunner(16, host_blocks=16)
    running = engine(runner, preemption="swap")
    running.submit(request([1, 2, 3, 4], id="old", max_tokens=40))
    running.submit(request(range(10, 22), id="forked", n=4, max_tokens=12, sampling=DRAWN))
    while running.has_work and not runner.swapped:
        running.step()

    (plan,) = [plan for plan in runner.plans if plan.swap_out]
    assert len({device for device, _ in plan.swap_out}) == len(plan.swap_out)
    assert len({host for _, host in plan.swap_out}) == len(plan.swap_out)
    run_out(running)


def test_the_oldest_is_never_preempted() -> None:
    running = engine(FakeRunner(13))
    for n in range(8):
        running.submit(request([5 + n, 6, 7], id=f"q{n}", max_tokens=30))
    run_out(running)

    assert "q0" not in {each.request for each in running.decisions() if each.kind == "preempted"}


def test_what_fits_exactly_is_not_preempted() -> None:
    running = engine(FakeRunner(3))
    assert running.submit(request(5, id="two", n=2, max_tokens=3, sampling=DRAWN)) is None
    run_out(running)

    assert running.look(0).preemptions == 0


def test_restored_keys_and_values_do_not_overwrite_what_is_being_swapped_out() -> None:
    before = engine(FakeRunner(32))
    before.submit(request([30, 31, 32, 33, 34], id="back", tenant="b", max_tokens=8))
    for _ in range(3):
        before.step()
    saved = before.take("back")
    assert saved is not None
    runner = FakeRunner(9, host_blocks=9)
    running = engine(runner, ordering=ordering_named("vtc"), preemption="swap")
    for n in range(2):
        running.submit(request([5 + n, 6, 7, 8], id=f"q{n}", tenant="a", max_tokens=24))
    listener = Listener()
    while sum(not block.references for block in running.look(0).blocks) > 1:  # the next to grow finds one block
        listener.hear(running.step())
    assert running.restore(saved.request, saved) is None

    run_out(running, listener)

    assert runner.swapped
    assert [len(said.tokens[0]) for said in listener.said.values()] == [24, 24, 8]
