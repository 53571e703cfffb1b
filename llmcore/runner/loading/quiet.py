"""transformers, kept from speaking to whoever reads our output."""

import importlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def quiet_transformers() -> Iterator[Any]:
    """The module, its warnings and bars off; as they were, afterwards. Imported only here: it takes a second or two."""
    transformers: Any = importlib.import_module("transformers")
    speech = transformers.utils.logging
    level, bars = speech.get_verbosity(), speech.is_progress_bar_enabled()
    speech.set_verbosity(logging.CRITICAL)
    speech.disable_progress_bar()
    try:
        yield transformers
    finally:
        speech.set_verbosity(level)
        if bars:
            speech.enable_progress_bar()
