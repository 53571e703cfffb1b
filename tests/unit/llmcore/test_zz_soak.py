"""The whole engine under anything that can happen to it, on a runner that checks every key and value it would read.

Whatever came between, each request ends once for each sample, says what it says when it is alone, gives all its blocks
back, and is billed for exactly what the runner ran.
"""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support.llm_fakes import FakeRunner, Listener, engine, request, run_out

from llmcore.engine import Engine
from llmcore.messages import Decision
from llmcore.ordering import POLICIES, ordering_named
from llmcore.request import Finish, Request, Sampling

kinds = st.sampled_from(["greedy", "samples", "beams"])
prompts = st.tuples(st.integers(0, 12), st.lists(st.integers(2, 4), min_size=1, max_size=12)).map(
    lambda parts: (*range(10, 10 + parts[0]), *parts[1])
)
configs = st.fixed_dictionaries(
    {
        "max_running": st.sampled_from([4, 8]),
        "max_step_tokens": st.sampled_from([8, 16, 64]),
        "chunked": st.booleans(),
        "prefix_cache": st.booleans(),
        "preemption": st.sampled_from(["auto", "swap", "recompute"]),
    }
)


def of_kind(kind: str, prompt: tuple[int, ...], max_tokens: int, **more: object) -> Request:
    match kind:
        case "samples":
            more |= {"n": 3, "sampling": Sampling(temperature=1.0, seed=len(prompt))}
        case "beams":
            more |= {"n": 2, "beam_width": 3, "sampling": Sampling(temperature=0.0, ignore_eos=max_tokens % 2 == 0)}
    return request(prompt, max_tokens=max_tokens, **more)


class EngineMachine(RuleBasedStateMachine):
    running: Engine

    @initialize(
        config=configs, policy=st.sampled_from(POLICIES), blocks=st.sampled_from([14, 40]), host=st.sampled_from([0, 9])
    )
    def begin(self, config: dict[str, object], policy: str, blocks: int, host: int) -> None:
        self.runner = FakeRunner(blocks, host_blocks=host)
        self.policy, self.config = policy, config
        self.running = engine(self.runner, ordering=ordering_named(policy), **config)
        self.listener = Listener()
        self.taken: dict[str, Request] = {}
        self.cut: set[str] = set()
        """Ended before their time."""
        self.decisions: list[Decision] = []
        self.failing = 0
        self.broke = self.crashed = False

    @rule(
        kind=kinds,
        prompt=prompts,
        max_tokens=st.integers(1, 10),
        tenant=st.sampled_from("abc"),
        domain=st.sampled_from("xy"),
        priority=st.integers(0, 2),
    )
    def submit(self, kind: str, prompt: tuple[int, ...], max_tokens: int, **more: object) -> None:
        asked = of_kind(kind, prompt, max_tokens, **more)
        if self.running.submit(asked) is None:
            self.taken[asked.id] = asked

    @rule(steps=st.integers(1, 5))
    def step(self, steps: int) -> None:
        for _ in range(steps):
            self.listener.hear(self.running.step())
        self.decisions += self.running.decisions()

    @precondition(lambda self: self._open())
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        id = data.draw(st.sampled_from(self._open()))
        self.cut.add(id)
        assert self.running.cancel(id)
        assert not self.running.cancel(id)

    @precondition(lambda self: self._open())
    @rule(data=st.data())
    def suspend_and_restore(self, data: st.DataObject) -> None:
        id = data.draw(st.sampled_from(self._open()))
        saved = self.running.take(id)
        assert saved is not None
        self.cut.add(id)
        again = request(saved.request.prompt, **_rest(saved.request))
        if self.running.restore(again, saved) is None:
            self.taken[again.id] = again

    @precondition(lambda self: not self.broke)
    @rule()
    def the_runner_breaks_once(self) -> None:
        """Twice might end who was alone at both."""
        self.failing, self.broke = 1, True
        self.runner.raises = self._raises

    @precondition(lambda self: self._open())
    @rule()
    def crash_and_rebuild(self) -> None:
        """A new engine on a new runner goes on from what was written down last."""
        saved = [self.running.save(id) for id in self._open()]
        self.decisions += self.running.decisions()
        old = self.runner
        self.runner = FakeRunner(old.num_blocks, host_blocks=old.host_blocks)
        self.runner.tokens_run, self.runner.prefill_run = old.tokens_run, old.prefill_run
        self.running = engine(self.runner, ordering=ordering_named(self.policy), **self.config)
        self.crashed = True
        for each in saved:
            assert each is not None
            self.cut.add(each.request.id)
            again = request(each.request.prompt, **_rest(each.request))
            assert self.running.restore(again, each) is None
            self.taken[again.id] = again

    @invariant()
    def blocks_are_conserved(self) -> None:
        if not hasattr(self, "running"):
            return
        seen = self.running.look(0)
        used = [block for block in seen.blocks if block.references]
        on_device = [sequence for sequence in seen.sequences if sequence.state in ("prefill", "decode")]
        in_host = [sequence for sequence in seen.sequences if sequence.state == "swapped"]
        assert len(seen.blocks) == self.runner.num_blocks
        assert sum(block.references for block in used) == sum(sequence.blocks for sequence in on_device)
        assert len(used) <= sum(sequence.blocks for sequence in on_device)
        assert seen.host_blocks_used <= min(seen.host_blocks, sum(sequence.blocks for sequence in in_host))

    def teardown(self) -> None:
        if not hasattr(self, "running"):
            return
        run_out(self.running, self.listener)
        self.decisions += self.running.decisions()
        seen = self.running.look(0)
        assert not seen.sequences
        assert not any(block.references for block in seen.blocks)
        assert not seen.host_blocks_used
        for id, asked in self.taken.items():
            if id not in self.cut:
                self._says_what_it_says_alone(id, asked)
        if not self.crashed:
            self._was_billed_exactly()

    def _says_what_it_says_alone(self, id: str, asked: Request) -> None:
        alone = engine(FakeRunner(200), max_step_tokens=512)
        assert alone.submit(asked) is None
        assert self.listener.said[id] == run_out(alone).said[id]

    def _was_billed_exactly(self) -> None:
        decodes = self.runner.tokens_run - self.runner.prefill_run
        assert sum(each.prefill_tokens for each in self.decisions) == self.runner.prefill_run
        assert sum(each.decode_tokens for each in self.decisions) >= decodes

    def _open(self) -> list[str]:
        ended = {id for id, said in self.listener.said.items() if len(said.finish) == self.taken[id].n}
        return [id for id in self.taken if id not in ended | self.cut and self.running.save(id) is not None]

    def _raises(self, plan: object) -> bool:
        self.failing -= 1
        return self.failing >= 0


def _rest(asked: Request) -> dict[str, object]:
    names = ("max_tokens", "tenant", "domain", "n", "beam_width", "sampling", "priority")
    return {name: getattr(asked, name) for name in names}


EngineMachine.TestCase.settings = settings(max_examples=1200, stateful_step_count=50, deadline=None)
TestEngine = EngineMachine.TestCase


@pytest.mark.parametrize("kind", ["greedy", "samples", "beams"])
def test_a_crash_at_any_step_loses_nothing_that_was_saved(kind: str) -> None:
    asked = of_kind(kind, (5, 6, 7, 8, 9, 10), 6, id="whole")
    whole = engine(FakeRunner(40))
    whole.submit(asked)
    expected = run_out(whole).said["whole"]
    for steps in range(12):
        for with_kv in (True, False):
            first = engine(FakeRunner(40))
            first.submit(asked)
            for _ in range(steps):
                first.step()
            saved = first.take("whole") if with_kv else first.save("whole")
            if saved is None:
                continue
            second = engine(FakeRunner(40))
            assert second.restore(asked, saved) is None
            assert run_out(second).said["whole"] == expected
    assert set(expected.finish.values()) <= {Finish.LENGTH, Finish.STOP}
