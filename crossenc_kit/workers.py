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


def in_halves(work: Callable[[np.ndarray], None], rows: np.ndarray) -> None:
    """Run `work` on rows; where memory cannot hold them, on one half after the other, down to a single row."""
    import torch

    try:
        work(rows)
        return
    except RuntimeError as error:  # torch.OutOfMemoryError is one
        if not out_of_memory(error) or len(rows) == 1:
            raise
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    half = len(rows) // 2
    in_halves(work, rows[:half])
    in_halves(work, rows[half:])


def out_of_memory(error: RuntimeError) -> bool:
    """Whether an error of torch's says that memory, of the GPU or the CPU, did not suffice."""
    import torch

    said = ("allocate memory", "out of memory", "ALLOC_FAILED")  # CPU, MPS, cuBLAS
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in said)
