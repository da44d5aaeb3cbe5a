"""What tests of the sentence-transformers forms share: models with given scores, evaluators, `fit`."""

import csv
import inspect

import numpy as np
import pytest
import torch

from crossenc_kit import (
    CEBinaryAccuracyEvaluator,
    CEBinaryClassificationEvaluator,
    CECorrelationEvaluator,
    CEF1Evaluator,
    CERerankingEvaluator,
    CESoftmaxAccuracyEvaluator,
    CrossEncoder,
    CrossEncoderClassificationEvaluator,
    CrossEncoderCorrelationEvaluator,
    CrossEncoderRerankingEvaluator,
)

OLDER = [CEBinaryAccuracyEvaluator, CEBinaryClassificationEvaluator, CECorrelationEvaluator]
OLDER += [CEF1Evaluator, CESoftmaxAccuracyEvaluator]
LATER = [CrossEncoderClassificationEvaluator, CrossEncoderCorrelationEvaluator]
OF_PAIRS = pytest.mark.parametrize("kind", OLDER + LATER)
OF_SAMPLES = pytest.mark.parametrize("kind", [CERerankingEvaluator, CrossEncoderRerankingEvaluator])


class Model:
    """A model whose scores are given: in the order of the pairs, or by the second text; it notes how it was called."""

    def __init__(self, scores, num_labels=1):
        self.scores, self.num_labels, self.calls = scores, num_labels, []
        self.model_card_data = self  # for the evaluators of sentence-transformers

    def predict(self, pairs, **options):
        self.calls.append((pairs, options))
        if isinstance(self.scores, dict):
            return np.array([self.scores[right] for _, right in pairs])
        return np.asarray(self.scores)

    def set_evaluation_metrics(self, *_):
        pass


def saying(classes, num_labels):
    """A model whose highest score is that of the given classes."""
    return Model(np.eye(num_labels)[classes] - 0.5, num_labels)


def pairs_of(labels):
    return [[f"left {row}", f"right {row}"] for row in range(len(labels))]


def of(kind, labels, *options, **named):
    """An evaluator of pairs with the given labels."""
    return kind(pairs_of(labels), labels, *options, **named)


def rows_of(folder, name):
    with open(folder / name, newline="") as file:
        header, *rows = csv.reader(file)
    return header, [[float(cell) for cell in row] for row in rows]


def spelled(kind):
    """The arguments of a constructor, in words."""
    parameters = [p.replace(annotation=p.empty) for p in inspect.signature(kind).parameters.values()]
    return str(inspect.Signature(parameters))[1:-1]


GOOD = {"query": "q", "positive": ["p"], "negative": ["n", "m"]}
STAGE = {"query": "q", "positive": ["p"], "documents": ["x", "p"]}


# --- fit ------------------------------------------------------------------------------------------

SCORED = [("a cat", "a dog", 0.3), ("the sun", "a star", 0.9), ("one two", "three", 0.0), ("red", "green blue", 0.6)]


def fresh(num_labels=1, dropout=True):
    changes = {} if dropout else {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return CrossEncoder("tiny", num_labels=num_labels, seed=0, device="cpu", config_args=changes)


QUIET = {"warmup_steps": 0, "show_progress_bar": False}


def weights(model):
    return {name: tensor.clone() for name, tensor in model.model.state_dict().items()}


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)
