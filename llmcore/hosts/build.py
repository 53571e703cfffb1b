"""From a `HostConfig` to an engine that serves: the one place outside `runner/` that loads it, and torch with it."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol, TypeAlias

from llmcore.engine import Engine, EngineConfig
from llmcore.errors import ModelError
from llmcore.hosts.config import HostConfig
from llmcore.hosts.host import Loaded, OnProgress
from llmcore.ordering import ordering_named
from llmcore.plan import Runner
from llmcore.quotas import Quotas
from llmcore.request import Grammar
from llmcore.service import Service
from llmcore.text import Tokenizer

Build: TypeAlias = Callable[[HostConfig, OnProgress], tuple[Service, Loaded]]

_MB: Final = 1 << 20


class Sized(Runner, Protocol):
    """A runner and its memory."""

    @property
    def num_blocks(self) -> int: ...

    @property
    def host_blocks(self) -> int: ...


def build_service(config: HostConfig, progress: OnProgress) -> tuple[Service, Loaded]:
    """Load the model and set up its engine. Takes seconds, in the thread that is to turn it.

    Raises:
        ModelError: the model cannot be found, read or run, or the configuration makes no engine.
    """
    try:
        # Nobody else loads torch: a gateway whose engine is a child's has none in its process.
        from llmcore.runner.grammar import Grammars  # noqa: PLC0415
        from llmcore.runner.model_runner import ModelRunner  # noqa: PLC0415
        from llmcore.runner.threads import limit_threads  # noqa: PLC0415
    except ImportError as error:
        missing = error.name or "a library"
        raise ModelError(f"a model needs {missing}, of the extra `llm`: pip install 'pratique[llm]'") from error
    limit_threads(config.threads)
    is_quantized = config.precision == "int8"
    runner = ModelRunner.load(
        config.model,
        cache_folder=Path(config.cache),
        kv_memory_bytes=config.kv_memory_mb * _MB,
        host_memory_bytes=config.host_memory_mb * _MB,
        block_size=config.block_size,
        device=config.device,
        dtype="auto" if is_quantized else config.precision,
        quantize="int8" if is_quantized else None,
        progress=progress,
    )
    assert runner.folder is not None, "a checkpoint lies in a folder"
    tokenizer = Tokenizer.open(runner.folder)
    engine = _engine(runner, config, Grammars(tokenizer, runner.shape.vocabulary).matcher)
    service = Service(
        engine,
        tokenizer,
        checkpoint_tokens=config.checkpoint_tokens,
        snapshot_kv_bytes=config.snapshot_kv_mb * _MB,
    )
    dtype = str(runner.model.embedding.weight.dtype).removeprefix("torch.")
    return service, Loaded(
        name=runner.shape.name,
        architecture=_architecture(runner.folder),
        dtype=dtype,
        weights="int8" if is_quantized else dtype,
        digest=runner.shape.digest,
        window=runner.shape.window,
        tokenizer=str(runner.folder),
        num_blocks=runner.num_blocks,
        block_size=runner.block_size,
    )


def _engine(runner: Sized, config: HostConfig, matcher: Callable[[Grammar], object]) -> Engine:
    try:
        return Engine(
            runner,
            config=EngineConfig(
                num_blocks=runner.num_blocks,
                host_blocks=runner.host_blocks,
                block_size=config.block_size,
                max_running=config.max_running,
                max_step_tokens=config.max_step_tokens,
                chunked=config.chunked,
                prefix_cache=config.prefix_cache,
                max_waiting=config.max_waiting,
                preemption=config.preemption,
            ),
            ordering=ordering_named(config.scheduling, weights=config.shares),
            clock=unix_clock(),
            matcher=matcher,
            quotas=Quotas(config.quota_of(runner.num_blocks)),
        )
    except ValueError as error:
        raise ModelError(f"the model's settings make no engine: {error}") from error


def unix_clock() -> Callable[[], float]:
    """Unix seconds that never go backwards, whatever becomes of the machine's time."""
    offset = time.time() - time.monotonic()
    return lambda: offset + time.monotonic()


def _architecture(folder: Path) -> str:
    """As the checkpoint's configuration calls it."""
    named: list[str] = json.loads((folder / "config.json").read_text("utf-8")).get("architectures") or ["unknown"]
    return named[0]
