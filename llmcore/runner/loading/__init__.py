"""Checkpoints: found (`locate.py`), converted where they are GGUF files (`gguf.py`), read (`checkpoint.py`), and put
into a decoder (`weights.py`).
"""

from llmcore.runner.loading.load import Loaded, load
from llmcore.runner.loading.locate import SHIPPED

__all__ = ["SHIPPED", "Loaded", "load"]
