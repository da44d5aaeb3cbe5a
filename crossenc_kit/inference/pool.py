"""Scoring in several processes: one for each GPU, or several on a CPU.

    with ScoringPool(model, processes=2) as pool:
        scores = pool.predict(pairs)

The processes are started afresh ("spawn", since a forked one cannot use a CUDA device). Each loads a
copy of the model from the disk, and an idle process takes the next chunk of pairs. A script that
makes a pool therefore needs `if __name__ == "__main__":`.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from typing import Any

import numpy as np

from crossenc_kit.data.pairs import Pairs, as_text_pairs
from crossenc_kit.errors import PoolError, TruncationWarning
from crossenc_kit.models.cross_encoder import CrossEncoder
from crossenc_kit.models.settings import find_activation
from crossenc_kit.models.tokens import one_or_more
from crossenc_kit.scorers import fingerprint, warn_at_call

LARGEST_CHUNK = 4096  # pairs that a process gets at a time
CHUNKS_EACH = 10  # chunks per process, so that all processes end at about the same time
DIED = (
    "a process of the pool died. Was there enough memory? A script must make its pool under "
    '`if __name__ == "__main__":`'
)


class ScoringPool:
    """Processes that each hold a copy of a model; `predict` shares the pairs out among them.

    model: a `CrossEncoder`, a folder or a hub name; training it afterwards does not change the copies
    devices: one process for each, such as `["cuda:0", "cuda:1"]`; default: all GPUs, or the CPU
    processes: on the CPU, if `devices` is not given; they share its cores; default: up to 4

    Raises `PoolError` if a process cannot start.
    """

    def __init__(self, model: Any, devices: Sequence[Any] | None = None, processes: int | None = None):
        self.devices = _places(devices, processes)
        if not isinstance(model, CrossEncoder):
            model = CrossEncoder(model, device="cpu")
        model.warn_of_new_head()
        self.activation_fn, self.num_labels = model.activation_fn, model.num_labels
        self.max_length, self.label_names = model.max_length, model.label_names
        self.fingerprint: str | None = None  # by which `cached_scores` recognises the model
        with suppress(ValueError):  # an activation of the caller's own
            self.fingerprint = fingerprint(model)
        self.truncated = 0  # pairs cut by the last `predict`
        self._executor: ProcessPoolExecutor | None = None
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "the activation .* is saved as")  # it is applied here
                model.save_pretrained(folder)
            self._start(folder, str(model.model.dtype).removeprefix("torch."))

    def _start(self, folder: str, dtype: str) -> None:
        """Start all processes and wait until each has loaded the model."""
        spawn, count = multiprocessing.get_context("spawn"), len(self.devices)
        queue, ready = spawn.SimpleQueue(), spawn.Barrier(count)
        for device in self.devices:
            queue.put(device)
        threads = max(1, _cores() // max(1, self.devices.count("cpu")))
        arguments = (queue, ready, folder, threads, dtype)
        self._executor = ProcessPoolExecutor(count, spawn, _load, arguments)
        self._results([() for _ in self.devices], _wait_for_all)

    def _results(self, tasks: Sequence[tuple], work: Callable) -> list[Any]:
        """Let the processes do the tasks; the results are in order. Any failure closes the pool."""
        if self._executor is None:
            raise PoolError("the pool is closed; make a new one")
        try:
            futures = [self._executor.submit(work, *task) for task in tasks]
            return [future.result() for future in futures]
        except BaseException as error:
            self.close()
            if not isinstance(error, Exception):  # Ctrl-C
                raise
            failed = f"a process of the pool failed: {type(error).__name__}: {error}"
            raise PoolError(DIED if isinstance(error, BrokenProcessPool) else failed) from error

    def predict(
        self,
        sentences: Any,
        batch_size: int | None = None,
        *,
        activation_fn: Callable | str | None = None,
        apply_softmax: bool = False,
    ) -> np.ndarray:
        """Score N pairs in order, `(N,)` or `(N, C)`; equal to `CrossEncoder.predict` to 1e-5.

        Raises `PoolError` if a process dies or fails; the pool is then closed.
        """
        one_or_more("batch_size", batch_size)
        pairs, single = as_text_pairs(sentences)
        texts = pairs.texts if isinstance(pairs, Pairs) else pairs
        even = -(-len(texts) // (len(self.devices) * CHUNKS_EACH))  # rounded up
        size = max(1, min(LARGEST_CHUNK, even))
        chunks = [(texts[start : start + size], batch_size) for start in range(0, len(texts), size)]
        answers = self._results(chunks, _score)
        self.truncated = sum(cut for _, cut in answers)
        if self.truncated:
            limit = f"max_length={self.max_length} tokens"
            warn_at_call(f"{self.truncated} of {len(texts)} pairs exceed {limit} and were cut", TruncationWarning)
        raw = np.concatenate([np.zeros((0, self.num_labels)), *(scores for scores, _ in answers)])
        scores = self._activated(raw, activation_fn, apply_softmax)
        return scores[0] if single else scores

    __call__ = predict

    def _activated(self, raw: np.ndarray, activation_fn: Callable | str | None, softmax: bool) -> np.ndarray:
        import torch

        activation = find_activation(activation_fn) or self.activation_fn
        scores = activation(torch.as_tensor(raw, dtype=torch.float32)).detach()
        if softmax and self.num_labels > 1:
            scores = scores.softmax(dim=1)
        return (scores[:, 0] if self.num_labels == 1 else scores).numpy()

    def close(self) -> None:
        """End the processes; each finishes the chunk it is at."""
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)
            self._executor = None

    def __enter__(self) -> ScoringPool:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"ScoringPool({', '.join(self.devices) if self._executor else 'closed'})"


def _places(devices: Sequence[Any] | None, processes: int | None) -> list[str]:
    """Choose the device of each process."""
    import torch

    if devices:
        return [str(device) for device in devices]
    if processes is None and torch.cuda.is_available():
        return [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return ["cpu"] * (one_or_more("processes", processes) or min(4, _cores()))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# --- what runs in a process of the pool -----------------------------------------------------------

_held: dict[str, Any] = {}  # the model of this process, or the error that left it without one


def _load(queue: Any, ready: Any, folder: str, threads: int, dtype: str) -> None:
    """Load the model of this process, or keep the error, which the first task hands to the owner."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that owns the pool
    warnings.simplefilter("ignore", UserWarning)  # the owner warns once, about cut pairs and a new head
    threading.Thread(target=_end_with_owner, daemon=True).start()
    _held.update(ready=ready, threads=threads)
    try:
        import torch

        torch.set_num_threads(1)
        _held["model"] = CrossEncoder(folder, device=queue.get())
        _held["model"].model.to(getattr(torch, dtype))
    except Exception as error:
        _held["error"] = error


def _end_with_owner() -> None:
    """End this process if its owner was killed, which nothing else would tell it."""
    owner = multiprocessing.parent_process()
    if owner is not None:
        owner.join()
        os._exit(1)


def _wait_for_all() -> None:
    """Hold this process until every other one has loaded its model, too."""
    _held["ready"].wait()
    if "error" in _held:
        raise _held["error"]


def _score(texts: list[tuple[str, str]], batch_size: int | None) -> tuple[np.ndarray, int]:
    """Return the raw scores `(B, C)` of a chunk and how many of its pairs were cut."""
    model, options = _held["model"], {"threads": _held["threads"], "show_progress_bar": False}
    scores = model.predict(texts, batch_size, activation_fn="identity", **options)
    return scores.reshape(len(texts), -1), model.truncated
