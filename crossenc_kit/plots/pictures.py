"""Pictures that explain rather than measure: padding, and attention."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from crossenc_kit.plots.figures import BLUE, GREY, INK, drawing, label_axes, one_line, safe

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
    """Draw batches as they are computed: one panel per plan, one row per pair.

    Titles give the share of padding over all batches of the plan.

    plans: name -> the batches of an epoch, each an array of true lengths in tokens
    packed: plans without padding, whose tokens are drawn as one stream folded into lines
    batches: how many of them, evenly spaced, are drawn
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
    """Return the share of computed tokens that is padding if each batch is as long as its longest pair."""
    computed = sum(len(batch) * int(batch.max()) for batch in plan)
    return 1.0 - sum(int(batch.sum()) for batch in plan) / computed


def _draw_rows(ax: Axes, batch: np.ndarray, top: int, _widest: int) -> int:
    """Draw one padded batch from row `top` down, and return the first free row."""
    rows = top + np.arange(len(batch))
    ax.barh(rows, batch, height=0.8, color=INK, snap=False)
    ax.barh(rows, batch.max() - batch, left=batch, height=1, color="white", edgecolor=GREY, hatch="/////", linewidth=0)
    return top + len(batch)


def _draw_stream(ax: Axes, batch: np.ndarray, top: int, widest: int) -> int:
    """Draw one packed batch as a stream of tokens folded at `widest`, neighbours in two tones."""
    ends = np.cumsum(batch)
    cuts = np.unique(np.concatenate([[0], ends, np.arange(0, ends[-1], widest)]))
    owner = np.searchsorted(ends, cuts[:-1], side="right")
    tones = np.where(owner % 2 == 0, INK, GREY)
    rows = cuts[:-1] // widest
    ax.barh(top + rows, np.diff(cuts), left=cuts[:-1] % widest, height=0.8, color=tones, snap=False)
    return top + int(rows[-1]) + 1


def attention_map(matrix: ArrayLike, tokens: Sequence[str], *, title: str = "Attention between the tokens") -> Figure:
    """Draw the attention weights `(T, T)` of one pair, from the row's token to the column's.

    Lines separate the two texts, after the first `[SEP]` or `</s>`. Raises `ValueError` if the matrix
    does not have one row and one column per token.
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
