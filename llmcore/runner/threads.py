"""How many threads torch's arithmetic may use."""

import torch


def limit_threads(count: int) -> None:
    """Of the whole process, from now on."""
    torch.set_num_threads(count)
