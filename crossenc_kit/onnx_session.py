"""A classifier in an ONNX file, run by onnxruntime, that stands where a Hugging Face model stands."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from crossenc_kit.backbones import BackboneError

FIELDS = ("input_ids", "attention_mask", "token_type_ids")
INSTALL = 'pip install "crossenc_kit[onnx]"'
# Adding and normalising in one step is slower than in two here: 0.61 against 0.54 s for the same pairs.
SLOW = ["SkipLayerNormFusion"]


class OnnxClassifier(nn.Module):
    """The graph of a file: `model(input_ids=..., attention_mask=...).logits`, float32 `(B, C)` without gradients.

    A batch is cut into runs of equal length, so that the graph sees no padding: a pair's score does not depend on its
    company. The session has one thread; `predict` runs as many batches at a time as there are cores.
    """

    sha256: Tensor

    def __init__(self, path: str | os.PathLike, config: Any, provider: str = "CPUExecutionProvider"):
        super().__init__()
        self.path, self.config = Path(path), config
        self.session = open_session(self.path, provider)
        self.wanted = [given.name for given in self.session.get_inputs()]
        self._check(config.num_labels)
        digest = hashlib.sha256(self.path.read_bytes()).digest()  # what tells one model's weights from another's
        self.register_buffer("sha256", torch.frombuffer(bytearray(digest), dtype=torch.uint8))
        self.eval()

    def _check(self, num_labels: int) -> None:
        unknown = sorted(set(self.wanted) - set(FIELDS))
        outputs = {output.name: output.shape for output in self.session.get_outputs()}
        labels = outputs.get("logits", [None])[-1]
        if unknown or "logits" not in outputs or (isinstance(labels, int) and labels != num_labels):
            told = f"inputs {', '.join(self.wanted)}, outputs {', '.join(outputs)}"
            told += f", {labels} scores a pair" if isinstance(labels, int) else ""
            raise BackboneError(
                f"{str(self.path)!r} is no classifier of pairs with num_labels={num_labels}: it has {told}; "
                f"expected inputs of {', '.join(FIELDS)} and the output logits"
            )

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> SimpleNamespace:
        segments = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        batch = dict(zip(FIELDS, (input_ids, attention_mask, segments), strict=True))
        sizes = attention_mask.sum(1)
        logits = torch.empty(len(sizes), self.config.num_labels)
        for size in sizes.unique().tolist():
            rows = sizes == size
            real = attention_mask[rows].bool()
            fields = {name: batch[name][rows][real].view(-1, size).numpy() for name in self.wanted}  # (B', size)
            logits[rows] = torch.from_numpy(self.session.run(["logits"], fields)[0])
        return SimpleNamespace(logits=logits)

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32


def open_session(path: Path, provider: str = "CPUExecutionProvider") -> Any:
    """A session of one thread; raises `BackboneError` where onnxruntime cannot open the file."""
    runtime = need_onnxruntime(f"the ONNX model {str(path)!r}")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors
    try:
        return runtime.InferenceSession(os.fspath(path), options, providers=[provider], disabled_optimizers=SLOW)
    except Exception as error:  # a kind of its own for each reason, without a common one of its own
        reason = " ".join(str(error).split())[:300]
        raise BackboneError(
            f"onnxruntime cannot open {str(path)!r} ({path.stat().st_size} bytes): {reason}; export the model again"
        ) from error


def need_onnxruntime(what: str) -> Any:
    """The package onnxruntime; raises `ImportError` with the command that installs it."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(f"{what} needs onnxruntime, which is not installed: {INSTALL}") from error
    return onnxruntime
