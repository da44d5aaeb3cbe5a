"""Models to score with, to damage and to adapt, and the batches in which `predict` scores."""

from pathlib import Path
from shutil import copytree

import pytest
import torch
from small_models import TARGETS, fitted, save_classifier, save_model, wrap

from crossenc_kit import CrossEncoder


@pytest.fixture(scope="module")
def model():
    return fitted()


@pytest.fixture(scope="module")
def three():
    return fitted(num_labels=3)


@pytest.fixture
def batches(monkeypatch):
    """Give a function that lists the sizes of the batches a model scores.

    Batches of more than `most` rows do not fit into memory.
    """

    def watch(model, most=None):
        sizes, scores = [], model.scores

        def counted(tokens, rows):
            sizes.append(len(rows))
            if most is not None and len(rows) > most:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
            return scores(tokens, rows)

        monkeypatch.setattr(model, "scores", counted)
        return sizes

    return watch


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """The folder of a saved model; not to be written to."""
    return save_model(tmp_path_factory.mktemp("models") / "saved")


@pytest.fixture
def folder(saved, tmp_path):
    """A copy of it that a test may damage."""
    return Path(copytree(saved, tmp_path / "model"))


@pytest.fixture
def adapted(tmp_path):
    """Give a function from family and labels to a model with an adapter; its base is in a folder."""

    def make(family="bert", num_labels=1, **options):
        base = save_classifier(tmp_path / "base", family, num_labels)
        return wrap(CrossEncoder(base, device="cpu", max_length=40), TARGETS[family], **options)

    return make
