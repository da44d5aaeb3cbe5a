"""Many batches at once on a CPU, and how running out of memory looks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from crossenc_kit.models.backbones import EXPORTS

# Per batch on a CPU: enough for full speed of the matrix products, small enough for its caches. int8 is through sooner,
# and what costs it time is memory: up to some hundred tokens malloc gives the same again, beyond it new pages.
CPU_TOKENS = {"torch": 1024, "int8": 384, "onnx": 1024, "onnx-int8": 512}


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


def fastest_device() -> str:
    """cuda, else mps, else cpu."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def backend_of(model: Any) -> str:
    """The backend of a classifier: "torch", "int8", "onnx" or "onnx-int8"."""
    from crossenc_kit.models.int8 import is_quantized
    from crossenc_kit.models.onnx import OnnxClassifier

    if isinstance(model, OnnxClassifier):
        return "onnx-int8" if model.path.name == Path(EXPORTS["onnx-int8"]).name else "onnx"
    return "int8" if is_quantized(model) else "torch"


def checked_device(model: Any, device: Any) -> Any:
    """The device; raises `ValueError` where the model's backend does not run on it."""
    kind = backend_of(model)
    if kind != "torch" and str(device).partition(":")[0] != "cpu":
        raise ValueError(
            f"backend={kind!r} runs on the CPU, not on {device}; on a GPU use backend='torch', perhaps with "
            "model_kwargs={'dtype': 'bfloat16'}"
        )
    if not _is_there(device):
        raise ValueError(f"there is no device {str(device)!r} on this machine; choose from {', '.join(_devices())}")
    return device


def _is_there(device: Any) -> bool:
    """Whether torch knows a device by this name and, of a GPU, whether the machine has it."""
    import torch

    try:
        known = torch.device(device)
    except RuntimeError:
        return False
    if known.type not in ("cuda", "mps"):
        return True
    return f"{known.type}:{known.index or 0}" in _devices()


def _devices() -> list[str]:
    """The CPU and the GPUs of this machine."""
    import torch

    found = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    return [*found, "mps:0"] if torch.backends.mps.is_available() else found


def best_device(model: Any) -> str:
    """cuda, else mps, else cpu, for float32 models of torch; the others run on the CPU."""
    return fastest_device() if backend_of(model) == "torch" else "cpu"


def cpu_tokens(model: Any) -> int:
    """How many tokens a batch on a CPU has."""
    return CPU_TOKENS[backend_of(model)]


def check_trainable(model: Any) -> None:
    """Raise `ValueError` for a model that has no float32 weights to train."""
    kind = backend_of(model)
    if kind != "torch":
        raise ValueError(
            f"a model with backend={kind!r} cannot be trained: its weights are fixed; "
            "train the float32 model (backend='torch') and export it again"
        )


def describe(model: Any) -> str:
    """Class, size and number of labels of a model in words."""
    kind = backend_of(model)
    size = f"{sum(parameter.numel() for parameter in model.parameters()) / 1e6:.1f} M parameters"
    if kind.startswith("onnx"):
        size = f"{model.path.stat().st_size / 1e6:.1f} MB"
    words = [type(model).__name__, *([kind] if kind != "torch" else []), size, f"num_labels={model.config.num_labels}"]
    return ", ".join(words)
