"""What runs a model: torch in float32 or int8, or onnxruntime in either; which files a folder holds of each."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from crossenc_kit import loading
from crossenc_kit.backbones import EXPORTS, WEIGHTS, BackboneError, find_file

BACKENDS = ("torch", *EXPORTS)
CONFIG = "config.json"
# Per batch on a CPU: enough for full speed of the matrix products, small enough for its caches. int8 is through sooner,
# and what costs it time is memory: up to some hundred tokens malloc gives the same again, beyond it new pages.
CPU_TOKENS = {"torch": 1024, "int8": 384, "onnx": 1024, "onnx-int8": 512}


def load_classifier(
    folder: str,
    where: dict[str, Any],
    changes: dict[str, Any],
    model_kwargs: dict[str, Any],
    seed: int | None,
    backend: str | None,
) -> tuple[Any, dict[str, Any]]:
    """What `loading.load_model` gives, run by `backend`; None: by what the folder holds, its float32 weights first.

    "int8" without a file of it turns the float32 weights into int8 after loading them. `model_kwargs` of "onnx":
    `file_name` (in the folder onnx/) and `provider`, as sentence-transformers has them. Raises `BackboneError` where
    there is no such file, or none that loads.
    """
    kind = backend or _held(folder)
    if kind not in BACKENDS:
        raise ValueError(f"backend is {backend!r}; expected one of {', '.join(BACKENDS)}")
    if kind == "torch":
        _check_weights(folder)
        return loading.load_model(folder, where, changes, model_kwargs, seed)
    path = find_file(folder, _file(kind, model_kwargs), where)
    if path is None and kind == "int8":
        model, new = loading.load_model(folder, where, changes, model_kwargs, seed)
        return to_int8(model), new
    if path is None:
        raise BackboneError(
            f"{folder!r} has no {_file(kind, model_kwargs)}; make it from a float32 model: "
            f'export_model(CrossEncoder("the model"), "a folder", "{kind}", pairs=some_pairs)'
        )
    allowed = {"file_name", "provider"} if kind.startswith("onnx") else set()
    if other := sorted(model_kwargs.keys() - allowed):
        raise ValueError(f"model_kwargs {', '.join(other)}: of no use with {path}, which holds the model as it is")
    config = _read_config(folder, where, changes)
    if kind == "int8":
        return _read_int8(path, config), {}
    from crossenc_kit.onnx_session import OnnxClassifier

    return OnnxClassifier(path, config, model_kwargs.get("provider", "CPUExecutionProvider")), {}


def _file(kind: str, model_kwargs: dict[str, Any]) -> str:
    own = model_kwargs.get("file_name") if kind.startswith("onnx") else None
    return f"onnx/{own}" if own else EXPORTS[kind]


def to_int8(model: Any, ranges: dict[str, Any] | None = None) -> Any:
    """Turn a float32 classifier into int8, in place (see quantization.py), and return it.

    Raises `ValueError` where the packed pass does not take its architecture.
    """
    from crossenc_kit.packed import can_pack
    from crossenc_kit.quantization import quantize

    if not can_pack(model):
        raise ValueError(
            f"backend='int8' runs without padding, which {type(model).__name__} does not: "
            "export it as 'onnx-int8', which takes every architecture that torch can export"
        )
    return quantize(model, ranges)


def _held(folder: str) -> str:
    """The backend of a folder: torch where it has plain weights or is a hub name, else that of its one export."""
    held = _exports_alone(folder)
    if len(held) > 1:
        raise BackboneError(
            f"the folder {folder!r} holds {' and '.join(held)}: choose one, for example "
            f"CrossEncoder({folder!r}, backend={held[0]!r})"
        )
    return held[0] if held else "torch"


def _exports_alone(folder: str) -> list[str]:
    """The backends of a folder's exports; none of a hub name or a folder that has plain weights too."""
    path = Path(folder)
    if not path.is_dir() or any((path / name).is_file() for name in (*WEIGHTS, "adapter_config.json")):
        return []
    return [kind for kind, name in EXPORTS.items() if (path / name).is_file()]


def _check_weights(folder: str) -> None:
    """Raise `BackboneError` for a folder that holds exports and no weights for torch."""
    if held := _exports_alone(folder):
        raise BackboneError(
            f"the folder {folder!r} has no float32 weights for backend='torch', it holds {' and '.join(held)}: "
            f"CrossEncoder({folder!r}, backend={held[0]!r}), or give the folder of the float32 model"
        )


def _read_config(folder: str, where: dict[str, Any], changes: dict[str, Any]) -> Any:
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, **where)
    except (OSError, ValueError) as error:
        raise BackboneError(f"{folder!r} has no {CONFIG} that loads: {error}") from error
    asked = changes.get("num_labels", config.num_labels)
    if asked != config.num_labels:
        raise ValueError(
            f"num_labels={asked}, but the exported model {folder!r} gives {config.num_labels} scores a pair; "
            "change the float32 model and export it again"
        )
    return config


def _read_int8(path: str, config: Any) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    from transformers import AutoModelForSequenceClassification

    from crossenc_kit.quantization import put_weights

    try:
        with loading.quiet_transformers():
            model = AutoModelForSequenceClassification.from_config(config)
        return put_weights(model, load_file(path)).eval()
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise BackboneError(
            f"the int8 weights {path!r} could not be loaded: {reason}; export the model again"
        ) from error


def backend_of(model: Any) -> str:
    """The backend of a classifier: "torch", "int8", "onnx" or "onnx-int8"."""
    from crossenc_kit.onnx_session import OnnxClassifier
    from crossenc_kit.quantization import is_quantized

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
    return loading.best_device() if backend_of(model) == "torch" else "cpu"


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


def save_weights(model: Any, folder: Path, new: dict[str, Any], **options: Any) -> None:
    """What `loading.save_weights` writes, or the file that the model's backend reads, with the configuration."""
    kind = backend_of(model)
    if kind == "torch":
        loading.save_weights(model, folder, new, **options)
        return
    model.config.save_pretrained(folder)
    path = folder / EXPORTS[kind]
    path.parent.mkdir(exist_ok=True)
    if kind == "int8":
        from safetensors.torch import save_file

        save_file({name: weight.contiguous() for name, weight in model.state_dict().items()}, path)
    else:
        shutil.copyfile(model.path, path)
