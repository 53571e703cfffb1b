"""A runner without a model, which believes nobody: every mistake of an allocator or a scheduler is a `Mistake`.

It keeps what was written to each slot of each block: for which domain, position, and tokens up to there. Whatever a
sequence would attend to must be just that, wherever the blocks have been meanwhile. The next token is a hash of the
tokens, and of seed and index where it is drawn; so the same request gives the same tokens on any road.
"""

from collections.abc import Callable
from collections.abc import Sequence as Many
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import count
from math import log
from typing import TypeAlias

from msgspec import msgpack

from llmcore.engine import Engine, EngineConfig
from llmcore.events import Advanced, Ended, Event
from llmcore.ordering import Fifo, Ordering
from llmcore.plan import Chunk, Pick, Plan, Shape
from llmcore.quotas import Quotas
from llmcore.request import Finish, Grammar, Request, Sampling
from llmcore.sequence import Logprob, Sequence, State

Written: TypeAlias = tuple[str, int, bytes]
"""Domain, position, and a hash of the tokens up to and including it."""

EOS = 1

SHAPE = Shape(
    name="fake",
    digest="fake-1",
    vocabulary=101,
    window=512,
    layers=2,
    kv_heads=2,
    head_dim=4,
    kv_bytes=4,
    eos=frozenset({EOS}),
)


class Mistake(BaseException):
    """Of the engine's. No `Exception`: an engine lives on when its runner fails, and must not when it is wrong."""


@dataclass(slots=True)
class FakeClock:
    """Seconds; a step of the runner takes one."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass(slots=True)
class FakeRunner:
    """`llmcore.plan.Runner`; see above. Tokens that it was told of in `poison` have logits that are no numbers."""

    num_blocks: int
    host_blocks: int = 0
    block_size: int = 4
    shape: Shape = SHAPE
    clock: FakeClock = field(default_factory=FakeClock)
    poison: set[int] = field(default_factory=set)
    """The next token of whoever ends with one of these fails."""
    raises: Callable[[Plan], bool] = lambda plan: False
    """Whether a step runs out of memory, after it has spoiled what it would have written."""
    plans: list[Plan] = field(default_factory=list)
    tokens_run: int = 0
    prefill_run: int = 0
    """Of them, those of prompts, or computed again."""
    copies: int = 0
    swapped: int = 0
    blocks: list[dict[int, Written]] = field(init=False)
    host: list[dict[int, Written]] = field(init=False)

    def __post_init__(self) -> None:
        self.blocks = [{} for _ in range(self.num_blocks)]
        self.host = [{} for _ in range(self.host_blocks)]

    def run(self, plan: Plan) -> list[Pick]:
        _insist(not plan.is_empty, "an empty plan is not run")
        self.plans.append(plan)
        self.clock.now += 1.0
        for device, host in plan.swap_out:
            self.host[host] = dict(self.blocks[device])
        for host, device in plan.swap_in:
            self.blocks[device] = dict(self.host[host])
        for source, target in plan.copies:
            self.blocks[target] = dict(self.blocks[source])
        self.swapped += len(plan.swap_out)
        self.copies += len(plan.copies)
        prefixes = [_prefixes(chunk.sequence) for chunk in plan.chunks]
        if self.raises(plan):
            for chunk in plan.chunks:
                for position in range(chunk.start, chunk.start + chunk.count):
                    self._block(chunk.sequence, position)[position % self.block_size] = ("spoiled", -1, b"")
            raise MemoryError("the device is out of memory")
        self._write(plan.chunks, prefixes)
        for chunk, prefix in zip(plan.chunks, prefixes, strict=True):
            self._check(chunk, prefix)
        return [
            self._pick(chunk.sequence, prefix[-1])
            for chunk, prefix in zip(plan.chunks, prefixes, strict=True)
            if chunk.samples
        ]

    def read_blocks(self, blocks: Many[int], filled: Many[int]) -> bytes:
        kept = zip(blocks, filled, strict=True)
        return msgpack.encode([[one for one in self.blocks[block].items() if one[0] < slots] for block, slots in kept])

    def write_blocks(self, blocks: Many[int], data: bytes) -> None:
        contents = msgpack.decode(data, type=list[list[tuple[int, tuple[str, int, bytes]]]])
        for block, content in zip(blocks, contents, strict=True):
            self.blocks[block] = dict(content)

    def _write(self, chunks: Many[Chunk], prefixes: Many[list[bytes]]) -> None:
        """Everything is written before anything is read; two may write one slot only with one thing."""
        written: dict[tuple[int, int], Written] = {}
        for chunk, prefix in zip(chunks, prefixes, strict=True):
            sequence = chunk.sequence
            _insist(chunk.count > 0 and chunk.start == sequence.computed, "a chunk begins where the last one ended")
            self.tokens_run += chunk.count
            if sequence.state is not State.DECODE or not chunk.samples:
                self.prefill_run += chunk.count
            for position in range(chunk.start, chunk.start + chunk.count):
                content = (sequence.request.domain, position, prefix[position])
                place = sequence.blocks[position // self.block_size], position % self.block_size
                _insist(written.setdefault(place, content) == content, "two sequences write to one slot")
                self.blocks[place[0]][place[1]] = content

    def _check(self, chunk: Chunk, prefix: Many[bytes]) -> None:
        sequence = chunk.sequence
        for position in range(chunk.start + chunk.count):
            found = self._block(sequence, position).get(position % self.block_size)
            expected = (sequence.request.domain, position, prefix[position])
            _insist(found == expected, f"{sequence.request.id} reads at {position} what is not its own: {found}")

    def _block(self, sequence: Sequence, position: int) -> dict[int, Written]:
        return self.blocks[sequence.blocks[position // self.block_size]]

    def _pick(self, sequence: Sequence, prefix: bytes) -> Pick:
        if sequence.tokens[-1] in self.poison:
            return Pick(-1, failed="its logits are no numbers")
        if sequence.grammar is not None:
            sequence.grammar.accept(0)
        request = sequence.request
        if request.beam_width > 1:
            return self._beam_pick(sequence, prefix)
        drawn = (request.sampling.seed, sequence.index) if request.sampling.temperature else ()
        token = _number(prefix, drawn) % self.shape.vocabulary
        if request.sampling.ignore_eos and token in self.shape.eos:
            token += 1
        logprob = Logprob(token, -1.0) if request.sampling.logprobs is not None else None
        return Pick(token, logprob)

    def _beam_pick(self, sequence: Sequence, prefix: bytes) -> Pick:
        odds = [1 + _number(prefix, (token,)) % 1_000_003 for token in range(self.shape.vocabulary)]
        ranked = sorted(range(self.shape.vocabulary), key=lambda token: (-odds[token], token))
        top = tuple((token, log(odds[token] / sum(odds))) for token in ranked[: 2 * sequence.request.beam_width])
        return Pick(top[0][0], Logprob(top[0][0], top[0][1], top))


def request(
    prompt: Many[int] | int = 10, *, id: str = "", max_tokens: int = 8, tenant: str = "a", **more: object
) -> Request:
    """A request of a prompt, or of one so long; unless its sampling says otherwise, it says all of `max_tokens`."""
    tokens = tuple(2 + n % 90 for n in range(prompt)) if isinstance(prompt, int) else tuple(prompt)
    fields = {"domain": tenant, "sampling": Sampling(temperature=0.0, ignore_eos=True)} | more
    return Request(
        id=id or f"r{next(_ids)}",
        tenant=tenant,
        prompt=tokens,
        max_tokens=max_tokens,
        **fields,  # type: ignore[arg-type]
    )


def engine(
    runner: FakeRunner,
    *,
    ordering: Ordering | None = None,
    quotas: Quotas | None = None,
    matcher: Callable[[Grammar], object] | None = None,
    **config: object,
) -> Engine:
    """An engine as small as its runner."""
    fields = {
        "block_size": runner.block_size,
        "num_blocks": runner.num_blocks,
        "host_blocks": runner.host_blocks,
        "max_running": 8,
        "max_step_tokens": 16,
    } | config
    return Engine(
        runner,
        config=EngineConfig(**fields),  # type: ignore[arg-type]
        ordering=ordering or Fifo(),
        clock=runner.clock,
        matcher=matcher,
        quotas=quotas,
    )


@dataclass(slots=True)
class Said:
    """What came of a request, by index."""

    tokens: dict[int, list[int]] = field(default_factory=dict)
    finish: dict[int, Finish] = field(default_factory=dict)


@dataclass(slots=True)
class Listener:
    """Collects events, and holds them to their promises."""

    said: dict[str, Said] = field(default_factory=dict)

    def hear(self, events: Many[Event]) -> None:
        for event in events:
            sequence = event.sequence
            said = self.said.setdefault(sequence.request.id, Said())
            assert sequence.index not in said.finish, "nothing is said after the end"
            match event:
                case Advanced():
                    said.tokens.setdefault(sequence.index, []).extend(event.tokens)
                case Ended():
                    said.finish[sequence.index] = event.finish
                    said.tokens.setdefault(sequence.index, [])

    def outputs(self) -> dict[str, dict[int, list[int]]]:
        return {id: said.tokens for id, said in self.said.items()}


def run_out(running: Engine, listener: Listener | None = None, *, most_steps: int = 5000) -> Listener:
    """Step until there is nothing left to do."""
    listener = listener or Listener()
    for _ in range(most_steps):
        if not running.has_work:
            return listener
        listener.hear(running.step())
    raise AssertionError(f"still at work after {most_steps} steps")


_ids = count()


def _insist(holds: bool, words: str) -> None:
    if not holds:
        raise Mistake(words)


def _prefixes(sequence: Sequence) -> list[bytes]:
    """For each position, a hash of the tokens up to it."""
    hashes = []
    last = b""
    for token in sequence.tokens:
        last = blake2b(last + token.to_bytes(4, "big"), digest_size=8).digest()
        hashes.append(last)
    return hashes


def _number(prefix: bytes, more: tuple[int, ...]) -> int:
    return int.from_bytes(blake2b(prefix + repr(more).encode(), digest_size=6).digest(), "big")
