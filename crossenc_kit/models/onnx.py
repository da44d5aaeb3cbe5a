"""A classifier in an ONNX file: torch writes it, onnxruntime runs it like a Hugging Face model.

torch's newer exporter follows the model's own code with sizes left open (`torch.export`), so the
graph takes batches of any size and length; the older one records a single run, and freezes every
choice that depends on a size. Attention is written out, which onnxruntime runs faster than torch's
fused operation translated to ONNX.

An int8 layer (see `int8`) becomes QuantizeLinear with a scale per row, MatMulInteger and two scales.
Its scores equal those of the int8 model in torch, except where rounding ties.
"""

from __future__ import annotations

import copy
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from crossenc_kit.errors import BackboneError, need
from crossenc_kit.files import file_sha256
from crossenc_kit.models.int8 import LARGEST, TINY, Int8Linear, int8_linear

FIELDS = ("input_ids", "attention_mask", "token_type_ids")
SLOW = ["SkipLayerNormFusion"]  # 0.61 s with it, 0.54 s without it for the same pairs
OPSET = 20  # the first with GELU as one operation
LIMIT = 2**31  # bytes: protobuf's
# The zero point of unsigned numbers: signed by signed is ten times as slow in onnxruntime.
MIDDLE = 128


class OnnxClassifier(nn.Module):
    """The graph of a file, called as `model(input_ids=..., attention_mask=...).logits` `(B, C)`.

    A batch is cut into runs of equal length, so that the graph sees no padding and a pair's score
    does not depend on the rest. The session has one thread: `predict` runs one batch per core.
    """

    device, dtype = torch.device("cpu"), torch.float32
    sha256: Tensor  # (32,) of the file, so that two models can be told apart by their buffers

    def __init__(self, path: str | os.PathLike, config: Any, provider: str = "CPUExecutionProvider"):
        super().__init__()
        self.path, self.config = Path(path), config
        self.session = open_session(self.path, provider)
        self.wanted = [given.name for given in self.session.get_inputs()]
        self._check(config.num_labels)
        digest = bytearray.fromhex(file_sha256(self.path))
        self.register_buffer("sha256", torch.frombuffer(digest, dtype=torch.uint8))
        self.eval()

    def _check(self, num_labels: int) -> None:
        outputs = {output.name: output.shape for output in self.session.get_outputs()}
        labels = outputs.get("logits", [None])[-1]  # a text if the file leaves the size open
        fits = labels == num_labels or not isinstance(labels, int)
        if "logits" not in outputs or not fits or not set(self.wanted) <= set(FIELDS):
            raise BackboneError(
                f"{str(self.path)!r} does not classify pairs with num_labels={num_labels}: it has "
                f"inputs {', '.join(self.wanted)} and outputs {outputs}; expected inputs among "
                f"{', '.join(FIELDS)} and the output logits"
            )

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> SimpleNamespace:
        segments = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        batch = dict(zip(FIELDS, (input_ids, attention_mask, segments), strict=True))
        sizes = attention_mask.sum(1)  # (B,)
        logits = torch.empty(len(sizes), self.config.num_labels)
        for size in sizes.unique().tolist():
            rows = sizes == size
            real = attention_mask[rows].bool()
            fields = {name: batch[name][rows][real].view(-1, size).numpy() for name in self.wanted}  # (B', size)
            logits[rows] = torch.from_numpy(self.session.run(["logits"], fields)[0])
        return SimpleNamespace(logits=logits)


def open_session(path: Path, provider: str) -> Any:
    """Open a session of one thread; raises `BackboneError` if onnxruntime cannot read the file."""
    runtime = need("onnxruntime", f"the ONNX model {str(path)!r}")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors
    try:
        return runtime.InferenceSession(os.fspath(path), options, providers=[provider], disabled_optimizers=SLOW)
    except Exception as error:  # onnxruntime has a class for each reason, and no common one
        reason = " ".join(str(error).split())[:300]
        raise BackboneError(
            f"onnxruntime cannot open {str(path)!r} ({path.stat().st_size} bytes): {reason}; export the model again"
        ) from error


def write_onnx(model: Any, path: Path, sample: dict[str, Tensor]) -> Path:
    """Write a sequence classifier, float32 or int8, to `path`; the model stays as it is.

    sample: two or more padded pairs `(B, T)`, whose fields become the inputs; the output is
        `logits` `(B, C)`

    Raises `ImportError` without the packages, `ValueError` if torch cannot export the model.
    """
    for package in ("onnx", "onnxscript"):
        need(package, "the export to ONNX")
    size = sum(weight.nbytes for weight in model.state_dict().values())
    if size >= LIMIT:
        raise ValueError(f"an ONNX file holds less than 2 GB, but the weights have {size / 1e9:.1f}")
    whole = copy.deepcopy(model).eval()
    if hasattr(whole, "set_attn_implementation"):
        whole.set_attn_implementation("eager")
    quantized = [module for module in whole.modules() if isinstance(module, Int8Linear)]
    for module in quantized:
        module.operation = _operation()
    table = {torch.ops.crossenc_kit.int8_linear.default: _as_onnx} if quantized else None
    try:
        program = _export(_Logits(whole), {name: sample[name] for name in FIELDS if name in sample}, table)
    except torch.onnx.OnnxExporterError as error:
        cause = error.__cause__ or error
        reason = " ".join(str(cause).split())[:300]
        raise ValueError(
            f"torch cannot export {type(model).__name__} to ONNX ({type(cause).__name__}: {reason}); "
            "use the model as it is, or backend='int8' if the packed pass takes it"
        ) from error
    path.write_bytes(_without_traces(program.model_proto).SerializeToString())
    return path


def _export(model: nn.Module, sample: dict[str, Tensor], table: dict[Any, Any] | None) -> Any:
    """Run torch's exporter with open sizes; `table` translates operations of our own."""
    batch, tokens = torch.export.Dim("batch"), torch.export.Dim("tokens")
    with _quiet(), torch.no_grad():
        return torch.onnx.export(
            model,
            tuple(sample.values()),
            input_names=list(sample),
            output_names=["logits"],
            dynamic_shapes={"fields": tuple({0: batch, 1: tokens} for _ in sample)},
            custom_translation_table=table,
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )


def _without_traces(model: Any) -> Any:
    """Remove the source lines of each operation: they name folders of this machine."""
    for part in (model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    return model


class _Logits(nn.Module):
    """The model as a function of the fields in the order of `FIELDS`."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(self, *fields: Tensor) -> Tensor:
        return self.model(**dict(zip(FIELDS, fields, strict=False))).logits


@cache
def _operation() -> Any:
    """Register `int8_linear` as one operation, which the exporter leaves whole."""

    @torch.library.custom_op("crossenc_kit::int8_linear", mutates_args=())
    def operation(input: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None, factor: Tensor | None) -> Tensor:
        return int8_linear(input, weight, scale, bias, factor)

    @operation.register_fake
    def _(input: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None, factor: Tensor | None) -> Tensor:
        return input.new_empty(*input.shape[:-1], weight.shape[1])

    return operation


def _as_onnx(input: Any, weight: Any, scale: Any, bias: Any = None, factor: Any = None) -> Any:
    """Write `int8_linear` in ONNX operations, for inputs `(B, T, in)` or `(B, in)`."""
    import onnxscript

    op: Any = onnxscript.opset20
    size_in, size_out = weight.shape
    if factor is not None:
        input = op.Mul(input, factor)
    rows = op.Reshape(input, op.Constant(value_ints=[-1, size_in]))
    largest = op.ReduceMax(op.Abs(rows), op.Constant(value_ints=[-1]), keepdims=0)
    largest = op.Max(largest, op.Constant(value_float=TINY))
    row = op.Mul(largest, op.Constant(value_float=1 / LARGEST))  # (B T,)
    middle = op.Cast(op.Constant(value_int=MIDDLE), to=2)  # 2: uint8
    whole = op.QuantizeLinear(rows, row, op.Expand(middle, op.Shape(row)), axis=0)
    product = op.Cast(op.MatMulInteger(whole, weight, middle), to=1)  # 1: float32
    output = op.Mul(op.Mul(product, scale), op.Unsqueeze(row, op.Constant(value_ints=[1])))
    if bias is not None:
        output = op.Add(output, bias)
    outer = op.Slice(op.Shape(input), op.Constant(value_ints=[0]), op.Constant(value_ints=[-1]))
    return op.Reshape(output, op.Concat(outer, op.Constant(value_ints=[size_out]), axis=0))


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's notes on its own parts; errors stay."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
