"""Every test runs offline: the hub is switched off, and sockets to other machines are blocked."""

from __future__ import annotations

import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports huggingface_hub; kernels and processes inherit it

import pytest
from hypothesis import settings
from pytest_socket import disable_socket, enable_socket

# The same examples in every run, so that no test fails by luck; `--hypothesis-profile=nightly` looks for new ones.
# No deadline: a shared machine may be slow for a moment.
settings.register_profile("kit", deadline=None, derandomize=True)
settings.register_profile("nightly", deadline=None, max_examples=1000, print_blob=True)
settings.load_profile("kit")


def pytest_collection_modifyitems(config, items):
    """In the nightly profile, give the laws that set a number of examples of their own ten times as many."""
    if config.getoption("--hypothesis-profile", None) != "nightly":
        return
    seen = set()
    for item in items:
        law = getattr(item, "function", None)
        own = getattr(law, "_hypothesis_internal_use_settings", None)
        if own is not None and own.max_examples != 1000 and law not in seen:
            seen.add(law)
            law._hypothesis_internal_use_settings = settings(own, max_examples=10 * own.max_examples)


@pytest.fixture(autouse=True)
def no_network(request):
    """No sockets but those of this machine's own processes; a test that starts a kernel is marked `enable_socket`.

    Notebooks are outside this folder: pytest itself talks to their kernels.
    """
    if request.node.get_closest_marker("enable_socket"):
        yield
        return
    disable_socket(allow_unix_socket=True)
    yield
    enable_socket()


@pytest.fixture(autouse=True)
def one_thread():
    """Small tensors on one thread: on a busy machine, threads that wait for each other take 100 times as long."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
