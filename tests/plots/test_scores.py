"""Every figure function: title, labels with units, alt text with the numbers, greys, hostile text."""

from __future__ import annotations

import functools
import inspect
import itertools
import os
import subprocess
import sys
import types
import warnings
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from crossenc_kit import plots
from crossenc_kit.history import History
from crossenc_kit.plots import figures, pictures, training
from crossenc_kit.plots import scores as plots_scores

HOSTILE = '<script>alert(1)</script> $x$ \\$ $\\frac{$ "quoted"\n[red](x) \x1b[31m'


def a_report(name: str = "model", count: int = 60) -> types.SimpleNamespace:
    random = np.random.default_rng(0)
    labels = np.round(random.uniform(0, 1, count) * 10) / 10
    scores = np.clip(labels + random.normal(0, 0.1, count), 0, 1)
    intervals = {"pearson": (0.8, 0.9), "spearman": (0.71, 0.92)}
    return types.SimpleNamespace(
        name=name, count=count, pearson=0.8765, spearman=0.8432, intervals=intervals, scores=scores, labels=labels
    )


def a_history(steps: int = 40) -> History:
    history = History()
    for step in range(1, steps + 1):
        history.append(step=step, epoch=step / 20, loss=1 / step, learning_rate=1e-4 * step, seconds=0.1 * step)
        if step % 10 == 0:
            history.append(step=step, epoch=step / 20, seconds=0.1 * step, eval_spearman=0.8 - abs(step - 30) / 100)
    return history


def a_classifier(name: str = "model", word: str = "no") -> types.SimpleNamespace:
    """Of 8 pairs, 2 of class 1 are taken for class 0, called `word`."""
    probabilities = np.array([0.1, 0.2, 0.2, 0.3, 0.4, 0.4, 0.8, 0.9])
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    return types.SimpleNamespace(
        name=name,
        count=8,
        label_names=(word, "yes"),
        probabilities=probabilities,
        labels=labels,
        predicted=(probabilities > 0.5).astype(int),
        threshold=0.5,
        accuracy=0.75,
        confusion=np.array([[4, 0], [2, 2]]),
    )


SCORES = np.linspace(0, 1, 50)
MATRIX = np.array([[0.5, 0.5], [0.125, 0.875]])
# function -> arguments, and numbers that its alt text must say; `word` is text that comes from data.
SAMPLES = {
    "curves": (lambda word: ((a_history(),), {"title": word}), ["0.800", "step 30", "0.700"]),
    "predicted_against_gold": (lambda word: ((a_report(word),), {}), ["0.876", "[0.800, 0.900]", "0.843", "60 pairs"]),
    "residuals_by_length": (lambda word: ((a_report(word), np.arange(60)), {}), ["60 pairs", "tokens"]),
    "score_histograms": (lambda word: (({word: SCORES, "b": SCORES**2},), {"title": word}), ["0.500", "0.250"]),
    "label_histogram": (lambda word: (([0, 0, 1],), {"names": [word, "b"], "title": word}), ["3 pairs", "(2 pairs)"]),
    "length_histogram": (lambda word: (([3, 9, 20, 40], 16), {"title": word}), ["2 (50.0%) are cut", "median 14.5"]),
    "padding": (lambda word: (({word: [[4, 2]], "packed": [[4, 2]]},), {"title": word}), ["25%", "0%"]),
    "bars_with_intervals": (
        lambda word: (({word: 0.52, "b": 0.83}, {"b": (0.8, 0.85)}), {"title": word, "counts": {word: 12}}),
        ["0.520", "0.830 [0.800, 0.850]"],
    ),
    "confusion": (lambda word: ((a_classifier(word, word),), {}), ["0.750 on 8 pairs", "(2 of 4)"]),
    "reliability": (lambda word: (({word: a_classifier(), "b": a_classifier()},), {"title": word}), ["(ECE) 0.28"]),
    "precision_recall": (lambda word: (({word: a_classifier()},), {"title": word}), ["average precision 1.000"]),
    "compare_by_tag": (
        lambda word: ((a_classifier(), a_classifier(), [word, "b"] * 4, (word, "theirs")), {"title": word}),
        ["b: ", "0.750"],
    ),
    "tradeoff": (
        lambda word: (({word: (400, 0.6125), "b": (900, 0.5)},), {"title": word, "groups": {word: word}}),
        ["0.613 at 400 pairs/s", "0.500 at 900", "not beaten: "],
    ),
    "attention_map": (lambda word: ((MATRIX, [word, "b"]), {"title": word}), ["2 tokens", "0.88"]),
}
FIGURES = [
    name
    for name in plots.__all__
    if inspect.isfunction(function := getattr(plots, name))
    and inspect.signature(function).return_annotation == "Figure"
    and inspect.getmodule(function).__name__ != "crossenc_kit.plots.ranking"
]


@functools.cache
def draw(name: str, word: str = "a name"):
    arguments, named = SAMPLES[name][0](word)
    return getattr(plots, name)(*arguments, **named)


def texts(figure) -> list[str]:
    from matplotlib.text import Text

    return [text.get_text() for text in figure.findobj(Text)]


def test_every_figure_function_has_a_sample_and_is_public():
    assert set(FIGURES) == set(SAMPLES)


@pytest.mark.parametrize("name", FIGURES)
def test_title_and_axis_labels(name):
    figure = draw(name)
    assert figure.get_suptitle()
    drawn = [ax for ax in figure.axes if ax.axison]
    for ax in drawn:
        below = any(other.get_xlabel() for other in ax.get_shared_x_axes().get_siblings(ax))
        beside = any(other.get_ylabel() for other in ax.get_shared_y_axes().get_siblings(ax))
        assert (below and beside) or ax.get_label() == "<colorbar>"
        assert ax.get_ylabel() or beside
    assert drawn


@pytest.mark.parametrize("name", FIGURES)
def test_alt_text_says_title_and_numbers(name):
    figure = draw(name)
    assert figures.alt_text(figure).startswith(figure.get_suptitle())
    for number in SAMPLES[name][1]:
        assert number in figures.alt_text(figure)
    assert repr(figure) == figures.alt_text(figure)


@pytest.mark.parametrize("name", FIGURES)
def test_png_is_small_and_laptop_wide(name):
    data = figures.png(draw(name))
    image = Image.open(BytesIO(data))
    assert image.width == 770
    assert 100 < image.height <= 900
    assert len(data) < 40_000
    assert image.info["Description"] == figures.alt_text(draw(name))


@pytest.mark.parametrize("name", FIGURES)
def test_hostile_text_is_drawn_as_it_is_and_escaped_in_html(name):
    figure = draw(name, HOSTILE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        page = figure._repr_html_()
    assert page.count("<") == 1
    assert page.count(">") == 1
    assert page.startswith('<img alt="')
    assert page.count('"') == 4
    assert not any("\x1b" in text for text in texts(figure))
    assert "\n" not in figures.alt_text(figure)


@pytest.mark.parametrize("name", FIGURES)
def test_no_text_is_read_as_mathematics(name):
    figure = draw(name, HOSTILE)
    ours = [text for text in texts(figure) if "$" in text and "mathdefault" not in text]
    assert ours
    for text in figure.findobj(lambda artist: hasattr(artist, "_preprocess_math")):
        if text.get_text() in ours:
            assert text._preprocess_math(text.get_text())[1] is False


@pytest.mark.parametrize("name", FIGURES)
def test_what_a_legend_tells_apart_differs_without_colour(name):
    for ax in draw(name).axes:
        looks = [look(artist) for artist in ax.get_legend_handles_labels()[0]]
        for (form, light), (other_form, other_light) in itertools.combinations(looks, 2):
            assert form != other_form or abs(light - other_light) > 0.25


def look(artist) -> tuple[tuple, float]:
    """Line style, marker and hatch of an artist, and how light it is in grey (0 to 1)."""
    from matplotlib.colors import to_rgb

    form = [getattr(artist, f"get_{what}", lambda: None)() for what in ("linestyle", "marker", "hatch")]
    colour = artist.get_color() if hasattr(artist, "get_color") else artist.get_edgecolor()
    rgb = to_rgb(colour[0] if np.ndim(colour) == 2 else colour)
    return (type(artist).__name__, *map(str, form)), float(np.dot(rgb, (0.299, 0.587, 0.114)))


def test_styles_differ_without_colour():
    for key in ("linestyle", "marker", "hatch"):
        assert len({style[key] for style in figures.STYLES}) == len(figures.STYLES)


def test_figures_need_no_display_and_leave_pyplot_alone():
    program = (
        "import sys; from crossenc_kit import plots; assert 'matplotlib' not in sys.modules;"
        "figure = plots.label_histogram([0, 1, 1]); plots.png(figure);"
        "assert 'matplotlib.pyplot' not in sys.modules; plots.show(figure)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=bare_environment())
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "Labels. 3 pairs, 2 labels, most often 1 (2 pairs), mean 0.667."


def bare_environment() -> dict[str, str]:
    """The environment without a display, and with an interactive back end that must not be used."""
    kept = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    return {**kept, "MPLBACKEND": "TkAgg", "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def test_save_makes_folders_and_is_repeatable(tmp_path):
    first = figures.save(training.curves(a_history()), tmp_path / "a" / "b" / "curves.png")
    second = figures.save(training.curves(a_history()), tmp_path / "again.png")
    assert first.read_bytes() == second.read_bytes()


def test_show_in_a_notebook_sends_one_image_and_its_text(monkeypatch):
    import IPython.display

    sent = []
    monkeypatch.setattr(figures, "running_shell", lambda: object())
    monkeypatch.setattr(IPython.display, "display", lambda data, raw: sent.append(data))
    figure = draw("label_histogram")
    figures.show(figure)
    assert sent == [{"text/html": figures.as_html(figure), "text/plain": figures.alt_text(figure)}]


def test_bins_keep_equal_values_together():
    rows = plots_scores._bins(np.array([0.0, 1.0, 0.0, 5.0]), 3)
    assert [list(row) for row in rows] == [[0, 2], [1], [3]]
    values = np.repeat(np.arange(50), 7)
    bins = plots_scores._bins(values, 8)
    assert 2 <= len(bins) <= 8
    assert sorted(np.concatenate(bins)) == list(range(len(values)))
    assert all(not set(values[a]) & set(values[b]) for a, b in itertools.pairwise(bins))


def test_predicted_against_gold_draws_the_mean_of_each_label():
    report = a_report()
    report.labels, report.scores = np.array([0.0, 0.0, 1.0]), np.array([0.1, 0.3, 0.8])
    lines = plots_scores.predicted_against_gold(report).axes[0].lines
    assert lines[0].get_ydata() == pytest.approx([0.2, 0.8])


def test_intervals_are_named_only_where_there_are_some():
    report = a_report()
    assert "(95 % intervals)" in plots_scores.predicted_against_gold(report).axes[0].get_title()
    report.intervals = {}
    assert plots_scores.predicted_against_gold(report).axes[0].get_title() == "Pearson 0.876, Spearman 0.843; 60 pairs"


def test_residuals_are_score_minus_label():
    report = a_report()
    report.labels, report.scores = np.array([0.5, 0.5]), np.array([0.75, 0.25])
    assert "+0.250 at 4 tokens, -0.250 at 9 tokens" in figures.alt_text(
        plots_scores.residuals_by_length(report, [4, 9])
    )


def test_length_histogram_splits_bars_at_max_length():
    ax = plots_scores.length_histogram(np.arange(1, 101), 64).axes[0]
    hatched = [bar for bar in ax.patches if bar.get_hatch() and bar.get_height()]
    assert sum(bar.get_height() for bar in hatched) == 36
    assert min(bar.get_x() for bar in hatched) == 64.5


def test_padding_shares_are_over_all_batches():
    plans = {"random": [np.array([10, 2]), np.array([6, 6]), np.array([8, 4])], "packed": [np.array([10, 2])]}
    figure = pictures.padding(plans)
    assert [ax.get_title() for ax in figure.axes] == ["random: 25% padding", "packed: 0% padding"]


def test_packed_stream_draws_every_token_once():
    figure = pictures.padding({"packed": [np.array([5, 9, 1, 7])]})
    bars = figure.axes[0].patches
    assert sum(bar.get_width() for bar in bars) == 22
    assert max(bar.get_x() + bar.get_width() for bar in bars) == 9


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: training.curves(History()), "no row with a loss"),
        (lambda: training.curves(a_history(), "eval_ndcg"), "eval_spearman"),
        (lambda: plots_scores.score_histograms({str(i): [1.0] for i in range(5)}), "1 to 4 groups"),
        (lambda: pictures.padding({}), "each plan needs a batch"),
        (lambda: pictures.attention_map(np.eye(3), ["a", "b"]), r"2 tokens need a matrix \(2, 2\)"),
    ],
)
def test_what_cannot_be_drawn_is_said(call, said):
    with pytest.raises(ValueError, match=said):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: training.curves([{"step": 1, "loss": float("nan"), "learning_rate": 0.0}]),
        lambda: training.curves([{"step": 1, "loss": 1.0}, {"step": 1, "eval_spearman": float("nan")}]),
        lambda: plots_scores.label_histogram([3]),
        lambda: plots_scores.length_histogram([5], 5),
        lambda: plots_scores.score_histograms({"constant": [0.5, 0.5]}),
        lambda: plots_scores.bars_with_intervals({"below zero": -0.5}),
        lambda: plots_scores.label_histogram(np.linspace(0, 1, 400)),
        lambda: pictures.padding({"random": [[3]], "packed": [[3]]}),
        lambda: pictures.attention_map([[1.0]], ["中"]),
    ],
)
def test_degenerate_data_still_draws_without_a_warning(call):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert figures.png(call())
