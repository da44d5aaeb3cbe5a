"""Where a model runs: which device, how many batches at once, and what to do if memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

GPU_TOKENS = 65536  # per batch
# Tokens per batch on a CPU: enough for full speed of the matrix products, few enough for the caches.
# int8 layers finish sooner, and then memory takes the time: malloc hands the same pages out again
# only for batches of a few hundred tokens.
CPU_TOKENS = {"torch": 1024, "int8": 384, "onnx": 1024, "onnx-int8": 512}


def side_by_side(work: Callable[[np.ndarray], None], batches: Sequence[np.ndarray], threads: int) -> None:
    """Run `work` on every batch, on `threads` threads with one core each.

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
    """Run `work` on rows; if memory runs out, on each half of them, down to a single row."""
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
    """Tell whether torch ran out of memory, on a GPU or the CPU."""
    import torch

    signs = ("allocate memory", "out of memory", "ALLOC_FAILED")  # CPU, MPS, cuBLAS
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in signs)


def best_device(backend: str) -> str:
    """Choose cuda, else mps, else cpu; every backend but "torch" runs on the CPU."""
    import torch

    if backend != "torch":
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def check_device(backend: str, device: Any) -> None:
    """Raise `ValueError` if a backend does not run on a device, or there is no such device."""
    import torch

    if backend != "torch" and str(device).partition(":")[0] != "cpu":
        raise ValueError(
            f"backend={backend!r} runs on the CPU, not on {device}; on a GPU use backend='torch', "
            "perhaps with model_kwargs={'dtype': 'bfloat16'}"
        )
    try:
        torch.empty(0, device=device)
    except (AssertionError, RuntimeError) as error:  # AssertionError: torch was built without it
        raise ValueError(f"this machine has no device {str(device)!r}: {error}") from error
