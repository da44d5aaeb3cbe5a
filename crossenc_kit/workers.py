"""Many batches at once on a CPU, and how running out of memory looks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np


def side_by_side(work: Callable[[np.ndarray], None], batches: Sequence[np.ndarray], threads: int) -> None:
    """Run `work` on every batch, on `threads` threads of one core each; one slow batch holds up nobody.

    Small models leave cores idle between their many short operations; whole batches do not.
    """
    import torch

    if threads <= 1:
        for rows in batches:
            work(rows)
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for _ in pool.map(work, batches):
                pass
    finally:
        torch.set_num_threads(before)


def out_of_memory(error: RuntimeError) -> bool:
    """Whether an error of torch's says that memory, of the GPU or the CPU, did not suffice."""
    import torch

    return isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)
