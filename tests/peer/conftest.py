"""Models that the kit saved, made once a file; no bars of loading weights."""

import pytest
from transformers.utils import logging
from travellers import saver


@pytest.fixture(autouse=True, scope="module")
def quiet():
    logging.disable_progress_bar()
    yield
    logging.enable_progress_bar()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return saver(tmp_path_factory)
