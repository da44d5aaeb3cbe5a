"""Models that the kit saved, made once per file; no bars of loading weights."""

from functools import cache

import pytest
from small_models import MAX_LENGTH, NAMES, name_as_others_do, save_classifier
from transformers.utils import logging

from crossenc_kit import CrossEncoder


@pytest.fixture(autouse=True, scope="module")
def quiet():
    logging.disable_progress_bar()
    yield
    logging.enable_progress_bar()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Give a function from family, labels and activation to a folder that is not to be written to."""

    @cache
    def save(family, num_labels, activation=None):
        folder = tmp_path_factory.mktemp("models")
        save_classifier(folder / "plain", family, num_labels)
        model = CrossEncoder(folder / "plain", max_length=MAX_LENGTH, device="cpu", activation_fn=activation)
        name_as_others_do(model.config, NAMES[num_labels])
        model.save_pretrained(folder / "kit")
        return folder / "kit"

    return save
