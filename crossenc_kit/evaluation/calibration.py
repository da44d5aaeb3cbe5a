"""Calibration: does a probability of 0.8 come true in 8 of 10 rows, and the one number that mends it.

N pairs, C classes. `(N, C)` is one score or probability a class; `(N,)` is that of class 1 of the two
classes 0 and 1. Every function raises `ValueError` naming the first bad row.

Temperature scaling: one number, fitted on held-out pairs, makes a model's probabilities honest.

The number is folded into the head, whose last layer is linear: scores / T comes from weights / T and bias / T. So
it travels with the saved model, into every library that loads it, and no order of scores changes.
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from crossenc_kit.data.pairs import as_pairs
from crossenc_kit.errors import DataError
from crossenc_kit.evaluation.metrics import finite_numbers, refuse
from crossenc_kit.models.adapters import is_wrapped
from crossenc_kit.models.cross_encoder import CrossEncoder

COLDEST, HOTTEST = 0.01, 100.0


class ReliabilityCurve(NamedTuple):
    """Mean confidence, frequency of being right and number of rows of each bin that has rows, rising in confidence."""

    confidence: np.ndarray
    frequency: np.ndarray
    count: np.ndarray  # type: ignore[assignment]  # hides the method of tuples, which nobody needs here


def softmax(scores: ArrayLike) -> np.ndarray:
    """Scores `(N, C)` as probabilities `(N, C)`: exp(s_c) / sum of exp(s), computed without overflow."""
    s = finite_numbers(scores, "score").astype(float)
    if s.ndim != 2:
        raise ValueError(f"scores have shape {s.shape}; softmax needs (N, C)")
    e = np.exp(s - s.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def sigmoid(scores: ArrayLike) -> np.ndarray:
    """Scores of any shape as probabilities: 1 / (1 + exp(-s)), computed without overflow."""
    s = finite_numbers(scores, "score").astype(float)
    e = np.exp(-np.abs(s))
    return np.where(s >= 0, 1 / (1 + e), e / (1 + e))


def reliability_curve(probabilities: ArrayLike, labels: ArrayLike, bins: int = 15) -> ReliabilityCurve:
    """Confidence against frequency in `bins` bins of equal width, (0, 1/M], ..., ((M - 1)/M, 1].

    `probabilities` `(N, C)`: the confidence is that of the most probable class (the first of equal ones), and
    the frequency is how often that class is the label. `(N,)`: the confidence is the probability of class 1, and
    the frequency is how often the label is 1, so that a probability of 0.1 should come true in 1 of 10 rows.
    Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks", 2017. Labels `(N,)`.
    """
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    p, gold = _with_labels(probabilities, labels, "probability")
    refuse((p < 0) | (p > 1), p, "probability", "expected a number from 0 to 1; use softmax or sigmoid on scores")
    if p.ndim == 2:
        sums = p.sum(axis=1)
        refuse(np.abs(sums - 1) > 1e-2, sums, "sum of the probabilities", "expected 1; use softmax on scores")
        confidence, came_true = p.max(axis=1), p.argmax(axis=1) == gold
    else:
        confidence, came_true = p, gold == 1
    place = np.searchsorted(np.arange(1, bins) / bins, confidence)  # an edge belongs to the bin below it
    _, place, count = np.unique(place, return_inverse=True, return_counts=True)
    mean, frequency = (np.bincount(place, weights=column) / count for column in (confidence, came_true))
    return ReliabilityCurve(mean, frequency, count)


def expected_calibration_error(probabilities: ArrayLike, labels: ArrayLike, bins: int = 15) -> float:
    """ECE: the mean over all rows of |frequency - confidence| of the row's bin; see `reliability_curve`.

    `(N, C)`: the confidence of the most probable class, as in Guo et al. 2017. `(N,)`: the probability of class 1
    against the frequency of class 1, which is not the same number as for the two columns `[1 - p, p]`.
    """
    curve = reliability_curve(probabilities, labels, bins)
    return float(np.average(np.abs(curve.frequency - curve.confidence), weights=curve.count))


def fit_temperature(scores: ArrayLike, labels: ArrayLike) -> float:
    """The temperature T that minimises the mean negative log-likelihood of softmax(scores / T), in [0.01, 100].

    `scores`: `(N, C)`, or `(N,)` for sigmoid(scores / T); labels `(N,)`. One number for all rows: it changes how sure
    the model is, never which class is the most probable. Guo et al. 2017, section 4.2. Fit it on held-out rows.
    The loss is convex in b = 1 / T, so the zero of its slope, the mean of E[score] - score of the label under
    softmax(b scores), is found by halving. Warns (`RuntimeWarning`) and returns the bound where the best T is beyond
    it: below where the scores separate the classes, above where they do not predict the labels. Raises `ValueError`
    where the scores of every row are equal, so that no temperature changes the probabilities.
    """
    s, gold = _with_labels(scores, labels, "score")
    if s.ndim == 1:
        s = np.stack([np.zeros_like(s), s], axis=1)  # sigmoid(s) is the second of softmax([0, s])
    s = s - s.max(axis=1, keepdims=True)
    if not s.any():
        raise ValueError("the scores of every row are equal, so no temperature changes the probabilities")
    excess = s - s[np.arange(len(gold)), gold][:, None]

    def slope(b: float) -> float:
        e = np.exp(b * s)
        return float(((e * excess).sum(axis=1) / e.sum(axis=1)).mean())

    low, high = 1 / HOTTEST, 1 / COLDEST
    if slope(high) <= 0:
        return _at_bound(COLDEST, "the scores separate the classes; fit on more rows")
    if slope(low) >= 0:
        return _at_bound(HOTTEST, "the scores do not predict the labels; check the order of the classes")
    for _ in range(50):  # each halves the distance of the logarithms, 9.2 at first
        middle = float(np.sqrt(low * high))
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return float(1 / np.sqrt(low * high))


def _at_bound(temperature: float, why: str) -> float:
    warnings.warn(f"the temperature is at its bound, {temperature}: {why}", RuntimeWarning, stacklevel=3)
    return temperature


def _with_labels(values: ArrayLike, labels: ArrayLike, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Finite numbers `(N,)` or `(N, C)` and one class index a row."""
    x, numbers = finite_numbers(values, what).astype(float), finite_numbers(labels, "label")
    if x.ndim not in (1, 2) or (x.ndim == 2 and x.shape[1] < 2):
        raise ValueError(f"the array of {what} has shape {x.shape}; expected (N,), or (N, C) with C at least 2")
    if numbers.shape != (len(x),):
        raise ValueError(f"labels have shape {numbers.shape}; expected one label for each of {len(x)} rows")
    if not len(x):
        raise ValueError("there are no rows")
    size = 2 if x.ndim == 1 else x.shape[1]
    bad = (numbers < 0) | (numbers >= size) | (numbers != np.floor(numbers))
    refuse(bad, numbers, "label", f"expected a whole number from 0 to {size - 1}")
    return x, numbers.astype(np.int64)


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

    whole = model.network
    linear = [(name, module) for name, module in whole.named_modules() if isinstance(module, torch.nn.Linear)]
    name, layer = next(((n, m) for n, m in reversed(linear) if m.out_features == model.num_labels), ("", None))
    if layer is None or name.split(".")[0] == whole.base_model_prefix:
        raise ValueError(f"the head of {type(whole).__name__} does not end in a linear layer")
    if is_wrapped(model.model) and ".modules_to_save." not in name:  # the base model's, which no adapter saves
        raise ValueError(f"the adapter has no head of its own beside {name!r}: call merge_adapters(model) first")
    return layer
