"""Losses and their gradients are those of sentence-transformers, on the same weights and the same texts."""

import numpy as np
import pytest
import torch
from small_models import fitted
from small_runs import sentences

from crossenc_kit.losses.pointwise import bce_with_logits, cross_entropy

sentence_transformers = pytest.importorskip("sentence_transformers")
from sentence_transformers.cross_encoder import losses  # noqa: E402

WEIGHTS = [0.5, 2.0, 1.0]


@pytest.mark.parametrize(
    ("num_labels", "options"),
    [(1, {}), (1, {"positive": 3.0}), (3, {}), (3, {"weight": WEIGHTS}), (3, {"label_smoothing": 0.2})],
    ids=str,
)
def test_value_and_gradient_of_every_weight(tmp_path, num_labels, options):
    pairs = sentences(9)
    ours = fitted(num_labels)
    ours.save_pretrained(tmp_path)
    theirs = sentence_transformers.CrossEncoder(str(tmp_path), device="cpu")
    theirs.eval()  # no dropout
    scores = ours.scores(ours.tokenize(pairs), np.arange(len(pairs)))
    if num_labels == 1:
        labels, weight = torch.tensor(pairs.labels), options.get("positive")
        found = bce_with_logits(scores[:, 0], labels, weight)
        peer = losses.BinaryCrossEntropyLoss(theirs, pos_weight=None if weight is None else torch.tensor(weight))
    else:
        labels = torch.arange(len(pairs)) % 3
        found = cross_entropy(scores, labels, options.get("weight"), options.get("label_smoothing", 0.0))
        given = {name: torch.tensor(value) if name == "weight" else value for name, value in options.items()}
        peer = losses.CrossEntropyLoss(theirs, **given)
    expected = peer([pairs.left, pairs.right], labels)
    assert found.item() == pytest.approx(expected.item(), abs=1e-5)

    found.backward()
    expected.backward()
    gradients = {n.removeprefix("model."): p.grad for n, p in theirs.named_parameters() if p.grad is not None}
    own = {name: p.grad for name, p in ours.model.named_parameters() if p.grad is not None}
    pairs_of_names = [(name, next(n for n in gradients if n.endswith(name))) for name in own]
    assert len(pairs_of_names) == len(gradients) > 10
    largest = max(float(gradient.abs().max()) for gradient in own.values())
    for name, other in pairs_of_names:
        assert float((own[name] - gradients[other]).abs().max()) < 1e-5 * max(1.0, largest), name
