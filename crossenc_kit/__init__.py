"""Cross-encoders, from a pair of texts to a score: train, evaluate, understand and serve them.

A cross-encoder reads two texts at once and returns one score (or one for each class). This package
is meant to be read; each file has one idea and imports only from files above it in this map:

    arrays            what a metric takes
    pairs             the nouns: an example, a group of pairs, what counts as a text or a label
    metrics           arrays in, floats out: Pearson, Spearman, bootstrap interval
    classification_metrics  accuracy, F1, average precision, best threshold
    ranking_metrics   reciprocal rank, nDCG, average precision of a ranking
    calibration       are probabilities honest: ECE, temperature
    comparison        is a difference more than luck
    backbones         a name becomes a folder with weights
    history           what happened in a run, and where it ran
    figures           what a figure is: titled, labelled, with alt text
    folders           a folder that appears whole or not at all
    cards             the model card
    parameters        a notebook's parameters, read and typed
    training_config   how to train: the settings
    workers           many batches at once on a CPU
    optimization      AdamW's groups and the learning rate
    processes         one process or many
    products          matrix products on a CPU
    ranking_losses    lists of candidates in, scalar out
    activations       what a score goes through, by name
    adapters          PEFT: wrap, save, merge
    losses            scores and labels in, scalar out
    tables            files become rows
    batches           pairs become token ids and batches
    retrieval         scorers that do not learn: word overlap, cosine
    evaluation        a scorer and pairs become a report
    exercises         self-checks of the notebooks
    records           what a run leaves in its folder
    loading           a name becomes model, tokenizer, activation
    live              curves, while training and after it
    pictures          padding, attention, architectures drawn
    checkpoint        crash-safe checkpoints
    classification_plots  confusion, reliability, precision and recall, two models
    ranking           candidates ordered by a scorer
    classes           what counts as a class, a probability, a prediction
    sources           where a data set is: a folder, a file, the hub
    published         the forms in which data sets with classes are published
    readers           files and hub data sets become pairs
    packed            the forward pass without padding
    plots             figures from records and reports
    runs              a notebook as an experiment
    optimizer_state   an optimizer as tensors and JSON
    run_guard         one run at a time, signals, status
    classification    a scorer and classes become a report; two models compared
    explain           perturbation probes, slices of errors
    sentence_transformers_evaluators  evaluators under their names, older and later
    label_readers     files and hub data sets with classes become pairs
    sentence_transformers_reranking  the same, of reranking
    model             CrossEncoder: predict, rank, save
    temperature       calibrate a model
    training_run      a run put together
    resume            how a run goes to the disk and comes back
    training          the visible loop
    sentence_transformers_api  fit(train_dataloader=...), the older call style
    __main__          the command crossenc-kit

Shapes use one letter an axis, everywhere: B pairs in a batch, T tokens, C labels, Q queries,
K candidates of a query, H hidden size.

Public names are loaded when first used, so that `import crossenc_kit` takes milliseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

PUBLIC = {
    "CrossEncoder": "sentence_transformers_api",
    "TruncationWarning": "model",
    "InputExample": "pairs",
    "Pairs": "pairs",
    "DataError": "pairs",
    "as_pairs": "pairs",
    "read_sts": "readers",
    "read_pairs": "readers",
    "find_data": "readers",
    "read_nli": "label_readers",
    "read_duplicates": "label_readers",
    "read_mrpc": "label_readers",
    "read_qnli": "label_readers",
    "TrainingConfig": "training_config",
    "TrainingResult": "training",
    "TrainingError": "training",
    "train": "training",
    "History": "history",
    "CorrelationReport": "evaluation",
    "evaluate_correlation": "evaluation",
    "correlation_evaluator": "evaluation",
    "by_tag": "evaluation",
    "ClassificationReport": "classification",
    "evaluate_classification": "classification",
    "classification_evaluator": "classification",
    "compare_classifiers": "classification",
    "accuracy_by_tag": "classification",
    "calibrate": "temperature",
    "merge_adapters": "adapters",
    "probe": "explain",
    "error_slices": "explain",
    "word_overlap": "retrieval",
    "dense_cosine": "retrieval",
    "bce_with_logits": "losses",
    "cross_entropy": "losses",
    "loss_with": "losses",
    "mse": "losses",
    "sigmoid_mse": "losses",
    "pearson": "metrics",
    "spearman": "metrics",
    "bootstrap_interval": "metrics",
    "bootstrap_difference": "metrics",
    "run_notebook": "runs",
    "sweep": "runs",
    "start_run": "records",
    "check": "exercises",
    "check_function": "exercises",
    "CEBinaryAccuracyEvaluator": "sentence_transformers_evaluators",
    "CEBinaryClassificationEvaluator": "sentence_transformers_evaluators",
    "CECorrelationEvaluator": "sentence_transformers_evaluators",
    "CEF1Evaluator": "sentence_transformers_evaluators",
    "CESoftmaxAccuracyEvaluator": "sentence_transformers_evaluators",
    "CrossEncoderClassificationEvaluator": "sentence_transformers_evaluators",
    "CrossEncoderCorrelationEvaluator": "sentence_transformers_evaluators",
    "CERerankingEvaluator": "sentence_transformers_reranking",
    "CrossEncoderRerankingEvaluator": "sentence_transformers_reranking",
}

if TYPE_CHECKING:  # the same names again, for type checkers and completion
    from crossenc_kit.adapters import merge_adapters as merge_adapters
    from crossenc_kit.classification import ClassificationReport as ClassificationReport
    from crossenc_kit.classification import accuracy_by_tag as accuracy_by_tag
    from crossenc_kit.classification import classification_evaluator as classification_evaluator
    from crossenc_kit.classification import compare_classifiers as compare_classifiers
    from crossenc_kit.classification import evaluate_classification as evaluate_classification
    from crossenc_kit.evaluation import CorrelationReport as CorrelationReport
    from crossenc_kit.evaluation import by_tag as by_tag
    from crossenc_kit.evaluation import correlation_evaluator as correlation_evaluator
    from crossenc_kit.evaluation import evaluate_correlation as evaluate_correlation
    from crossenc_kit.exercises import check as check
    from crossenc_kit.exercises import check_function as check_function
    from crossenc_kit.explain import error_slices as error_slices
    from crossenc_kit.explain import probe as probe
    from crossenc_kit.history import History as History
    from crossenc_kit.label_readers import read_duplicates as read_duplicates
    from crossenc_kit.label_readers import read_mrpc as read_mrpc
    from crossenc_kit.label_readers import read_nli as read_nli
    from crossenc_kit.label_readers import read_qnli as read_qnli
    from crossenc_kit.losses import bce_with_logits as bce_with_logits
    from crossenc_kit.losses import cross_entropy as cross_entropy
    from crossenc_kit.losses import loss_with as loss_with
    from crossenc_kit.losses import mse as mse
    from crossenc_kit.losses import sigmoid_mse as sigmoid_mse
    from crossenc_kit.metrics import bootstrap_difference as bootstrap_difference
    from crossenc_kit.metrics import bootstrap_interval as bootstrap_interval
    from crossenc_kit.metrics import pearson as pearson
    from crossenc_kit.metrics import spearman as spearman
    from crossenc_kit.model import TruncationWarning as TruncationWarning
    from crossenc_kit.pairs import DataError as DataError
    from crossenc_kit.pairs import InputExample as InputExample
    from crossenc_kit.pairs import Pairs as Pairs
    from crossenc_kit.pairs import as_pairs as as_pairs
    from crossenc_kit.readers import find_data as find_data
    from crossenc_kit.readers import read_pairs as read_pairs
    from crossenc_kit.readers import read_sts as read_sts
    from crossenc_kit.records import start_run as start_run
    from crossenc_kit.retrieval import dense_cosine as dense_cosine
    from crossenc_kit.retrieval import word_overlap as word_overlap
    from crossenc_kit.runs import run_notebook as run_notebook
    from crossenc_kit.runs import sweep as sweep
    from crossenc_kit.sentence_transformers_api import CrossEncoder as CrossEncoder
    from crossenc_kit.sentence_transformers_evaluators import CEBinaryAccuracyEvaluator as CEBinaryAccuracyEvaluator
    from crossenc_kit.sentence_transformers_evaluators import (
        CEBinaryClassificationEvaluator as CEBinaryClassificationEvaluator,
    )
    from crossenc_kit.sentence_transformers_evaluators import CECorrelationEvaluator as CECorrelationEvaluator
    from crossenc_kit.sentence_transformers_evaluators import CEF1Evaluator as CEF1Evaluator
    from crossenc_kit.sentence_transformers_evaluators import CESoftmaxAccuracyEvaluator as CESoftmaxAccuracyEvaluator
    from crossenc_kit.sentence_transformers_evaluators import (
        CrossEncoderClassificationEvaluator as CrossEncoderClassificationEvaluator,
    )
    from crossenc_kit.sentence_transformers_evaluators import (
        CrossEncoderCorrelationEvaluator as CrossEncoderCorrelationEvaluator,
    )
    from crossenc_kit.sentence_transformers_reranking import CERerankingEvaluator as CERerankingEvaluator
    from crossenc_kit.sentence_transformers_reranking import (
        CrossEncoderRerankingEvaluator as CrossEncoderRerankingEvaluator,
    )
    from crossenc_kit.temperature import calibrate as calibrate
    from crossenc_kit.training import TrainingError as TrainingError
    from crossenc_kit.training import TrainingResult as TrainingResult
    from crossenc_kit.training import train as train
    from crossenc_kit.training_config import TrainingConfig as TrainingConfig
else:

    def __getattr__(name: str):
        """A public name or a file of the package, imported when first used (PEP 562)."""
        from importlib import import_module

        if name in PUBLIC:
            value = globals()[name] = getattr(import_module(f"{__name__}.{PUBLIC[name]}"), name)
            return value
        if not name.startswith("_"):
            try:
                return import_module(f"{__name__}.{name}")
            except ModuleNotFoundError as error:
                if error.name != f"{__name__}.{name}":  # the file is there, something that it needs is not
                    raise
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        from pkgutil import iter_modules

        return sorted({*globals(), *PUBLIC, *(module.name for module in iter_modules(__path__))})
