"""Cross-encoders, from a pair of texts to a score: train, evaluate, understand and serve them.

A cross-encoder reads two texts at once and returns one score (or one for each class). This package
is meant to be read; each file has one idea and imports only from files above it in this map:

    arrays            what a metric takes
    ranking_checks    what a loss of lists takes
    adapters          PEFT: wrap, save, merge
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
    layer_losses      a student's layers and its teacher's in, scalar out
    ranking_losses    lists of candidates in, scalar out
    activations       what a score goes through, by name
    measuring         interleaved runs, medians and spread, memory
    progress          how far a long job is
    truncation        which text of a pair is cut
    scorers           functions and models as scorers, raw scores
    quantization      int8 layers, a scale for every row
    losses            scores and labels in, scalar out
    ensembles         several scorers as one
    tables            files become rows
    parquet           parquet files: rows in, columns out
    batches           pairs become token ids and batches
    retrieval         scorers that do not learn: word overlap, cosine
    searches          the best documents of each query, from every document's score
    score_shards      scores on the disk, in shards
    pickled_scores    score files that are refused
    evaluation        a scorer and pairs become a report
    run_metrics       a run and judgements become one value a query and metric
    exercises         self-checks of the notebooks
    records           what a run leaves in its folder
    loading           a name becomes model, tokenizer, activation
    drift             how far a faster form moves the scores
    onnx_session      a classifier in an ONNX file
    export_reports    what a folder with exports holds
    live              curves, while training and after it
    pictures          padding, attention, architectures drawn
    tradeoffs         quality against cost: named points, those none beats
    checkpoint        crash-safe checkpoints
    classification_plots  confusion, reliability, precision and recall, two models
    ranking           candidates ordered by a scorer
    classes           what counts as a class, a probability, a prediction
    sources           where a data set is: a folder, a file, the hub
    malformed         lines that cannot be used: an error, or counted
    published         the forms in which data sets with classes are published
    readers           files and hub data sets become pairs
    collection        documents, queries, grades; a run on them becomes pairs
    trec              runs and judgements in files
    text_streams      corpora, triples and candidates, row by row
    candidate_rows    rows of queries and candidates, with their texts
    teachers          teacher scores: cached, made into labels
    first_stages      BM25, dense and word-overlap search, runs fused
    judgements        what is known relevant, what was hidden, false negatives
    packed            the forward pass without padding
    onnx_graph        a classifier becomes an ONNX file
    plots             figures from records and reports
    ranking_plots     queries won and lost, ranks, systems, depths, losses
    runs              a notebook as an experiment
    optimizer_state   an optimizer as tensors and JSON
    run_guard         one run at a time, signals, status
    classification    a scorer and classes become a report; two models compared
    label_checks      do labels fit the loss
    run_comparison    two runs on the same queries
    in_batch          negatives from the batch
    explain           perturbation probes, slices of errors
    long_documents    window by window, or cut and counted
    sentence_transformers_evaluators  evaluators under their names, older and later
    label_readers     files and hub data sets with classes become pairs
    ranking_readers   folders with a search collection
    candidates        rows of queries and candidates become groups
    sentence_transformers_reranking  the same, of reranking
    ranking_evaluation  a run and judgements become a report: first stage, ceiling, result
    micro_batches     pairs that are scored together, and their loss
    pair_stream       files of pairs of any size, block by block
    score_folder      scores in parquet shards, each whole or not at all
    negatives         negatives chosen from candidates, anew each epoch
    augmentation      new pairs, labelled by a cross-encoder, for a bi-encoder
    backends          what runs a model: torch, int8, ONNX
    model             CrossEncoder: predict, rank, save
    distillation      a teacher's scores and gold labels in one loss
    score_rows        a file's rows as pairs with scores
    mining            hard negatives from a first stage
    temperature       calibrate a model
    export            int8 and ONNX, with measured drift
    sentence_transformers_collections  the same, of several collections: NanoBEIR
    reranking         retrieve, then rerank: at what depth, at what cost
    students          smaller models cut from larger ones
    training_run      a run put together
    block_scoring     pairs scored block by block
    scoring_pool      scoring in several processes
    bench             speed and scores on this machine, beside others
    teacher_files     teacher scores in files, aligned to pairs
    ranking_evaluators  a model on one collection or several: for training, and as a report
    layer_maps        which layers of student and teacher are compared
    cached            long lists in little memory
    resume            how a run goes to the disk and comes back
    bulk              bulk scoring: shards, resumed after a kill
    layer_matching    a student learns its teacher's layers
    training          the visible loop
    sentence_transformers_api  fit(train_dataloader=...), the older call style
    __main__          the command crossenc-kit

Shapes use one letter an axis, everywhere: B pairs in a batch, T tokens, C labels, Q queries,
K candidates of a query, H hidden size.

Public names are listed in `__init__.pyi`, and loaded when first used: `import crossenc_kit` takes milliseconds.
"""

from __future__ import annotations

import re
from pathlib import Path

__version__ = "0.1.0"

_STUB = Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8")
PUBLIC = {name: module for module, name in re.findall(r"from crossenc_kit\.(\w+) import \(?\s*(\w+)", _STUB)}
__all__ = sorted(PUBLIC)


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
