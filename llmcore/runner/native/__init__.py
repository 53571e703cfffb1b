"""C++ of our own for the CPU: attention over the paged cache, and linear layers for the few rows of a decode.

Compiled where it runs, once a machine (`build.py`); everything has a path in torch for machines without a compiler.
"""

from llmcore.runner.native.build import Kernels, kernels

__all__ = ["Kernels", "kernels"]
