"""Evaluators under the names of sentence-transformers: the `CE...` of 3.x, and those of 4 and later.

Each is called as `evaluator(model, output_path, epoch, steps)`, scores its pairs with `model.predict`, and appends a
row to `<class>_<name>_results.csv` in `output_path`. The older ones return the float that training selects by, the
later ones a dict whose entry `primary_metric` that is. The numbers are those of this kit's metrics, which agree with
sentence-transformers but for the differences named below. Data or scores that give no number raise `DataError`:
pairs and labels when the evaluator is made, scores when it is called. A `CrossEncoder` has no `prompt_name`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crossenc_kit.data.pairs import InputExample, as_text_pairs, check_label
from crossenc_kit.errors import DataError
from crossenc_kit.evaluation.metrics import accuracy, average_precision, best_threshold, f1_score, pearson, spearman
from crossenc_kit.evaluation.similarity import append_csv
from crossenc_kit.scorers import as_scorer, check_finite

Results = dict[str, float]
logger = logging.getLogger(__name__)


class Evaluator:
    """A name, the CSV file that results go to, and how a model is asked for its scores."""

    primary_metric = ""  # of those that return a dict: the key to select by

    def __init__(self, name: str, write_csv: bool, suffix: str = ""):
        self.name, self.write_csv = name, write_csv
        self.csv_file = "_".join(part for part in (type(self).__name__, name, f"results{suffix}.csv") if part)

    def scores_of(
        self, model: Any, pairs: Any, classes: bool, where: Callable[[int], str] = "row {}".format, **options: Any
    ) -> np.ndarray:
        """The scores of a model, in its own precision, or of a function of pairs: `(N,)`, or `(N, C)` of classes.

        `options` go to `model.predict`, a function gets the pairs alone; `where` puts a pair's index into words.
        Raises `DataError` where there is another number of outputs, or a score is not finite.
        """
        call = as_scorer(model)
        asked = {} if call is model else {"convert_to_numpy": True, "show_progress_bar": False, **options}
        scores = np.asarray(call(pairs, **asked))
        if scores.ndim != 1 + classes or len(scores) != len(pairs) or (classes and scores.shape[1] < 2):
            kind, count = ("class", " of 2 or more") if classes else ("pair", "=1")
            needs = f"{type(self).__name__} needs one score a {kind}, from a model with num_labels{count}"
            raise DataError(f"{needs}; got scores of shape {scores.shape} for {len(pairs)} pairs")
        check_finite(scores, where, "the model")
        return scores

    def write(self, output_path: Any, epoch: int, steps: int, row: Mapping[str, float]) -> None:
        """Log a row of results, and append it to the CSV file where there is an output path."""
        said = ", ".join(f"{key} {value:.4f}" for key, value in row.items())
        logger.info("%s%s, epoch %s, steps %s: %s", type(self).__name__, f" {self.name}".rstrip(), epoch, steps, said)
        if output_path is not None and self.write_csv:
            append_csv(Path(output_path) / self.csv_file, {"epoch": epoch, "steps": steps, **row})

    def answer(self, found: Mapping[str, float], primary: str) -> Results:
        """The results as a dict with the name before every key; sets `primary_metric`."""
        prefix = f"{self.name}_" if self.name else ""
        self.primary_metric = prefix + primary
        return {prefix + key: float(value) for key, value in found.items()}


class PairEvaluator(Evaluator):
    """An evaluator of N pairs with one label each; raises `DataError` naming the first row that is not that."""

    def __init__(self, sentence_pairs: Sequence[Sequence[str]], labels: Sequence[Any], name: str, write_csv: bool):
        super().__init__(name, write_csv)
        if len(sentence_pairs) != len(labels):
            raise DataError(f"{len(sentence_pairs)} sentence_pairs, but {len(labels)} labels; expected one a pair")
        if not len(labels):
            raise DataError("there are no sentence_pairs to score")
        texts: Any = as_text_pairs([InputExample(texts=pair) for pair in sentence_pairs])[0]
        self.sentence_pairs = [list(pair) for pair in texts]
        self.labels = np.asarray([_number(label, row) for row, label in enumerate(labels)])

    @classmethod
    def from_input_examples(cls, examples: Sequence[Any], **options: Any) -> Any:
        """The evaluator of a list of `InputExample`s; `options` are those of the constructor."""
        return cls([example.texts for example in examples], [example.label for example in examples], **options)

    def predicted_of(self, model: Any, **options: Any) -> np.ndarray:
        """The class with the highest score of each pair, `(N,)`; `DataError` where a label is none of the model's."""
        scores = self.scores_of(model, self.sentence_pairs, classes=True, **options)
        _classes(self.labels, scores.shape[1])
        return scores.argmax(axis=1)


class CEBinaryAccuracyEvaluator(PairEvaluator):
    """Accuracy of a model with one score: a score above `threshold` says 1, one at the threshold 0."""

    def __init__(
        self, sentence_pairs: Any, labels: Any, name: str = "", threshold: float = 0.5, write_csv: bool = True
    ):
        super().__init__(sentence_pairs, labels, name, write_csv)
        self.threshold = threshold
        self.labels = _classes(self.labels, 2)

    def __call__(self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1) -> float:
        scores = self.scores_of(model, self.sentence_pairs, classes=False)
        value = accuracy((scores > self.threshold).astype(int), self.labels)
        self.write(output_path, epoch, steps, {"Accuracy": value})
        return value


class CEBinaryClassificationEvaluator(PairEvaluator):
    """Average precision of a model with one score, beside the best accuracy and F1 over all thresholds.

    Labels are 0 and 1, and both occur. All thresholds are tried, and of equally good ones the highest counts:
    sentence-transformers 3.4 leaves out those above and below all scores, and may put one between equal scores.
    """

    def __init__(
        self,
        sentence_pairs: Any,
        labels: Any,
        name: str = "",
        show_progress_bar: bool | None = False,
        write_csv: bool = True,
    ):
        super().__init__(sentence_pairs, labels, name, write_csv)
        self.show_progress_bar = _shown(show_progress_bar)
        self.labels = _different(_classes(self.labels, 2))

    def __call__(self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1) -> float:
        scores = self.scores_of(model, self.sentence_pairs, classes=False, show_progress_bar=self.show_progress_bar)
        found = _binary_metrics(scores, self.labels)
        self.write(output_path, epoch, steps, {key.title(): value for key, value in found.items()})
        return found["average_precision"]


class CECorrelationEvaluator(PairEvaluator):
    """Spearman's correlation of scores and labels, beside Pearson's; both are 0 where the model scores all alike.

    `scores` are the labels, of which two at least differ.
    """

    def __init__(self, sentence_pairs: Any, scores: Any, name: str = "", write_csv: bool = True):
        super().__init__(sentence_pairs, scores, name, write_csv)
        self.scores = _different(self.labels)

    def __call__(self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1) -> float:
        scores = self.scores_of(model, self.sentence_pairs, classes=False)
        found = {"pearson": pearson(scores, self.scores), "spearman": spearman(scores, self.scores)}
        self.write(output_path, epoch, steps, {f"{key.title()}_Correlation": value for key, value in found.items()})
        return found["spearman"]


class CEF1Evaluator(PairEvaluator):
    """F1 of a model with one score a class: of class 1 for two classes, else the mean over the classes (macro).

    How many classes there are is seen from the labels, as in 3.4; two must be 0 and 1. The weighted F1 weighs each
    class by its labels: 3.4 weighs by the predictions, since it passes them in the place of the labels.
    """

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
        self.options: dict[str, Any] = {"batch_size": batch_size, "show_progress_bar": show_progress_bar}
        distinct = len(np.unique(self.labels))
        self.labels = _classes(_different(self.labels), 2 if distinct == 2 else None)
        self.kinds = ["binary"] if distinct == 2 else ["macro", "micro", "weighted"]

    def __call__(self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1) -> float:
        predicted = self.predicted_of(model, **self.options)
        third = np.flatnonzero(predicted > 1)
        if self.kinds == ["binary"] and len(third):
            what = f"row {third[0]}: the model predicts class {predicted[third[0]]}, but the labels are 0 and 1 only"
            raise DataError(f"{what}, which is read as two classes; add pairs of the other classes")
        found = {f"{kind.title()} F1 score": f1_score(predicted, self.labels, kind) for kind in self.kinds}
        self.write(output_path, epoch, steps, found)
        return next(iter(found.values()))


class CESoftmaxAccuracyEvaluator(PairEvaluator):
    """Accuracy of a model with one score a class: the class with the highest score."""

    def __init__(self, sentence_pairs: Any, labels: Any, name: str = "", write_csv: bool = True):
        super().__init__(sentence_pairs, labels, name, write_csv)
        self.labels = _classes(self.labels)

    def __call__(self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1) -> float:
        value = accuracy(self.predicted_of(model), self.labels)
        self.write(output_path, epoch, steps, {"Accuracy": value})
        return value


class CrossEncoderClassificationEvaluator(PairEvaluator):
    """One score: average precision, best accuracy and F1. One score a class: macro, micro and weighted F1.

    Which it is, `model.num_labels` says. Select by average precision or macro F1. For one score, labels are 0 and 1,
    and both occur. `show_progress_bar`: None shows it where the log shows INFO, as in sentence-transformers.
    """

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
        self.labels = _classes(self.labels)
        self.options: dict[str, Any] = {"batch_size": batch_size, "show_progress_bar": _shown(show_progress_bar)}

    def __call__(self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1) -> Results:
        if model.num_labels > 1:
            predicted, kinds = self.predicted_of(model, **self.options), ("macro", "micro", "weighted")
            found = {f"f1_{kind}": f1_score(predicted, self.labels, kind) for kind in kinds}
            row = {f"{kind.title()}_F1": found[f"f1_{kind}"] for kind in kinds}
        else:
            labels = _different(_classes(self.labels, 2))
            found = _binary_metrics(self.scores_of(model, self.sentence_pairs, False, **self.options), labels)
            row = {key.title(): value for key, value in found.items()}
        self.write(output_path, epoch, steps, row)
        return self.answer(found, "f1_macro" if model.num_labels > 1 else "average_precision")


class CrossEncoderCorrelationEvaluator(PairEvaluator):
    """Pearson's and Spearman's correlation of scores and labels; Spearman's is the one to select by.

    As `CECorrelationEvaluator`, and `show_progress_bar` as in `CrossEncoderClassificationEvaluator`.
    """

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
        self.scores = _different(self.labels)
        self.options: dict[str, Any] = {"batch_size": batch_size, "show_progress_bar": _shown(show_progress_bar)}
        self.answer({}, "spearman")

    def __call__(self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1) -> Results:
        scores = self.scores_of(model, self.sentence_pairs, classes=False, **self.options)
        found = {"pearson": pearson(scores, self.scores), "spearman": spearman(scores, self.scores)}
        self.write(output_path, epoch, steps, {f"{key.title()}_Correlation": value for key, value in found.items()})
        return self.answer(found, "spearman")


def _number(label: Any, row: int) -> float:
    """A label as a number; raises `DataError` for anything else, a list of them too."""
    checked = check_label(label, f"row {row}")
    if isinstance(checked, list):
        raise DataError(f"row {row}: the label is {checked}; expected one number a pair")
    return float(checked)


def _classes(labels: np.ndarray, count: int | None = None) -> np.ndarray:
    """Labels as class indices, below `count`; raises `DataError` naming the first that is none."""
    wrong = np.flatnonzero((labels < 0) | (labels != np.floor(labels)) | (labels >= (count or np.inf)))
    if len(wrong):
        known = "0 or 1" if count == 2 else f"a class of the model, 0 to {(count or 0) - 1}"
        expected = known if count else "the index of a class, a whole number from 0"
        raise DataError(f"row {wrong[0]}: the label is {labels[wrong[0]]:g}; expected {expected}")
    return labels.astype(int)


def _different(labels: np.ndarray) -> np.ndarray:
    """The labels; raises `DataError` where all are equal."""
    if len(np.unique(labels)) < 2:
        raise DataError(f"all {len(labels)} labels are {labels[0]:g}; expected at least two different ones")
    return labels


def _binary_metrics(scores: np.ndarray, labels: np.ndarray) -> Results:
    """Accuracy and F1 at their best thresholds, precision and recall at F1's, and average precision."""
    by_accuracy, by_f1 = best_threshold(scores, labels, "accuracy"), best_threshold(scores, labels, "f1")
    found = {"accuracy": by_accuracy.value, "accuracy_threshold": by_accuracy.threshold}
    found |= {"f1": by_f1.value, "f1_threshold": by_f1.threshold, "precision": by_f1.precision, "recall": by_f1.recall}
    return {**found, "average_precision": average_precision(scores, labels)}


def _shown(show_progress_bar: bool | None) -> bool:
    """Whether a progress bar is shown: where that is not said, it is when the log shows INFO."""
    return bool(logger.isEnabledFor(logging.INFO) if show_progress_bar is None else show_progress_bar)
