"""Reports of scorers whose answers are given or random."""

import numpy as np

from crossenc_kit.data.pairs import Pairs
from crossenc_kit.evaluation.classification import evaluate_classification

NLI = ("entailment", "neutral", "contradiction")
# Predicted 0, 0, 1, 2, 2 of the labels 0, 1, 1, 2, 0: three of five are right.
LOGITS = [[2, 0, 0], [1, 0, 0], [0, 3, 0], [0, 0, 1], [0, 0, 5]]
LABELS = [0, 1, 1, 2, 0]


class Scorer:
    """A scorer that answers `scores`, whatever the pairs, and may name its classes."""

    def __init__(self, scores, label_names=None):
        self.scores, self.asked = np.asarray(scores, float), 0
        if label_names:
            self.label_names = label_names

    def __call__(self, pairs):
        self.asked += 1
        return self.scores


def pairs_of(labels, **more):
    size = len(labels)
    return Pairs([f"l{i}" for i in range(size)], [f"r{i}" for i in range(size)], np.asarray(labels), **more)


def evaluate(scores, labels=LABELS, label_names=(), **options):
    return evaluate_classification(Scorer(scores), pairs_of(labels, label_names=label_names), **options)


def random_classes(size=200, classes=3, seed=0, noise=1.0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=size)
    return 2 * np.eye(classes)[labels] + noise * rng.normal(size=(size, classes)), labels
