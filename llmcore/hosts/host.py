"""What a host of an engine is, whatever it is made of."""

from collections.abc import Callable
from typing import Protocol, TypeAlias

from msgspec import Struct

from llmcore.messages import FromEngine, ToEngine


class Loaded(Struct, frozen=True, kw_only=True, tag=True):
    """A model that is ready."""

    name: str
    architecture: str
    """As its configuration calls it: `LlamaForCausalLM`."""
    dtype: str
    """Of its arithmetic and its KV cache: `float32`."""
    weights: str
    """How they are kept: the dtype, or `int8`."""
    digest: str
    """Of weights and configuration; a snapshot is of one model."""
    window: int
    """Tokens of prompt and output together."""
    tokenizer: str
    """The folder of its tokenizer and chat template."""
    num_blocks: int
    """Of the KV cache."""
    block_size: int
    """Tokens."""


OnMessage: TypeAlias = Callable[[FromEngine], None]
OnProgress: TypeAlias = Callable[[str, float], None]
"""What is being done, and how much of it is done: 0 to 1."""


class Host(Protocol):
    """One engine and its model. Every method and every callback belongs to the event loop that started it."""

    on_message: OnMessage
    on_progress: OnProgress

    async def start(self) -> Loaded:
        """Load the model and begin to serve; a host that broke or was stopped may be started again.

        Cancelled while it loads, it ends as by `stop`.

        Raises:
            ModelError: the model cannot be found, read or run.
            EngineStopped: the host ended while it loaded.
        """
        ...

    def send(self, message: ToEngine) -> None:
        """
        Raises:
            EngineStopped: nobody is there to read it.
        """
        ...

    async def stop(self) -> None:
        """Suspend what runs (`Suspended`, `Done`), then end. Nothing is called back any more once this returns."""
        ...

    @property
    def is_alive(self) -> bool: ...
