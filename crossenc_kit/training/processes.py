"""One process or many: which micro-batches are mine, and sums across processes.

`torchrun` or `accelerate launch` start W processes; accelerate's `PartialState` joins them and picks device and
backend. Each process takes every W-th micro-batch, and gradients are summed once per step.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

Item = TypeVar("Item")
BUCKET = 25_000_000  # numbers summed in one call, 100 MB of float32


@dataclass(frozen=True)
class Processes:
    """This process's rank among `count`, and its device (None: the model's own)."""

    rank: int = 0
    count: int = 1
    device: Any = None

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def lanes(self, micro_batches: Sequence[Item]) -> list[list[tuple[int, Item]]]:
        """Number the micro-batches and take this process's, in lanes whose gradients are summed apart.

        Process r of W has one lane, k % W == r. A single process has two, as two processes would: sums of
        floats depend on their order, and so one process and two give the same bits.
        """
        numbered = list(enumerate(micro_batches))
        if self.count > 1:
            return [[(k, batch) for k, batch in numbered if k % self.count == self.rank]]
        return [lane for lane in (numbered[0::2], numbered[1::2]) if lane]

    def sum(self, values: list[float]) -> list[float]:
        """Sum each number over all processes, in float64."""
        if self.count == 1:
            return values
        import torch

        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(tensor)
        return tensor.tolist()

    def from_main(self, values: list[float]) -> list[float]:
        """Give every process the main one's numbers."""
        return self.sum(values if self.is_main else [0.0] * len(values))

    def share(self, tensors: Iterable[Any]) -> None:
        """Broadcast rank 0's tensors, so that randomly initialised weights agree."""
        if self.count > 1:
            import torch

            for tensor in tensors:
                torch.distributed.broadcast(tensor, 0)

    def check_same(self, value: Any, what: str) -> None:
        """Raise `RuntimeError` in every process if any of them has another value than the main one."""
        digest = hashlib.blake2b(repr(value).encode(), digest_size=6).digest()
        number = float(int.from_bytes(digest, "little"))  # 48 bits, exact in float64
        if self.sum([float(number != self.from_main([number])[0])])[0]:
            raise RuntimeError(
                f"{what} is not the same in all {self.count} processes, so that each would train on something else; "
                "make it from fixed seeds and sorted file names"
            )

    def sum_gradients(self, parameters: Sequence[Any]) -> None:
        """Replace every gradient by its sum over all processes; without one anywhere it stays None."""
        if self.count == 1:
            return
        import torch
        from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors

        used = self.sum([float(parameter.grad is not None) for parameter in parameters])
        shared = [parameter for parameter, count in zip(parameters, used, strict=True) if count]
        for parameter in shared:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        for bucket in buckets([parameter.grad for parameter in shared]):
            flat = _flatten_dense_tensors(bucket)
            torch.distributed.all_reduce(flat)
            for gradient, total in zip(bucket, _unflatten_dense_tensors(flat, bucket), strict=True):
                gradient.copy_(total)

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.count > 1:
            import torch

            torch.distributed.barrier()


def join() -> Processes:
    """Join the processes that a launcher started; without a launcher there is just this one.

    Raises `RuntimeError` if the processes do not find each other: each would train alone, unnoticed.
    """
    expected = int(os.environ.get("WORLD_SIZE", "1"))
    if expected == 1:
        return Processes()
    import torch
    from accelerate import PartialState

    state = PartialState() if torch.cuda.is_available() else PartialState(cpu=True)  # cpu: gloo
    if state.num_processes != expected:
        raise RuntimeError(
            f"{expected} processes were started, but this one sees {state.num_processes} ({state.distributed_type}); "
            "start them with torchrun or accelerate launch, and train in no other way before"
        )
    return Processes(state.process_index, state.num_processes, state.device)


def buckets(tensors: Sequence[Any]) -> list[list[Any]]:
    """Put tensors of one type together, at most `BUCKET` numbers (or one larger tensor) each."""
    found: list[list[Any]] = []
    size = 0
    for tensor in tensors:
        if not found or size + tensor.numel() > BUCKET or found[-1][0].dtype != tensor.dtype:
            found.append([])
            size = 0
        found[-1].append(tensor)
        size += tensor.numel()
    return found


def take_gradients(parameters: Sequence[Any]) -> list[Any]:
    """Take the gradients away from the parameters."""
    gradients = [parameter.grad for parameter in parameters]
    for parameter in parameters:
        parameter.grad = None
    return gradients


def add_gradients(parameters: Sequence[Any], gradients: Sequence[Any]) -> None:
    """Add gradients taken earlier to the present ones."""
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None:
            parameter.grad = gradient if parameter.grad is None else gradient.add_(parameter.grad)
