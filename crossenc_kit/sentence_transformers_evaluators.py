"""Evaluators under the names of sentence-transformers: the `CE...` of 3.x, and those of 4 and later.

Each is called as `evaluator(model, output_path, epoch, steps)`, scores its pairs with `model.predict`, and appends a
row to `<class>_<name>_results.csv` in `output_path`. The older ones return the float that training selects by, the
later ones a dict whose entry `primary_metric` that is. The numbers are those of this kit's metrics.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crossenc_kit.classification_metrics import accuracy, average_precision, best_threshold, f1_score
from crossenc_kit.evaluation import append_csv, score_pairs
from crossenc_kit.metrics import pearson, spearman
from crossenc_kit.pairs import DataError, as_pairs

logger = logging.getLogger(__name__)


class PairEvaluator:
    """Pairs with labels, a name, and the CSV file that results go to."""

    suffix = ""  # of the CSV file's name

    def __init__(self, sentence_pairs: Sequence[Sequence[str]], labels: Sequence[Any], name: str, write_csv: bool):
        if len(sentence_pairs) != len(labels):
            raise DataError(f"{len(sentence_pairs)} sentence_pairs, but {len(labels)} labels; expected one a pair")
        pairs = as_pairs([(*pair, label) for pair, label in zip(sentence_pairs, labels, strict=True)])
        self.sentence_pairs, self.labels = [list(pair) for pair in pairs.texts], np.asarray(pairs.labels)
        self.prepare(name, write_csv)

    def prepare(self, name: str, write_csv: bool) -> None:
        """Remember the name, and the file that results go to."""
        self.name, self.write_csv = name, write_csv
        self.csv_file = "_".join(part for part in (type(self).__name__, name, f"results{self.suffix}.csv") if part)

    @classmethod
    def from_input_examples(cls, examples: Sequence[Any], **options: Any) -> Any:
        """The evaluator of a list of `InputExample`s; `options` are those of the constructor."""
        return cls([example.texts for example in examples], [example.label for example in examples], **options)

    def scores_of(self, model: Any, pairs: Sequence[Sequence[str]], classes: bool, **options: Any) -> np.ndarray:
        """The model's scores: one a pair `(N,)`, or one a class `(N, C)`; `DataError` where it gives the other."""
        options = {"convert_to_numpy": True, "show_progress_bar": False, **options}
        texts: list[Any] = list(pairs)
        scores = score_pairs(lambda found: model.predict(found, **options), texts)
        if (scores.ndim == 2) != classes:
            kind = ("one score a class", "num_labels of 2 or more") if classes else ("one score a pair", "num_labels=1")
            raise DataError(f"{type(self).__name__} needs {kind[0]}: a model with {kind[1]}; got shape {scores.shape}")
        return scores

    def write(self, output_path: Any, epoch: int, steps: int, row: Mapping[str, float]) -> None:
        """Log a row of results, and append it to the CSV file where there is an output path."""
        said = ", ".join(f"{key} {100 * value:.2f} %" for key, value in row.items() if "Threshold" not in key)
        logger.info("%s%s, epoch %s, steps %s: %s", type(self).__name__, f" {self.name}".rstrip(), epoch, steps, said)
        if output_path is not None and self.write_csv:
            append_csv(Path(output_path) / self.csv_file, {"epoch": epoch, "steps": steps, **row})


class CEBinaryAccuracyEvaluator(PairEvaluator):
    """Accuracy of a model with one score: a score above `threshold` says 1."""

    def __init__(
        self, sentence_pairs: Any, labels: Any, name: str = "", threshold: float = 0.5, write_csv: bool = True
    ):
        super().__init__(sentence_pairs, labels, name, write_csv)
        self.threshold = threshold
        self.labels = _binary(self.labels)

    def __call__(self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1) -> float:
        scores = self.scores_of(model, self.sentence_pairs, classes=False)
        value = accuracy((scores > self.threshold).astype(int), self.labels)
        self.write(output_path, epoch, steps, {"Accuracy": value})
        return value


class CEBinaryClassificationEvaluator(PairEvaluator):
    """Average precision of a model with one score, beside the best accuracy and F1 over all thresholds."""

    def __init__(
        self,
        sentence_pairs: Any,
        labels: Any,
        name: str = "",
        show_progress_bar: bool | None = False,
        write_csv: bool = True,
    ):
        super().__init__(sentence_pairs, labels, name, write_csv)
        self.show_progress_bar = bool(show_progress_bar)
        self.labels = _binary(self.labels)

    def __call__(self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1) -> float:
        scores = self.scores_of(model, self.sentence_pairs, classes=False, show_progress_bar=self.show_progress_bar)
        found = _binary_metrics(scores, self.labels)
        self.write(output_path, epoch, steps, {_title(key): value for key, value in found.items()})
        return found["average_precision"]


class CECorrelationEvaluator(PairEvaluator):
    """Spearman's correlation of scores and labels, beside Pearson's."""

    def __init__(self, sentence_pairs: Any, scores: Any, name: str = "", write_csv: bool = True):
        super().__init__(sentence_pairs, scores, name, write_csv)
        self.scores = self.labels

    def __call__(self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1) -> float:
        scores = self.scores_of(model, self.sentence_pairs, classes=False)
        found = {"Pearson_Correlation": pearson(scores, self.scores)}
        found["Spearman_Correlation"] = spearman(scores, self.scores)
        self.write(output_path, epoch, steps, found)
        return found["Spearman_Correlation"]


class CEF1Evaluator(PairEvaluator):
    """F1 of a model with one score a class: of class 1 for two classes, else the mean over the classes (macro)."""

    def __init__(
        self,
        sentence_pairs: Any,
        labels: Any,
        *,
        batch_size: int = 32,
        show_progress_bar: bool = False,
        name: str = "",
        write_csv: bool = True,
    ):
        super().__init__(sentence_pairs, labels, name, write_csv)
        self.batch_size, self.show_progress_bar = batch_size, show_progress_bar
        if len(np.unique(self.labels)) < 2:
            raise ValueError("F1 needs at least two distinct labels, got one; add pairs of the others")

    def __call__(self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1) -> float:
        options = {"batch_size": self.batch_size, "show_progress_bar": self.show_progress_bar}
        predicted = self.scores_of(model, self.sentence_pairs, classes=True, **options).argmax(axis=1)
        kinds = ["binary"] if len(np.unique(self.labels)) == 2 else ["macro", "micro", "weighted"]
        found = {f"{kind.title()} F1 score": f1_score(predicted, self.labels, kind) for kind in kinds}
        self.write(output_path, epoch, steps, found)
        return next(iter(found.values()))


class CESoftmaxAccuracyEvaluator(PairEvaluator):
    """Accuracy of a model with one score a class: the class with the highest score."""

    def __init__(self, sentence_pairs: Any, labels: Any, name: str = "", write_csv: bool = True):
        super().__init__(sentence_pairs, labels, name, write_csv)

    def __call__(self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1) -> float:
        value = accuracy(self.scores_of(model, self.sentence_pairs, classes=True).argmax(axis=1), self.labels)
        self.write(output_path, epoch, steps, {"Accuracy": value})
        return value


class LaterEvaluator(PairEvaluator):
    """An evaluator that returns a dict, with the name before every key; `primary_metric` is the key to select by."""

    primary_metric = ""

    def answer(self, found: Mapping[str, float], primary: str) -> dict[str, float]:
        """The results as they are returned, and `primary_metric` set."""
        prefix = f"{self.name}_" if self.name else ""
        self.primary_metric = prefix + primary
        return {prefix + key: float(value) for key, value in found.items()}


class CrossEncoderClassificationEvaluator(LaterEvaluator):
    """One score: average precision, best accuracy and F1. One score a class: macro, micro and weighted F1."""

    def __init__(
        self,
        sentence_pairs: Any,
        labels: Any,
        *,
        name: str = "",
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        write_csv: bool = True,
    ):
        super().__init__(sentence_pairs, labels, name, write_csv)
        self.options = {"batch_size": batch_size, "show_progress_bar": bool(show_progress_bar)}

    def __call__(
        self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1
    ) -> dict[str, float]:
        classes = model.num_labels > 1
        scores = self.scores_of(model, self.sentence_pairs, classes, **self.options)
        if classes:
            kinds = ("macro", "micro", "weighted")
            found = {f"f1_{kind}": f1_score(scores.argmax(axis=1), self.labels, kind) for kind in kinds}
            row = {f"{kind.title()}_F1": found[f"f1_{kind}"] for kind in kinds}
        else:
            found = _binary_metrics(scores, _binary(self.labels))
            row = {_title(key): value for key, value in found.items()}
        self.write(output_path, epoch, steps, row)
        return self.answer(found, "f1_macro" if classes else "average_precision")


class CrossEncoderCorrelationEvaluator(LaterEvaluator):
    """Pearson's and Spearman's correlation of scores and labels; Spearman's is the one to select by."""

    def __init__(
        self,
        sentence_pairs: Any,
        scores: Any,
        name: str = "",
        *,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        write_csv: bool = True,
    ):
        super().__init__(sentence_pairs, scores, name, write_csv)
        self.scores = self.labels
        self.options = {"batch_size": batch_size, "show_progress_bar": bool(show_progress_bar)}
        self.answer({}, "spearman")

    def __call__(
        self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1
    ) -> dict[str, float]:
        scores = self.scores_of(model, self.sentence_pairs, classes=False, **self.options)
        found = {"pearson": pearson(scores, self.scores), "spearman": spearman(scores, self.scores)}
        self.write(output_path, epoch, steps, {f"{key.title()}_Correlation": value for key, value in found.items()})
        return self.answer(found, "spearman")


def _binary(labels: Any) -> np.ndarray:
    """Labels as 0 and 1; raises `DataError` naming the first that is neither."""
    values = np.asarray(labels)
    wrong = np.flatnonzero(~np.isin(values, (0, 1)))
    if len(wrong):
        raise DataError(f"row {wrong[0]}: the label is {values[wrong[0]]}, expected 0 or 1")
    return values.astype(int)


def _binary_metrics(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Accuracy and F1 at their best thresholds, precision and recall at F1's, and average precision."""
    by_accuracy, by_f1 = best_threshold(scores, labels, "accuracy"), best_threshold(scores, labels, "f1")
    found = {"accuracy": by_accuracy.value, "accuracy_threshold": by_accuracy.threshold}
    found |= {"f1": by_f1.value, "f1_threshold": by_f1.threshold, "precision": by_f1.precision, "recall": by_f1.recall}
    return {**found, "average_precision": average_precision(scores, labels)}


def _title(key: str) -> str:
    """A metric as the heading of a CSV column: Accuracy_Threshold."""
    return "_".join(word.capitalize() for word in key.split("_"))
