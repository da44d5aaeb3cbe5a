"""What `predict` leaves as it was: mode, gradients and threads, also after errors and without memory."""

from __future__ import annotations

import re
import threading

import numpy as np
import pytest
import torch
from small_models import pairs_of_all_lengths

from crossenc_kit import DataError

pytestmark = pytest.mark.filterwarnings("error::UserWarning")  # nothing here may warn but where a test says so

PAIRS = pairs_of_all_lengths()[:8]  # none longer than 64 tokens


def test_the_mode_is_restored_and_dropout_is_off_meanwhile(model):
    expected = model.predict(PAIRS)
    assert not model.model.training
    model.model.train()
    try:
        assert model.predict(PAIRS).tolist() == expected.tolist()
        assert model.model.training
        with pytest.raises(DataError):
            model.predict([None])
        assert model.model.training
    finally:
        model.model.eval()


def test_no_gradient_is_kept(model):
    scores = model.predict(PAIRS, convert_to_tensor=True)
    assert scores.grad_fn is None
    assert all(parameter.grad is None for parameter in model.model.parameters())


def test_two_threads_score_side_by_side_on_one_core_each(model, monkeypatch):
    expected, scores = model.predict(PAIRS), model.scores
    both, inside = threading.Barrier(2, timeout=60), []

    def together(tokens, rows):
        inside.append(torch.get_num_threads())
        both.wait()  # passes only when two batches are under way at once
        return scores(tokens, rows)

    monkeypatch.setattr(model, "scores", together)
    torch.set_num_threads(2)
    assert np.allclose(model.predict(PAIRS, batch_size=1), expected, rtol=0, atol=1e-5)
    assert inside == [1] * 8
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_is_not_tried_again_and_leaves_threads_and_mode_as_they_were(model, monkeypatch, threads):
    calls = []

    def fails(tokens, rows):
        calls.append(len(rows))
        raise RuntimeError("by design")

    monkeypatch.setattr(model, "scores", fails)
    torch.set_num_threads(2)
    model.model.train()
    try:
        with pytest.raises(RuntimeError, match="by design"):
            model.predict(PAIRS, batch_size=4, threads=threads)
        assert calls in ([4], [4, 4])  # a second thread may have begun
        assert model.model.training
        assert torch.get_num_threads() == 2
    finally:
        model.model.eval()


@pytest.mark.parametrize("threads", [1, 2])
def test_out_of_memory_halves_the_batch_and_goes_on(model, batches, threads):
    expected = model.predict(PAIRS)
    sizes = batches(model, most=2)
    assert np.allclose(model.predict(PAIRS, token_budget=10_000, threads=threads), expected, rtol=0, atol=1e-5)
    assert sizes == [8, 4, 2, 2, 4, 2, 2]


def test_one_row_that_does_not_fit_is_an_error(model, batches):
    sizes = batches(model, most=0)
    with pytest.raises(torch.OutOfMemoryError, match="out of memory"):
        model.predict(PAIRS, token_budget=10_000)
    assert sizes == [8, 4, 2, 1]


def test_what_running_out_of_memory_looks_like():
    from crossenc_kit.models.devices import out_of_memory

    assert out_of_memory(RuntimeError("[enforce fail at alloc_cpu.cpp] . DefaultCPUAllocator: can't allocate memory"))
    assert out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"))
    assert not out_of_memory(RuntimeError("CUDA error: device-side assert triggered"))


def test_the_progress_bar(model, capsys):
    model.predict(PAIRS)  # no terminal: none
    model.predict(PAIRS, show_progress_bar=False)
    assert capsys.readouterr().err == ""
    model.predict(PAIRS, show_progress_bar=True)
    assert re.search(r"scoring: 100%.* 8/8 ", capsys.readouterr().err)
