"""Several processes give the scores of one, and a process that dies is an error, not a silence."""

import os
import signal

import numpy as np
import pytest
import torch
from small import PAIRS, saved_model

from crossenc_kit import CrossEncoder, DataError, Pairs, ScoringPool, cached_scores
from crossenc_kit.errors import PoolError, TruncationWarning
from crossenc_kit.inference import pool as pools
from crossenc_kit.inference.pool import _places
from crossenc_kit.scorers import fingerprint


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    model = saved_model(tmp_path_factory.mktemp("model") / "one", num_labels=1)
    model.activation_fn = lambda scores: 3 * scores  # no name says this one
    return model


@pytest.fixture(scope="module")
def pool(model):
    with ScoringPool(model, processes=2) as pool:
        yield pool


@pytest.fixture(scope="module")
def pool_of_classes(classes):
    with ScoringPool(classes.folder, devices=["cpu"]) as pool:
        yield pool


def test_the_scores_are_those_of_one_process_in_order(pool, model, monkeypatch):
    expected = model.predict(PAIRS * 5)
    for each, options in ((10, {}), (1, {}), (10, {"batch_size": 3})):
        monkeypatch.setattr(pools, "CHUNKS_EACH", each)
        scores = pool.predict(PAIRS * 5, **options)
        assert (scores.shape, scores.dtype) == ((50,), np.float32)
        np.testing.assert_allclose(scores, expected, atol=1e-5)
    assert repr(pool) == "ScoringPool(cpu, cpu)"


def test_every_process_has_a_model(pool):
    assert len(set(pool._results([()] * 2, wait_and_tell))) == 2


def wait_and_tell():
    """The process's id, once two of them wait here."""
    pools._held["ready"].wait(60)
    return os.getpid()


def test_it_takes_what_predict_takes(pool, model):
    assert pool(PAIRS[3]) == pytest.approx(model(PAIRS[3]), abs=1e-5)
    assert pool.predict([]).shape == (0,)
    left, right = (list(side) for side in zip(*PAIRS, strict=True))
    np.testing.assert_allclose(pool.predict(Pairs(left, right)), model.predict(PAIRS), atol=1e-5)
    raw = pool.predict(PAIRS, activation_fn="identity")
    np.testing.assert_allclose(raw * 3, model.predict(PAIRS), atol=1e-5)
    with pytest.raises(DataError, match="row 1, text 1: the text is missing"):
        pool.predict([PAIRS[0], ("a", None)])
    assert repr(pool) == "ScoringPool(cpu, cpu)"  # such an error does not close it


def test_cut_pairs_are_counted_once(pool):
    long = ("a cat " * 200, "b")
    with pytest.warns(TruncationWarning, match="2 of 12 pairs exceed max_length=256") as told:
        pool.predict([long, *PAIRS, long])
    assert (len(told), pool.truncated, told[0].filename) == (1, 2, __file__)


def test_classes_in_columns_and_as_probabilities(pool_of_classes, classes):
    np.testing.assert_allclose(pool_of_classes.predict(PAIRS), classes.predict(PAIRS), atol=1e-5)
    expected = classes.predict(PAIRS, apply_softmax=True)
    np.testing.assert_allclose(pool_of_classes.predict(PAIRS, apply_softmax=True), expected, atol=1e-5)
    assert pool_of_classes.predict([]).shape == (0, 3)


def test_a_pool_and_its_model_share_cached_scores(pool_of_classes, classes, tmp_path, monkeypatch):
    assert fingerprint(pool_of_classes) == fingerprint(classes) == pool_of_classes.fingerprint
    pairs = [*PAIRS, ("a cat " * 200, "b")]
    with pytest.warns(UserWarning, match="1 of the 11 pairs that were scored exceed the teacher's max_length"):
        scores = cached_scores(pool_of_classes, pairs, tmp_path)
    monkeypatch.setattr(classes, "predict", lambda *arguments, **options: pytest.fail("they are there"))
    assert cached_scores(classes, pairs, tmp_path).tolist() == scores.tolist()
    assert cached_scores(pool_of_classes.predict, pairs, tmp_path).tolist() == scores.tolist()


def test_a_pool_with_an_activation_of_the_caller_s_own_needs_a_name(pool, tmp_path):
    assert pool.fingerprint is None
    with pytest.raises(ValueError, match='ScoringPool has no version to go by: give teacher="name-and-version"'):
        cached_scores(pool, PAIRS, tmp_path)
    assert len(cached_scores(pool, PAIRS, tmp_path, teacher="three times")) == 10


def test_sizes_that_make_no_sense_cost_no_process(pool_of_classes):
    with pytest.raises(ValueError, match="must be a whole number, 1 or more"):
        pool_of_classes.predict(PAIRS, batch_size=0)
    assert pool_of_classes.predict(PAIRS[:3]).shape == (3, 3)


def test_settings_of_speed_that_a_pool_has_not_are_left_out_of_the_call(pool_of_classes, tmp_path):
    cached = cached_scores(pool_of_classes, PAIRS, tmp_path, settings={"threads": 1, "batch_size": 4})
    np.testing.assert_allclose(cached, pool_of_classes.predict(PAIRS), atol=1e-6)
    with pytest.raises(TypeError, match="unexpected keyword argument 'depth'"):
        cached_scores(pool_of_classes, PAIRS, tmp_path, settings={"depth": 1})


def test_a_failure_in_a_process_is_told_with_its_traceback(pool_of_classes, monkeypatch):
    monkeypatch.setattr(pools, "one_or_more", lambda name, value: value)  # only the process sees it
    with pytest.raises(PoolError, match=r"a process of the pool failed: ValueError: .*got 0") as error:
        pool_of_classes.predict(PAIRS, batch_size=0)
    assert "in _score" in str(error.value.__cause__.__cause__)
    with pytest.raises(PoolError, match="the pool is closed"):
        pool_of_classes.predict(PAIRS)


def test_a_process_that_dies_is_reported_and_the_others_end(pool):
    """Last of those with this pool."""
    dead, alive = pool._executor._processes.values()
    os.kill(dead.pid, signal.SIGKILL)
    with pytest.raises(PoolError, match=r"a process of the pool died\. Was there enough memory\? .* __name__ =="):
        pool.predict(PAIRS)
    alive.join(60)
    assert not alive.is_alive()
    assert repr(pool) == "ScoringPool(closed)"


def test_a_process_that_cannot_load_the_model_is_told_at_once(model):
    with pytest.raises(PoolError, match="failed: ValueError: this machine has no device 'nonsense'"):
        ScoringPool(model, devices=["cpu", "nonsense"])


def test_where_processes_go(monkeypatch):
    assert _places(None, 3) == ["cpu"] * 3
    assert _places([torch.device("cuda:1"), "cpu"], None) == ["cuda:1", "cpu"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert _places(None, None) == ["cuda:0", "cuda:1"]
    assert _places(None, 1) == ["cpu"]
    with pytest.raises(ValueError, match="processes must be a whole number, 1 or more, got 0"):
        _places(None, 0)


def test_a_new_head_is_warned_of(monkeypatch):
    monkeypatch.setattr(ScoringPool, "_start", lambda *arguments: pytest.fail("no need to start"))
    model = CrossEncoder("tiny", num_labels=1, device="cpu")
    with pytest.warns(UserWarning, match="is new and untrained"), pytest.raises(pytest.fail.Exception):
        ScoringPool(model, processes=1)
