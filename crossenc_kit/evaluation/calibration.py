"""Calibration: does a probability of 0.8 come true in 8 of 10 rows? One number can repair it.

N pairs, C classes. `(N, C)` holds one score or probability per class, `(N,)` that of class 1 of the
two classes 0 and 1.

Temperature scaling fits one number on held-out pairs that makes a model's probabilities honest. The
last layer of the head is linear, so scores / T come from weights / T and bias / T: the number travels
with the saved model into every library that loads it, and no order of scores changes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from crossenc_kit.data.pairs import as_pairs
from crossenc_kit.errors import DataError
from crossenc_kit.evaluation.metrics import finite_numbers, refuse
from crossenc_kit.models.adapters import is_wrapped
from crossenc_kit.models.cross_encoder import CrossEncoder
from crossenc_kit.scorers import warn_at_call

COLDEST, HOTTEST = 0.01, 100.0  # temperatures beyond these say that the scores are wrong


class ReliabilityCurve(NamedTuple):
    """Hold mean confidence, frequency of being right and number of rows of each bin with rows."""

    confidence: np.ndarray
    frequency: np.ndarray
    count: np.ndarray  # type: ignore[assignment]  # hides tuple.count, which nobody needs here


def softmax(scores: ArrayLike) -> np.ndarray:
    """Turn scores `(N, C)` into probabilities `(N, C)`: exp(s_c) / sum of exp(s)."""
    from scipy import special

    return special.softmax(np.asarray(scores, dtype=float), axis=1)


def sigmoid(scores: ArrayLike) -> np.ndarray:
    """Turn scores of any shape into probabilities: 1 / (1 + exp(-s))."""
    from scipy import special

    return special.expit(np.asarray(scores, dtype=float))


def reliability_curve(probabilities: ArrayLike, labels: ArrayLike, bins: int = 15) -> ReliabilityCurve:
    """Compare confidence with frequency in bins of equal width: (0, 1/M], ..., ((M - 1)/M, 1].

    For `(N, C)`, the confidence is that of the most probable class, and the frequency says how often
    that class is the label. For `(N,)`, the confidence is the probability of class 1 and the
    frequency says how often the label is 1: 0.1 should come true in 1 of 10 rows.
    Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks", 2017.

    Raises `ValueError` naming the first row that holds no probability or no class.
    """
    p, gold = _with_labels(probabilities, labels, "probability")
    refuse((p < 0) | (p > 1), p, "probability", "expected 0 to 1; use softmax or sigmoid on scores")
    if p.ndim == 2:
        sums = p.sum(axis=1)
        refuse(np.abs(sums - 1) > 1e-2, sums, "sum of the probabilities", "use softmax on scores")
        confidence, came_true = p.max(axis=1), p.argmax(axis=1) == gold
    else:
        confidence, came_true = p, gold == 1
    place = np.searchsorted(np.arange(1, bins) / bins, confidence)  # an edge is of the bin below
    _, place, count = np.unique(place, return_inverse=True, return_counts=True)
    mean, frequency = (np.bincount(place, weights=own) / count for own in (confidence, came_true))
    return ReliabilityCurve(mean, frequency, count)


def expected_calibration_error(probabilities: ArrayLike, labels: ArrayLike, bins: int = 15) -> float:
    """Return the ECE: the mean over rows of |frequency - confidence| of the row's bin.

    For `(N, C)` the confidence is that of the most probable class, as in Guo et al., 2017. For `(N,)`
    it is the probability of class 1, which gives another number than the two columns `[1 - p, p]`.
    """
    curve = reliability_curve(probabilities, labels, bins)
    return float(np.average(np.abs(curve.frequency - curve.confidence), weights=curve.count))


def fit_temperature(scores: ArrayLike, labels: ArrayLike) -> float:
    """Find the T in [0.01, 100] that minimises the mean negative log-likelihood of scores / T.

    The scores are `(N, C)` before softmax or `(N,)` before sigmoid. One number for all rows changes
    how sure the model is, never which class is the most probable. Guo et al., 2017, section 4.2. The
    loss is convex in b = 1 / T, with the slope E[score] - score of the label, E under softmax(b s).
    Fit it on held-out rows. Warns (`RuntimeWarning`) if the best T is beyond the bounds.

    Raises `ValueError` if the scores of every row are equal: no temperature changes anything.
    """
    from scipy.optimize import brentq

    s, gold = _with_labels(scores, labels, "score")
    if s.ndim == 1:
        s = np.stack([np.zeros_like(s), s], axis=1)  # sigmoid(s) is the second of softmax([0, s])
    s = s - s.max(axis=1, keepdims=True)  # (N, C)
    if not s.any():
        raise ValueError("the scores of every row are equal, so no temperature changes the probabilities")
    excess = s - s[np.arange(len(gold)), gold][:, None]

    def slope(log_b: float) -> float:
        e = np.exp(np.exp(log_b) * s)
        return float(((e * excess).sum(axis=1) / e.sum(axis=1)).mean())

    low, high = np.log(1 / HOTTEST), np.log(1 / COLDEST)
    if slope(high) <= 0:
        return _at_bound(COLDEST, "the scores separate the classes; fit on more rows")
    if slope(low) >= 0:
        why = "the scores do not predict the labels; check the order of the classes"
        return _at_bound(HOTTEST, why)
    return float(np.exp(-brentq(slope, low, high, xtol=1e-14, rtol=1e-15)))


def _at_bound(temperature: float, why: str) -> float:
    warn_at_call(f"the temperature is at its bound, {temperature}: {why}", RuntimeWarning)
    return temperature


def _with_labels(values: ArrayLike, labels: ArrayLike, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Return finite numbers `(N,)` or `(N, C)`, and one class index per row."""
    x, numbers = finite_numbers(values, what).astype(float), finite_numbers(labels, "label")
    if x.ndim not in (1, 2) or x.shape[1:] == (1,) or not len(x):
        shape = x.shape
        raise ValueError(f"the array of {what} has shape {shape}; expected (N,) or (N, C), C >= 2")
    if numbers.shape != (len(x),):
        raise ValueError(f"labels have shape {numbers.shape}; expected one for each of {len(x)} rows")
    size = 2 if x.ndim == 1 else x.shape[1]
    bad = ~np.isin(numbers, np.arange(size))
    refuse(bad, numbers, "label", f"expected a whole number from 0 to {size - 1}")
    return x, numbers.astype(np.int64)


def calibrate(model: CrossEncoder, data: Any) -> float:
    """Fit a temperature T on pairs the model was not trained on, and divide its raw scores by it.

    A T above 1 makes the model less sure. Returns T; the product of all temperatures is kept in
    `model.config` and in the model card.

    Raises `DataError` without labels, and `ValueError` for labels that are no classes, a head that
    does not end in a linear layer, and an activation other than softmax or sigmoid.
    """
    pairs = as_pairs(data)
    if pairs.labels is None or pairs.labels.ndim != 1:
        raise DataError("calibration needs one class per pair as label")
    head = last_layer(model)
    activation = type(model.activation_fn).__name__
    allowed = "Sigmoid" if model.num_labels == 1 else "Identity"
    if activation != allowed:
        raise ValueError(f"the model's scores go through {activation}; a temperature is defined for {allowed}")
    temperature = fit_temperature(model.predict(pairs, activation_fn="identity"), pairs.labels)
    for parameter in (head.weight, head.bias):
        if parameter is not None:
            parameter.data.div_(temperature)
    earlier = (getattr(model.config, "crossenc_kit", None) or {}).get("temperature", 1.0)
    product = earlier * temperature
    model.config.crossenc_kit = {"temperature": product}
    model.card["calibration"] = {"temperature": product, "fitted on pairs": len(pairs)}
    return temperature


def last_layer(model: CrossEncoder) -> Any:
    """Return the linear layer that gives the raw scores: the adapter's, if it has its own.

    Raises `ValueError` if there is none.
    """
    import torch

    whole = model.network
    name, layer = "", None
    for at, module in whole.named_modules():
        if isinstance(module, torch.nn.Linear) and module.out_features == model.num_labels:
            name, layer = at, module
    if layer is None or name.split(".")[0] == whole.base_model_prefix:
        raise ValueError(f"the head of {type(whole).__name__} does not end in a linear layer")
    if is_wrapped(model.model) and ".modules_to_save." not in name:  # the adapter does not save it
        raise ValueError(f"the adapter has no head of its own beside {name!r}: call merge_adapters(model) first")
    return layer
