"""A service over the fake runner: what it says, message by message; and a child's module that serves one."""

import os
import sys
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, cast

from llmcore.errors import ModelError
from llmcore.hosts import child
from llmcore.hosts.config import HostConfig
from llmcore.hosts.host import Loaded, OnProgress
from llmcore.messages import Broken, Checkpoint, Delta, Done, FromEngine, NotTaken, Restore, Submit, Suspended
from llmcore.request import Request
from llmcore.service import Service
from llmcore.text import Tokenizer
from support.llm_fakes import SHAPE, FakeRunner, engine

ALPHABET = "abcdefghijklmnopqrstuvwxyzäöüßéèñ€漢字"


class Letters:
    """As much of a tokenizer as a service needs: a token is a letter; 98 and 99 are the halves of one."""

    def bytes_of(self, token: int) -> bytes:
        if token in (98, 99):
            return "漢".encode()[:2] if token == 98 else "漢".encode()[2:]
        return ALPHABET[token % len(ALPHABET)].encode()

    def text_of(self, token: int) -> str:
        return self.bytes_of(token).decode(errors="replace")


LETTERS = cast("Tokenizer", Letters())


def service(
    runner: FakeRunner | None = None, *, checkpoint_tokens: int = 0, snapshot_kv_bytes: int = 1 << 20, **more: Any
) -> Service:
    """`more` goes to the engine."""
    return Service(
        engine(runner or FakeRunner(num_blocks=64), **more),
        LETTERS,
        checkpoint_tokens=checkpoint_tokens,
        snapshot_kv_bytes=snapshot_kv_bytes,
    )


@dataclass(slots=True)
class Heard:
    """All that was said, sorted; what a promise of the messages rules out is an `AssertionError`."""

    texts: dict[tuple[str, int], str] = field(default_factory=lambda: defaultdict(str))
    tokens: dict[tuple[str, int], tuple[Any, ...]] = field(default_factory=lambda: defaultdict(tuple))
    done: dict[str, Done] = field(default_factory=dict)
    refused: dict[str, NotTaken] = field(default_factory=dict)
    suspended: dict[str, bytes] = field(default_factory=dict)
    checkpoints: dict[str, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    broken: list[str] = field(default_factory=list)

    def hear(self, messages: Iterable[FromEngine]) -> None:
        for message in messages:
            match message:
                case Delta(id=id, index=index, text=text, tokens=tokens):
                    assert id not in self.done, "nothing is said after the end"
                    self.texts[id, index] += text
                    self.tokens[id, index] += tokens
                case Done(id=id):
                    assert id not in self.done, "there is one end"
                    self.done[id] = message
                    for choice in message.choices:
                        assert choice.text == self.texts[id, choice.index], "the deltas are the text"
                        assert choice.tokens == self.tokens[id, choice.index], "and the tokens"
                case NotTaken(refused=refused):
                    self.refused[refused.id] = message
                case Suspended(id=id, snapshot=snapshot):
                    self.suspended[id] = snapshot
                case Checkpoint(id=id, snapshot=snapshot):
                    self.checkpoints[id].append(snapshot)
                case Broken(reason=reason):
                    self.broken.append(reason)

    def result(self, id: str) -> list[tuple[int, str, str, tuple[Any, ...]]]:
        """What a request came to, whatever road it took."""
        return [(choice.index, choice.text, choice.finish, choice.tokens) for choice in self.done[id].choices]


def run_out(serving: Service, heard: Heard | None = None, *, most_steps: int = 3000) -> Heard:
    """Step until there is nothing left to do."""
    heard = heard or Heard()
    for _ in range(most_steps):
        if not serving.has_work:
            return heard
        heard.hear(serving.step())
    raise AssertionError(f"still at work after {most_steps} steps")


def told(serving: Service, *requests: Request) -> Heard:
    """What all of them come to."""
    heard = Heard()
    for each in requests:
        heard.hear(serving.receive(Submit(each)))
    return run_out(serving, heard)


def restored(serving: Service, id: str, snapshot: bytes, request: Request) -> Heard:
    heard = Heard()
    heard.hear(serving.receive(Restore(id, snapshot, request)))
    return run_out(serving, heard)


WINDOW = 1 << 20
"""Of what a host serves: a request may be longer than any test waits for."""


class Breaking(Service):
    """Its books are wrong as soon as it steps."""

    def step(self) -> list[FromEngine]:
        raise RuntimeError("a block was given back twice")


class Dying(Service):
    """The process that has it ends."""

    def step(self) -> list[FromEngine]:
        os._exit(3)


def fake_build(config: HostConfig, progress: OnProgress) -> tuple[Service, Loaded]:
    """`hosts.build.build_service` without a model: `config.model` names what is to happen, a megabyte is a block."""
    progress("making it up", 0.5)
    while config.model == "slow":
        progress("making it up", 0.5)
    if config.model == "none":
        raise ModelError("there is no model none")
    if config.model == "odd":
        raise RuntimeError("a library's own")
    shape = replace(SHAPE, window=WINDOW)
    runner = FakeRunner(num_blocks=config.kv_memory_mb, block_size=config.block_size, shape=shape)
    serving = {"breaks": Breaking, "dies": Dying}.get(config.model, Service)(
        engine(
            runner,
            max_running=config.max_running,
            max_waiting=config.max_waiting,
            max_step_tokens=config.max_step_tokens,
        ),
        LETTERS,
        checkpoint_tokens=config.checkpoint_tokens,
    )
    print("a library that prints to standard output")
    loaded = Loaded(
        name=shape.name,
        architecture="FakeForCausalLM",
        dtype="float32",
        weights="float32",
        digest=shape.digest,
        window=shape.window,
        tokenizer="",
        num_blocks=runner.num_blocks,
        block_size=runner.block_size,
    )
    return serving, loaded


if __name__ == "__main__":
    sys.exit(child.main(fake_build))
