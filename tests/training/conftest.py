"""One thread for every run, and the run that nothing interrupts."""

from __future__ import annotations

import pytest
import torch
from small_runs import whole_run


@pytest.fixture(autouse=True, scope="session")
def one_thread_from_the_start():
    """Sums of floats depend on their order; fixtures of a module run before those of a test."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """The run that nothing interrupts, and its folder; not to be written into."""
    return whole_run(tmp_path_factory.mktemp("whole"))
