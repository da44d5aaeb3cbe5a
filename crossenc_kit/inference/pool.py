"""Scoring in several processes: one for each GPU, or several on a CPU.

    with ScoringPool(model, processes=2) as pool:
        scores = pool.predict(pairs)

sentence-transformers has `start_multi_process_pool` for it. Here the processes are started afresh ("spawn": a CUDA
device cannot be used in a forked one) from a copy of the model on the disk, idle processes take the next chunk, and
one that dies is an error at once. So a script that makes a pool needs `if __name__ == "__main__":`.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection
from typing import Any

import numpy as np

from crossenc_kit.data.pairs import Pairs, as_text_pairs
from crossenc_kit.errors import PoolError, TruncationWarning
from crossenc_kit.models.cross_encoder import CrossEncoder
from crossenc_kit.models.settings import find_activation
from crossenc_kit.models.tokens import one_or_more
from crossenc_kit.scorers import fingerprint

LARGEST_CHUNK = 4096  # pairs that a process gets at a time
CHUNKS_EACH = 10  # at least so many for each process, where there are many pairs: the last ones end together
GUARD = 'a script must make its pool under `if __name__ == "__main__":`'


@dataclass(frozen=True)
class Worker:
    """A process of the pool, the device it scores on, and this process's end of the pipe to it."""

    process: Any
    device: str
    pipe: Any

    def receive(self) -> Any:
        """What it answers; `PoolError` if it failed or is no longer there."""
        try:
            kind, answer = self.pipe.recv()
        except (EOFError, OSError):
            raise self.death() from None
        if kind == "error":
            message, its_traceback = answer
            raise PoolError(f"a process of the pool, on {self.device}, failed: {message}") from PoolError(its_traceback)
        return answer

    def send(self, task: Any) -> None:
        try:
            self.pipe.send(task)
        except OSError:
            raise self.death() from None

    def death(self) -> PoolError:
        self.process.join(10)  # it closed its pipe, so it is about to end
        code = self.process.exitcode
        how = f"exit code {code}" if code is None or code >= 0 else signal.Signals(-code).name
        hint = {"SIGKILL": " (did memory suffice?)", "exit code 1": f" ({GUARD})"}.get(how, "")
        return PoolError(f"a process of the pool, on {self.device}, died: {how}{hint}")


class ScoringPool:
    """Processes that each hold a copy of a model; `predict` shares the pairs out among them.

    `model`: a `CrossEncoder`, a folder or a hub name. `devices`: a process for each, such as `["cuda:0", "cuda:1"]`;
    or `processes` on the CPU, which share its cores. With neither, all GPUs there are, else up to 4 processes. The
    copies are of now: training the model afterwards does not change them. Raises `PoolError` where one cannot start.
    """

    def __init__(self, model: Any, devices: Sequence[Any] | None = None, processes: int | None = None):
        self.workers: list[Worker] = []
        places = _places(devices, processes)
        if not isinstance(model, (CrossEncoder, str, os.PathLike)):
            name = f"{type(model).__module__}.{type(model).__name__}"
            raise TypeError(f"a pool takes a CrossEncoder of this kit, a folder or a name, got {name}: give its folder")
        if not isinstance(model, CrossEncoder):
            model = CrossEncoder(model, device="cpu")
        if model.untrained_head:
            warnings.warn(f"the head of {model.name!r} is new and untrained: its scores mean nothing yet", stacklevel=2)
        self.activation_fn, self.num_labels, self.max_length = model.activation_fn, model.num_labels, model.max_length
        self.label_names = model.label_names
        self.fingerprint: str | None = None  # by which `cached_scores` knows the copies' model
        with suppress(ValueError):  # an activation of the caller's own
            self.fingerprint = fingerprint(model)
        self.truncated = 0  # pairs cut by the last `predict`
        threads = max(1, _cores() // places.count("cpu")) if "cpu" in places else 1
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "the activation .* is saved as")  # it is applied here
                model.save_pretrained(os.path.join(folder, "model"))
            try:
                for place in places:
                    self.workers.append(_start(os.path.join(folder, "model"), place, threads, str(model.model.dtype)))
                for worker in self.workers:
                    worker.receive()
            except BaseException:
                self.close(kill=True)
                raise

    def predict(
        self,
        sentences: Any,
        batch_size: int | None = None,
        *,
        activation_fn: Callable | str | None = None,
        apply_softmax: bool = False,
        chunk_size: int | None = None,
    ) -> np.ndarray:
        """The scores of N pairs `(N,)` or `(N, C)`, in order: those of `CrossEncoder.predict`, to 1e-5 in float32.

        `chunk_size`: pairs that a process gets at a time. Raises `ValueError` for one below 1 and `DataError` for what
        is no pair; `PoolError` if a process dies or fails: the pool is then closed, and no score is returned.
        """
        if not self.workers:
            raise PoolError("the pool is closed; make a new one")
        one_or_more("batch_size", batch_size), one_or_more("chunk_size", chunk_size)
        pairs, single = as_text_pairs(sentences)
        texts = pairs.texts if isinstance(pairs, Pairs) else pairs
        even = -(-len(texts) // (len(self.workers) * CHUNKS_EACH))
        size = chunk_size or max(1, min(LARGEST_CHUNK, even))
        chunks = [texts[start : start + size] for start in range(0, len(texts), size)]
        try:
            answers = self._share_out(chunks, {"batch_size": batch_size})
        except BaseException:  # answers to this call may still be on their way
            self.close(kill=True)
            raise
        self.truncated = sum(cut for _, cut in answers)
        if self.truncated:
            what = f"{self.truncated} of {len(texts)} pairs exceed max_length={self.max_length} tokens and were cut"
            warnings.warn(what, TruncationWarning, stacklevel=2)
        raw = np.concatenate([scores for scores, _ in answers]) if answers else np.zeros((0, self.num_labels))
        scores = self._activated(raw, activation_fn, apply_softmax)
        return scores[0] if single else scores

    __call__ = predict

    def _share_out(self, chunks: Sequence[list], options: dict[str, Any]) -> list[tuple[np.ndarray, int]]:
        """Raw scores `(n, C)` and the number of cut pairs of each chunk; an idle process takes the next one."""
        answers: list[Any] = [None] * len(chunks)
        waiting = deque(enumerate(chunks))
        busy: dict[Any, tuple[Worker, int]] = {}

        def give(worker: Worker) -> None:
            if waiting:
                number, chunk = waiting.popleft()
                worker.send((chunk, options))
                busy[worker.pipe] = (worker, number)

        for worker in self.workers:
            give(worker)
        while busy:
            for pipe in connection.wait(list(busy)):  # the pipe of a dead process is ready too: it has ended
                worker, number = busy.pop(pipe)
                answers[number] = worker.receive()
                give(worker)
        return answers

    def _activated(self, raw: np.ndarray, activation_fn: Callable | str | None, softmax: bool) -> np.ndarray:
        import torch

        activation = find_activation(activation_fn) or self.activation_fn
        scores = activation(torch.as_tensor(raw, dtype=torch.float32)).detach()
        if softmax and self.num_labels > 1:
            scores = scores.softmax(dim=1)
        return (scores[:, 0] if self.num_labels == 1 else scores).numpy()

    def close(self, kill: bool = False) -> None:
        """End the processes; with `kill` without waiting for what they are at."""
        workers, self.workers = self.workers, []
        for worker in workers:
            if kill:
                worker.process.terminate()
            worker.pipe.close()  # which is how a process learns that there is no more to do
        for worker in workers:
            worker.process.join(10)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()

    def __enter__(self) -> ScoringPool:
        return self

    def __exit__(self, kind: Any, *rest: Any) -> None:
        self.close(kill=kind is not None)

    def __repr__(self) -> str:
        return f"ScoringPool({', '.join(worker.device for worker in self.workers) or 'closed'})"


def _places(devices: Sequence[Any] | None, processes: int | None) -> list[str]:
    """The device of each process."""
    import torch

    if devices is not None and processes is not None:
        raise ValueError("give devices (a process for each) or processes (on the CPU), not both")
    if isinstance(devices, str) or (devices is not None and not devices) or (processes is not None and processes < 1):
        raise ValueError(f"a pool needs a list of devices or a number of processes, got {devices!r} and {processes!r}")
    if devices is not None:
        return [str(device) for device in devices]
    if processes is None and torch.cuda.is_available():
        return [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return ["cpu"] * (processes or min(4, _cores()))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _start(folder: str, device: str, threads: int, dtype: str) -> Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, folder, device, threads, dtype), daemon=True)
    process.start()
    theirs.close()  # the process has its own: when it dies, the pipe ends
    return Worker(process, device, ours)


def _work(pipe: Any, folder: str, device: str, threads: int, dtype: str) -> None:
    """A process of the pool: load the model, then score what comes until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that owns the pool
    warnings.simplefilter("ignore", UserWarning)  # of cut pairs and a new head, which the owner tells once
    try:
        import torch

        torch.set_num_threads(1)
        model = CrossEncoder(folder, device=device)
        model.model.to(getattr(torch, dtype.rpartition(".")[2]))
        pipe.send(("ready", None))
        while True:
            texts, options = pipe.recv()
            scores = model.predict(texts, activation_fn="identity", threads=threads, show_progress_bar=False, **options)
            pipe.send(("scores", (scores.reshape(len(texts), -1), model.truncated)))
    except (EOFError, BrokenPipeError):  # the owner closed the pool, or is gone
        return
    except Exception as error:
        pipe.send(("error", (f"{type(error).__name__}: {error}", traceback.format_exc())))
