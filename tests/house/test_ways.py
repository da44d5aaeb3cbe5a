"""How many files stand between a call and its result, counted while real calls run.

A file counts if one of its functions runs; doors (`__init__.py`) and the code that runs at import do not.
"""

import importlib
import inspect
import json
import os
import sys
import threading
from pathlib import Path

import pytest

import crossenc_kit
from crossenc_kit import (
    CrossEncoder,
    TrainingConfig,
    evaluate_ranking,
    read_ranking,
    read_sts,
    rerank,
    score_file,
    train,
)

PACKAGE = Path(crossenc_kit.__file__).parent


@pytest.fixture(scope="module", autouse=True)
def everything_imported():
    for path in PACKAGE.rglob("*.py"):
        if not path.stem.startswith("__"):
            importlib.import_module(".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts))


@pytest.fixture(scope="module")
def model():
    return CrossEncoder("tiny", seed=0, device="cpu")


@pytest.fixture(scope="module")
def pairs():
    return read_sts(split="train").select(range(24))


@pytest.fixture(scope="module")
def collection_and_run():
    """Two queries of the sample data, each with eight candidates."""
    whole = read_ranking(split="dev")
    some = whole.select_queries(list(whole.queries)[:2])
    short = sorted(some.documents, key=lambda name: len(some.documents[name]))[:8]  # no text is cut
    return some, {query: {name: -place for place, name in enumerate(short)} for query in some.queries}


def walked(call):
    """The files of the package that a call passes through, as `room/file`, in the order in which it first does."""
    found = {}

    def see(frame, event, _):
        code = frame.f_code
        if event == "call" and code.co_flags & inspect.CO_OPTIMIZED:  # a function, not a module's or a class's body
            found[code.co_filename] = None

    threading.setprofile(see)  # of the threads that the call starts
    sys.setprofile(see)
    try:
        call()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    ours = [os.path.relpath(name, PACKAGE) for name in found if name.startswith(f"{PACKAGE}{os.sep}")]
    return [name.removesuffix(".py") for name in ours if not name.endswith("__init__.py")]


def test_only_functions_that_run_are_counted(model):
    assert walked(lambda: model.num_labels) == ["models/cross_encoder"]
    assert walked(lambda: json.dumps([1])) == []


def test_construct():
    assert len(walked(lambda: CrossEncoder("tiny"))) <= 6


def test_predict(model, pairs):
    assert len(walked(lambda: model.predict(pairs.texts))) <= 7


def test_train(model, pairs):
    config = TrainingConfig(batch_size=8, max_steps=2)
    assert len(walked(lambda: train(model, pairs, "bce", config))) <= 17


def test_evaluate_ranking(collection_and_run):
    collection, run = collection_and_run
    assert len(walked(lambda: evaluate_ranking(collection.qrels, run, first_stage=run, resamples=20))) <= 5


def test_rerank(model, collection_and_run):
    collection, run = collection_and_run
    assert len(walked(lambda: rerank(model, collection, run, depth=4))) <= 11


def test_score_file(model, pairs, tmp_path):
    rows = [json.dumps({"sentence1": left, "sentence2": right}) + "\n" for left, right in pairs.texts]
    (tmp_path / "pairs.jsonl").write_text("".join(rows), encoding="utf-8")

    def score():
        score_file(model, tmp_path / "pairs.jsonl", tmp_path / "out", shards=True, progress=False)

    assert len(walked(score)) <= 16
