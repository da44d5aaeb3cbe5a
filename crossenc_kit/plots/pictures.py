"""Pictures that explain rather than measure: two architectures, padding, attention."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from crossenc_kit.plots.figures import BLUE, GREY, INK, PALE, drawing, label_axes, one_line, safe

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike


def padding(
    plans: Mapping[str, Sequence[ArrayLike]],
    *,
    packed: Collection[str] = ("packed",),
    batches: int = 2,
    title: str = "Tokens computed: useful (solid) and padding (hatched)",
) -> Figure:
    """Batches as they are computed: one panel a plan, one row a pair, its share of padding in the title.

    `plans`: name -> the batches of an epoch, each an array of true lengths in tokens. Plans named in
    `packed` have no padding: their tokens are drawn as one stream, folded into lines. The shares are
    over all batches; `batches` of them, evenly spaced, are drawn.
    """
    epochs = {name: [np.asarray(batch, int) for batch in plan] for name, plan in plans.items()}
    if not epochs or not all(plan and all(batch.size for batch in plan) for plan in epochs.values()):
        raise ValueError(f"each plan needs a batch and each batch a pair; got {list(epochs)}")
    waste = {name: 0.0 if name in packed else padding_share(plan) for name, plan in epochs.items()}
    shown = {
        name: [plan[i] for i in np.linspace(0, len(plan) - 1, min(batches, len(plan)) + 2)[1:-1].round().astype(int)]
        for name, plan in epochs.items()
    }
    widest = max(int(batch.max()) for plan in shown.values() for batch in plan)
    facts = "; ".join(f"{name}: {share:.0%} of the tokens computed are padding" for name, share in waste.items())
    figure, axes = drawing(title, facts, [[str(i) for i in range(len(epochs))]], sharex=True, sharey=True)
    for ax, (name, plan) in zip(axes.values(), shown.items(), strict=True):
        top = 0
        for batch in plan:
            top = (_draw_stream if name in packed else _draw_rows)(ax, batch, top, widest) + 2
        ax.set_title(f"{safe(name, 24)}: {waste[name]:.0%} padding", fontsize=9)
        label_axes(ax, "position (tokens)", "row (pair, or line of the stream)" if ax is axes["0"] else "")
    axes["0"].invert_yaxis()
    return figure


def padding_share(plan: Sequence[np.ndarray]) -> float:
    """Share of the computed tokens that are padding when each batch is padded to its longest pair."""
    computed = sum(len(batch) * int(batch.max()) for batch in plan)
    return 1.0 - sum(int(batch.sum()) for batch in plan) / computed


def _draw_rows(ax: Axes, batch: np.ndarray, top: int, _widest: int) -> int:
    """One padded batch from row `top` down; returns the first free row."""
    rows = top + np.arange(len(batch))
    ax.barh(rows, batch, height=0.8, color=INK, snap=False)
    ax.barh(rows, batch.max() - batch, left=batch, height=1, color="white", edgecolor=GREY, hatch="/////", linewidth=0)
    return top + len(batch)


def _draw_stream(ax: Axes, batch: np.ndarray, top: int, widest: int) -> int:
    """One packed batch as a stream of tokens folded at `widest`, neighbours in two tones."""
    ends = np.cumsum(batch)
    cuts = np.unique(np.concatenate([[0], ends, np.arange(0, ends[-1], widest)]))
    owner = np.searchsorted(ends, cuts[:-1], side="right")
    tones = np.where(owner % 2 == 0, INK, GREY)
    rows = cuts[:-1] // widest
    ax.barh(top + rows, np.diff(cuts), left=cuts[:-1] % widest, height=0.8, color=tones, snap=False)
    return top + int(rows[-1]) + 1


def attention_map(matrix: ArrayLike, tokens: Sequence[str], *, title: str = "Attention between the tokens") -> Figure:
    """Attention weights `(T, T)` of one pair, from the token of the row to the token of the column.

    Lines separate the two texts, after the first `[SEP]` or `</s>`. Raises `ValueError` if the matrix
    does not have one row and one column a token.
    """
    weights = np.asarray(matrix, float)
    if weights.shape != (len(tokens), len(tokens)):
        raise ValueError(f"{len(tokens)} tokens need a matrix {(len(tokens), len(tokens))}, got {weights.shape}")
    words = [safe(token, 14) for token in tokens]
    row, column = divmod(int(weights.argmax()), len(tokens))
    facts = f"{len(tokens)} tokens; the strongest weight, {weights.max():.2f}, goes from "
    facts += f"{one_line(tokens[row], 20)} to {one_line(tokens[column], 20)}"
    figure, axes = drawing(title, facts, height=min(6.5, 2.2 + 0.16 * len(tokens)))
    ax = axes["all"]
    image = ax.imshow(weights, cmap="Greys", vmin=0)
    size = float(np.clip(300 / max(1, len(tokens)), 4, 8))
    ax.set_xticks(range(len(words)), words, rotation=90, fontsize=size)
    ax.set_yticks(range(len(words)), words, fontsize=size)
    ax.spines[:].set_visible(True)
    border = next((i for i, token in enumerate(tokens) if token in ("[SEP]", "</s>")), None)
    if border is not None:
        ax.axhline(border + 0.5, color=BLUE, linewidth=1)
        ax.axvline(border + 0.5, color=BLUE, linewidth=1)
    bar = figure.colorbar(image, ax=ax, shrink=0.8)
    bar.ax.tick_params(labelsize=8)
    label_axes(bar.ax, "", "attention weight (each row sums to 1)")
    label_axes(ax, "to token (key)", "from token (query)")
    return figure


def architectures() -> Figure:
    """A bi-encoder beside a cross-encoder: where the two texts meet."""
    facts = (
        "The bi-encoder encodes each text alone and compares two vectors by their cosine, so vectors can be stored; "
        "the cross-encoder reads [CLS] A [SEP] B [SEP] at once, so that every token of A can attend to every token of "
        "B, and a linear head on [CLS] gives the score: more exact, but one pass for each pair"
    )
    figure, axes = drawing("Where the two texts meet", facts, [["bi", "cross"]])
    for ax in axes.values():
        ax.set(xlim=(-2, 102), ylim=(-2, 97))
        ax.set_axis_off()
    _draw_bi_encoder(axes["bi"])
    _draw_cross_encoder(axes["cross"])
    return figure


def _draw_bi_encoder(ax: Axes) -> None:
    ax.set_title("bi-encoder: they meet after encoding", fontsize=10)
    for x, name, vector, tone in ((22, "A", "u", PALE), (78, "B", "v", "white")):
        places = _tokens(ax, ["[CLS]", name, name, "[SEP]"], x, tone)
        _encoder(ax, x, 44, places)
        _box(ax, x, 66, 30, f"vector {vector}", tone)
        _arrow(ax, (x, 52), (x, 60))
        _arrow(ax, (x, 72), (50 + (x - 50) * 0.4, 83))
    ax.text(50, 37, "same\nweights", ha="center", va="center", fontsize=6.5)
    _box(ax, 50, 89, 46, "cosine(u, v) = score", "white")
    ax.text(50, -1, "each text alone: vectors can be stored", ha="center", fontsize=8.5)


def _draw_cross_encoder(ax: Axes) -> None:
    ax.set_title("cross-encoder: they meet while encoding", fontsize=10)
    places = _tokens(ax, ["[CLS]", "A", "A", "[SEP]", "B", "B", "[SEP]"], 50, PALE, second=4)
    _encoder(ax, 50, 84, places, second=4)
    first = places[0]
    _box(ax, first, 66, 32, "head (linear)", "white")
    _box(ax, first, 89, 24, "score", "white")
    _arrow(ax, (first, 52), (first, 60))
    _arrow(ax, (first, 72), (first, 83))
    ax.text(first + 19, 66, "reads the vector of the first\ntoken, which has seen both texts", va="center", fontsize=8)
    ax.text(50, -1, "both at once: one pass for each pair", ha="center", fontsize=8.5)


def _tokens(ax: Axes, tokens: Sequence[str], x: float, tone: str, second: int | None = None) -> list[float]:
    """A row of token cells centred on `x`; those from `second` on are white. Returns their centres."""
    places = [x + 10.8 * (i - (len(tokens) - 1) / 2) for i in range(len(tokens))]
    for i, (place, token) in enumerate(zip(places, tokens, strict=True)):
        _box(ax, place, 11, 10.8, token, "white" if second is not None and i >= second else tone, size=6.5, rounding=0)
        _arrow(ax, (place, 17), (place, 22))
    return places


def _encoder(ax: Axes, x: float, width: float, places: Sequence[float], second: int | None = None) -> None:
    """An encoder whose lines are attention between tokens; dark ones join the two texts."""
    _box(ax, x, 37, width, "", "white", height=30)
    for i, low in enumerate(places):
        for j, high in enumerate(places):
            joins = second is not None and (i < second) != (j < second)
            ax.plot([low, high], [26, 42], color=BLUE if joins else GREY, linewidth=0.8 if joins else 0.5)
    ax.plot([places, places], [[26], [42]], "o", color=INK, markersize=2.5)
    ax.text(x, 47, "encoder", ha="center", va="center", fontsize=8.5)


def _box(
    ax: Axes,
    x: float,
    y: float,
    width: float,
    text: str,
    tone: str,
    *,
    height: float = 12,
    size: float = 8.5,
    rounding: float = 1.5,
) -> None:
    """A box centred on `(x, y)` with its text."""
    from matplotlib.patches import FancyBboxPatch

    corner = (x - width / 2, y - height / 2)
    style = f"round,pad=0,rounding_size={rounding}" if rounding else "square,pad=0"
    ax.add_patch(FancyBboxPatch(corner, width, height, boxstyle=style, facecolor=tone, edgecolor=INK, linewidth=1))
    ax.text(x, y, text, ha="center", va="center", fontsize=size)


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    ax.annotate("", xy=end, xytext=start, arrowprops={"arrowstyle": "-|>", "color": INK, "shrinkA": 0, "shrinkB": 0})
