"""Evaluators under the names of sentence-transformers: the `CE...` of 3.x, and those of 4 and later.

Call one as `evaluator(model, output_path, epoch, steps)`. It scores its pairs with `model.predict`
and appends a row to `<class>_<name>_results.csv` in `output_path`. The older ones return the float
that training selects by; the later ones return a dict, in which `primary_metric` names that float.

The numbers agree with sentence-transformers, except for the differences that the classes name.
Unusable pairs and labels raise `DataError` when the evaluator is made, unusable scores when it is
called. There is no `prompt_name`, because a `CrossEncoder` takes none.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crossenc_kit.data.pairs import InputExample, as_text_pairs, check_label
from crossenc_kit.errors import DataError
from crossenc_kit.evaluation.metrics import (
    accuracy,
    average_precision,
    best_threshold,
    f1_score,
    pearson,
    spearman,
)
from crossenc_kit.evaluation.similarity import append_csv
from crossenc_kit.scorers import as_scorer, check_finite

Row = dict[str, float]  # a row of the CSV file: column -> value
AVERAGES = ("macro", "micro", "weighted")
logger = logging.getLogger(__name__)


class CsvEvaluator:
    """An evaluator with a name and a CSV file; subclasses implement `measure`."""

    primary_metric = ""  # the key to select by, if a dict is returned

    def __init__(self, name: str, write_csv: bool, suffix: str = ""):
        self.name, self.write_csv = name, write_csv
        self.title = f"{type(self).__name__} {name}".rstrip()  # what the log calls it
        parts = (type(self).__name__, name, f"results{suffix}.csv")
        self.csv_file = "_".join(part for part in parts if part)

    def __call__(self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1) -> Any:
        row, answer = self.measure(model)
        self.write(output_path, epoch, steps, row)
        return answer

    def measure(self, model: Any) -> tuple[Row, Any]:
        """Return the row for the CSV file, and what the call returns."""
        raise NotImplementedError

    def scores_of(
        self,
        model: Any,
        pairs: Any,
        classes: bool = False,
        where: Callable[[int], str] = "row {}".format,
        **options: Any,
    ) -> np.ndarray:
        """Score pairs with a model or a function: `(N,)`, or `(N, C)` if `classes`.

        where: names a pair by its index, for error messages
        options: passed to `model.predict`; a function gets only the pairs

        Raises `DataError` if the number of scores is wrong or a score is not finite.
        """
        call = as_scorer(model)
        asked = {"convert_to_numpy": True, "show_progress_bar": False, **options}
        scores = np.asarray(call(pairs, **({} if call is model else asked)))
        fits = scores.ndim == 1 + classes and len(scores) == len(pairs)
        if not fits or (classes and scores.shape[1] < 2):
            each = "class (num_labels of 2 or more)" if classes else "pair (num_labels=1)"
            got = f"got scores of shape {scores.shape} for {len(pairs)} pairs"
            raise DataError(f"{type(self).__name__} needs one score per {each}; {got}")
        check_finite(scores, where, "the model")
        return scores

    def write(self, output_path: Any, epoch: int, steps: int, row: Mapping[str, float]) -> None:
        """Log a row, and append it to the CSV file if there is an output path."""
        said = ", ".join(f"{key} {value:.4f}" for key, value in row.items())
        logger.info("%s, epoch %s, steps %s: %s", self.title, epoch, steps, said)
        if output_path is not None and self.write_csv:
            append_csv(Path(output_path) / self.csv_file, {"epoch": epoch, "steps": steps, **row})

    def answer(self, found: Mapping[str, float], primary: str) -> dict[str, float]:
        """Put the name before every key, and set `primary_metric`."""
        prefix = f"{self.name}_" if self.name else ""
        self.primary_metric = prefix + primary
        return {prefix + key: float(value) for key, value in found.items()}


class PairEvaluator(CsvEvaluator):
    """An evaluator of N pairs with one label each; `options` are passed to `model.predict`.

    Raises `DataError` naming the first row that is not a pair of texts with a number.
    """

    def __init__(self, sentence_pairs: Any, labels: Any, name: str, write_csv: bool, **options: Any):
        super().__init__(name, write_csv)
        if len(sentence_pairs) != len(labels) or not len(labels):
            counts = f"{len(sentence_pairs)} sentence_pairs and {len(labels)} labels"
            raise DataError(f"{counts}; expected at least one pair, and one label per pair")
        texts: Any = as_text_pairs([InputExample(texts=pair) for pair in sentence_pairs])[0]
        self.sentence_pairs = [list(pair) for pair in texts]
        numbers: list[Any] = [check_label(label, f"row {row}") for row, label in enumerate(labels)]
        self.labels = np.array(list(map(float, numbers)))
        if options.get("show_progress_bar", False) is None:  # as in sentence-transformers
            options["show_progress_bar"] = logger.isEnabledFor(logging.INFO)
        self.options = options

    @classmethod
    def from_input_examples(cls, examples: Sequence[Any], **options: Any) -> Any:
        """Make the evaluator from `InputExample`s; `options` are those of the constructor."""
        return cls([e.texts for e in examples], [e.label for e in examples], **options)

    def scores(self, model: Any) -> np.ndarray:
        """Return one score per pair, `(N,)`."""
        return self.scores_of(model, self.sentence_pairs, **self.options)

    def predicted(self, model: Any) -> np.ndarray:
        """Return the class with the highest score of each pair, `(N,)`."""
        scores = self.scores_of(model, self.sentence_pairs, classes=True, **self.options)
        _classes(self.labels, scores.shape[1])
        return scores.argmax(axis=1)


class CEBinaryAccuracyEvaluator(PairEvaluator):
    """Measure accuracy with one score per pair: above `threshold` means 1, at the threshold 0."""

    def __init__(
        self, sentence_pairs: Any, labels: Any, name: str = "", threshold: float = 0.5, write_csv: bool = True
    ):
        super().__init__(sentence_pairs, labels, name, write_csv)
        self.threshold, self.labels = threshold, _classes(self.labels, 2)

    def measure(self, model: Any) -> tuple[Row, float]:
        value = accuracy((self.scores(model) > self.threshold).astype(int), self.labels)
        return {"Accuracy": value}, value


class CEBinaryClassificationEvaluator(PairEvaluator):
    """Measure average precision with one score per pair, and the best accuracy and F1.

    Labels are 0 and 1, and both occur. All thresholds are tried, and of equally good ones the
    highest counts. sentence-transformers 3.4 leaves out those above and below all scores, and may
    put one between equal scores.
    """

    def __init__(
        self,
        sentence_pairs: Any,
        labels: Any,
        name: str = "",
        show_progress_bar: bool | None = False,
        write_csv: bool = True,
    ):
        options = {"show_progress_bar": show_progress_bar}
        super().__init__(sentence_pairs, labels, name, write_csv, **options)
        self.labels = _different(_classes(self.labels, 2))

    def measure(self, model: Any) -> tuple[Row, float]:
        row, found = _binary_metrics(self.scores(model), self.labels)
        return row, found["average_precision"]


class CECorrelationEvaluator(PairEvaluator):
    """Measure Spearman's correlation of scores and labels, and Pearson's; 0 if all scores are equal.

    scores: the labels, at least two of them different
    """

    def __init__(self, sentence_pairs: Any, scores: Any, name: str = "", write_csv: bool = True):
        super().__init__(sentence_pairs, scores, name, write_csv)
        _different(self.labels)

    def measure(self, model: Any) -> tuple[Row, float]:
        row, found = _correlations(self.scores(model), self.labels)
        return row, found["spearman"]


class CEF1Evaluator(PairEvaluator):
    """Measure F1 with one score per class: of class 1 for two classes, else the mean (macro).

    The labels tell how many classes there are, as in 3.4; two must be 0 and 1. The weighted F1
    weighs each class by its labels. 3.4 passes predictions in their place, and weighs by these.
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
        options = {"batch_size": batch_size, "show_progress_bar": show_progress_bar}
        super().__init__(sentence_pairs, labels, name, write_csv, **options)
        binary = len(np.unique(self.labels)) == 2
        self.labels = _classes(_different(self.labels), 2 if binary else None)
        self.averages = ("binary",) if binary else AVERAGES

    def measure(self, model: Any) -> tuple[Row, float]:
        predicted = self.predicted(model)
        values = {kind: f1_score(predicted, self.labels, kind) for kind in self.averages}
        row = {f"{kind.title()} F1 score": value for kind, value in values.items()}
        return row, values[self.averages[0]]


class CESoftmaxAccuracyEvaluator(PairEvaluator):
    """Measure accuracy with one score per class: the highest score is the prediction."""

    def __init__(self, sentence_pairs: Any, labels: Any, name: str = "", write_csv: bool = True):
        super().__init__(sentence_pairs, labels, name, write_csv)
        self.labels = _classes(self.labels)

    def measure(self, model: Any) -> tuple[Row, float]:
        value = accuracy(self.predicted(model), self.labels)
        return {"Accuracy": value}, value


class CrossEncoderClassificationEvaluator(PairEvaluator):
    """Measure a classifier: by average precision with one score per pair, else by macro F1.

    `model.num_labels` tells which. With one score, labels are 0 and 1, and both occur.

    show_progress_bar: None shows it if the log shows INFO, as in sentence-transformers
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
        options = {"batch_size": batch_size, "show_progress_bar": show_progress_bar}
        super().__init__(sentence_pairs, labels, name, write_csv, **options)
        self.labels = _classes(self.labels)

    def measure(self, model: Any) -> tuple[Row, dict[str, float]]:
        if model.num_labels > 1:
            predicted = self.predicted(model)
            found = {f"f1_{kind}": f1_score(predicted, self.labels, kind) for kind in AVERAGES}
            columns = [f"{kind.title()}_F1" for kind in AVERAGES]
            row = dict(zip(columns, found.values(), strict=True))
            return row, self.answer(found, "f1_macro")
        labels = _different(_classes(self.labels, 2))
        row, found = _binary_metrics(self.scores(model), labels)
        return row, self.answer(found, "average_precision")


class CrossEncoderCorrelationEvaluator(PairEvaluator):
    """Measure Pearson's and Spearman's correlation of scores and labels; select by Spearman's.

    scores: the labels, as in `CECorrelationEvaluator`
    show_progress_bar: as in `CrossEncoderClassificationEvaluator`
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
        options = {"batch_size": batch_size, "show_progress_bar": show_progress_bar}
        super().__init__(sentence_pairs, scores, name, write_csv, **options)
        _different(self.labels)
        self.answer({}, "spearman")

    def measure(self, model: Any) -> tuple[Row, dict[str, float]]:
        row, found = _correlations(self.scores(model), self.labels)
        return row, self.answer(found, "spearman")


def _classes(labels: np.ndarray, count: int | None = None) -> np.ndarray:
    """Return labels as class indices below `count`; raise `DataError` naming the first bad one."""
    most = np.inf if count is None else count - 1
    wrong = np.flatnonzero((labels < 0) | (labels != np.floor(labels)) | (labels > most))
    if len(wrong):
        expected = "the index of a class, a whole number from 0" + f" to {most}" * (count is not None)
        raise DataError(f"row {wrong[0]}: the label is {labels[wrong[0]]:g}; expected {expected}")
    return labels.astype(int)


def _different(labels: np.ndarray) -> np.ndarray:
    """Return the labels; raise `DataError` if all are equal."""
    if len(np.unique(labels)) < 2:
        equal = f"all {len(labels)} labels are {labels[0]:g}"
        raise DataError(f"{equal}; expected at least two different ones")
    return labels


def _correlations(scores: np.ndarray, labels: np.ndarray) -> tuple[Row, Row]:
    """Return both correlations under the names of CSV columns, and under those of answers."""
    found = {"pearson": pearson(scores, labels), "spearman": spearman(scores, labels)}
    return {f"{key.title()}_Correlation": value for key, value in found.items()}, found


def _binary_metrics(scores: np.ndarray, labels: np.ndarray) -> tuple[Row, Row]:
    """Measure accuracy and F1 at their best thresholds, precision and recall at F1's, and AP.

    Returns them under the names of CSV columns, and under those of answers.
    """
    cut, by_f1 = best_threshold(scores, labels, "accuracy"), best_threshold(scores, labels, "f1")
    found = {
        "accuracy": cut.value,
        "accuracy_threshold": cut.threshold,
        "f1": by_f1.value,
        "f1_threshold": by_f1.threshold,
        "precision": by_f1.precision,
        "recall": by_f1.recall,
        "average_precision": average_precision(scores, labels),
    }
    return {key.title(): value for key, value in found.items()}, found
