"""The live curve: few plain lines without a reader, one updated display with one."""

from __future__ import annotations

import itertools
import re
import types

import numpy as np
import pytest

from crossenc_kit.plots import training


class Clock:
    """A clock that a test moves by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def rows(steps: int, every: int = 50):
    for step in range(1, steps + 1):
        yield {"step": step, "loss": 2.0 if step <= steps // 5 else 1.0, "learning_rate": 1e-4, "seconds": step / 10}
        if step % every == 0:
            yield {"step": step, "eval_pearson": 0.9, "eval_spearman": step / 1000, "seconds": step / 10}


def test_text_is_a_handful_of_plain_lines(capsys):
    hook = training.live_progress(500, "training")
    for row in rows(500):
        hook(row)
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert err == ""
    assert "\r" not in out
    assert len(lines) == 6  # each fifth, and the evaluation at the end
    assert lines[0] == "training: step 100 of 500, loss 2.0000, spearman 0.0500, 10 s"
    assert lines[-1] == "training: step 500 of 500, spearman 0.5000, 50 s"


def test_a_terminal_hears_more_often(capsys, monkeypatch):
    clock = Clock()
    hook = training.live_progress(1000, clock=clock)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    for row in rows(100, every=1000):
        clock.now += 0.3
        hook(row)
    assert len(capsys.readouterr().out.splitlines()) == 2  # 30 s without a fifth of the run


def test_text_lines_are_harmless(capsys):
    hook = training.live_progress(1, "a\rb\x1b[31m\n[red](x)")
    hook({"step": 1, "loss": 1.0, "eval_a\nb": 2.0})
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert not re.search(r"[\r\x1b]", out)


@pytest.fixture
def updates(monkeypatch):
    """What a live figure displays, instead of a notebook."""
    import IPython.display

    sent: list[dict] = []
    handle = types.SimpleNamespace(update=lambda data, raw: sent.append(data))
    monkeypatch.setattr(IPython.display, "display", lambda data, raw, display_id: handle)
    return sent


def test_a_live_figure_is_redrawn_by_the_clock_and_at_the_end(updates):
    clock = Clock()
    hook = training.live_progress(100, "<b>run</b>", live=True, clock=clock)
    for row in rows(100, every=10):
        clock.now += 0.02
        hook(row)
    # 110 rows in 2.2 s: the first, one each half second, and both rows of the last step
    assert len(updates) == 7
    assert "spearman ends at 0.100" in updates[-1]["text/plain"]
    assert "step 100 of 100" in updates[-1]["text/plain"]
    assert updates[-1]["text/html"].startswith('<img alt="&lt;b&gt;run')


def test_slow_drawing_takes_at_most_a_tenth_of_the_time(updates, monkeypatch):
    clock = Clock()
    drawing = training.curves

    def slow(*args, **kwargs):
        clock.now += 1.0
        return drawing(*args, **kwargs)

    monkeypatch.setattr(training, "curves", slow)
    hook = training.live_progress(10_000, live=True, clock=clock)
    for row in itertools.islice(rows(10_000, every=100_000), 50):
        clock.now += 1.0
        hook(row)
    assert 5 <= len(updates) <= 6  # each took 1 s and was followed by 9 s without


def test_an_evaluation_before_the_first_step_is_no_error(updates):
    hook = training.live_progress(10, live=True, metric="eval_missing")
    hook({"step": 0, "eval_ap": 0.5})
    assert updates == []
    hook({"step": 10, "loss": 0.5, "learning_rate": 0.0})
    assert "ap ends at 0.500" in updates[-1]["text/plain"]


@pytest.mark.parametrize(
    ("shell", "environment", "watched"),
    [
        (None, {"JPY_SESSION_NAME": "a.ipynb"}, False),
        (types.SimpleNamespace(user_ns={}), {"JPY_SESSION_NAME": "a.ipynb"}, False),
        (types.SimpleNamespace(user_ns={}, kernel=1), {}, False),
        (types.SimpleNamespace(user_ns={}, kernel=1), {"JPY_SESSION_NAME": "a.ipynb"}, True),
        (types.SimpleNamespace(user_ns={"__vsc_ipynb_file__": "a"}, kernel=1), {}, True),
    ],
)
def test_only_an_open_notebook_is_live(monkeypatch, shell, environment, watched):
    for name in ("JPY_SESSION_NAME", "COLAB_RELEASE_TAG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(training, "running_shell", lambda: shell)
    assert training._somebody_watches() is watched


def test_running_mean_by_hand():
    assert training._running_mean(np.array([1.0, 2.0, 6.0]), 1) == pytest.approx([1, 2, 6])
    assert training._running_mean(np.array([1.0, 2.0, 6.0]), 3) == pytest.approx([1.5, 3, 4])
    assert training._running_mean(np.array([1.0, np.nan, 6.0]), 3) == pytest.approx([1, 3.5, 6])


def test_the_best_loss_is_the_lowest():
    assert training._best(np.array([3.0, 1.0, 2.0]), "eval_loss") == 1
    assert training._best(np.array([3.0, np.nan, 4.0]), "eval_spearman") == 2
    assert training._best(np.array([np.nan]), "eval_spearman") is None
