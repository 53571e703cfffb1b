"""The networks: one decoder (`decoder.py`), the families that are cases of it (`families.py`), and shapes for benches
and tests (`shapes.py`).
"""

from llmcore.runner.models.config import ModelConfig
from llmcore.runner.models.decoder import Decoder

__all__ = ["Decoder", "ModelConfig"]
