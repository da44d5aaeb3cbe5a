"""Temperature scaling: one number, fitted on held-out pairs, makes a model's probabilities honest.

The number is folded into the head, whose last layer is linear: scores / T comes from weights / T and bias / T. So
it travels with the saved model, into every library that loads it, and no order of scores changes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from crossenc_kit.adapters import is_wrapped, unwrap
from crossenc_kit.calibration import fit_temperature
from crossenc_kit.model import CrossEncoder
from crossenc_kit.pairs import DataError, as_pairs


def calibrate(model: CrossEncoder, data: Any) -> float:
    """Fit a temperature T on labelled pairs that the model was not trained on, and divide its raw scores by it.

    T minimises the cross-entropy of softmax(scores / T), of sigmoid(score / T) for one label; above 1 it makes
    the model less sure. Returns T; the product of all is kept in `model.config` and in the card. Guo, Pleiss, Sun
    and Weinberger, "On Calibration of Modern Neural Networks", 2017. Raises `DataError` for labels that are no
    classes, `ValueError` for a model whose head does not end in a linear layer or whose activation is another.
    """
    pairs = as_pairs(data)
    if pairs.labels is None or pairs.labels.ndim != 1:
        raise DataError("calibration needs one class a pair as label")
    classes = max(2, model.num_labels)
    wrong = np.flatnonzero(~np.isin(pairs.labels, np.arange(classes)))
    if len(wrong):
        raise DataError(f"row {wrong[0]}: the label is {pairs.labels[wrong[0]]}, expected 0 to {classes - 1}")
    head = last_layer(model)
    activation, allowed = type(model.activation_fn).__name__, "Sigmoid" if model.num_labels == 1 else "Identity"
    if activation != allowed:
        raise ValueError(f"the model's scores go through {activation}; a temperature is defined for {allowed}")
    temperature = fit_temperature(model.predict(pairs, activation_fn="identity"), pairs.labels)
    for parameter in (head.weight, head.bias):
        if parameter is not None:
            parameter.data.div_(temperature)
    earlier = (getattr(model.config, "crossenc_kit", None) or {}).get("temperature", 1.0)
    model.config.crossenc_kit = {"temperature": earlier * temperature}
    model.card["calibration"] = {"temperature": earlier * temperature, "fitted on pairs": len(pairs)}
    return temperature


def last_layer(model: CrossEncoder) -> Any:
    """The linear layer that gives the raw scores, the adapter's where it has its own; `ValueError` if there is none."""
    import torch

    whole = unwrap(model.model)
    linear = [(name, module) for name, module in whole.named_modules() if isinstance(module, torch.nn.Linear)]
    name, layer = next(((n, m) for n, m in reversed(linear) if m.out_features == model.num_labels), ("", None))
    if layer is None or name.split(".")[0] == whole.base_model_prefix:
        raise ValueError(f"the head of {type(whole).__name__} does not end in a linear layer")
    if is_wrapped(model.model) and ".modules_to_save." not in name:  # the base model's, which no adapter saves
        raise ValueError(f"the adapter has no head of its own beside {name!r}: call merge_adapters(model) first")
    return layer
