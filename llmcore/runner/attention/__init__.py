"""Attention over the paged cache: one contract (`contract.py`), an oracle that runs everywhere (`reference.py`), and
the faster paths of a device (`cpu.py`, `triton_paged.py`), chosen by `runner/probing.py`.
"""

from llmcore.runner.attention.contract import Attend, Attention, AttentionBatch

__all__ = ["Attend", "Attention", "AttentionBatch"]
