"""What every figure shares: a title, labels, alt text, styles legible in grey, no global state.

A figure shows itself in a notebook as an HTML image with alt text, and in a terminal as that text.
Whatever is drawn or said may come from data, so it is made harmless here.
"""

from __future__ import annotations

import base64
import functools
import html
import io
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, GREY, PALE, BLUE = "#222222", "#8c8c8c", "#d4d4d4", "#1f5a96"
# Told apart without colour: by dash, by marker, by hatch and by lightness.
STYLES = (
    {"color": INK, "linestyle": "-", "marker": "o", "hatch": ""},
    {"color": BLUE, "linestyle": "--", "marker": "s", "hatch": "////"},
    {"color": "#c77c11", "linestyle": "-.", "marker": "^", "hatch": "...."},
    {"color": GREY, "linestyle": ":", "marker": "D", "hatch": "\\\\\\\\"},
)


def drawing(
    title: str, facts: str, panels: Sequence[Sequence[str]] = (("all",),), *, height: float = 3.5, **layout: Any
) -> tuple[Figure, dict[str, Axes]]:
    """Make an empty figure, 7 by `height` inches at 110 dpi, and return it with its named panels.

    facts: what the figure shows, in numbers; with the title they are its alt text
    panels: rows of names for matplotlib's `subplot_mosaic`, which also gets `layout`
    """
    figure = _figure_class()(figsize=(7, height), dpi=110, layout="constrained", facecolor="white")
    figure.set_label(f"{one_line(title, 200)}. {one_line(facts, 1000)}.")
    figure.suptitle(safe(title, 90), fontsize=10.5)
    axes = figure.subplot_mosaic([list(row) for row in panels], **layout)
    for ax in axes.values():
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize=8)
    return figure, axes


@functools.cache
def _figure_class() -> type[Figure]:
    """Define the `Figure` that shows itself, at first use, because matplotlib is slow to import."""
    from matplotlib.figure import Figure

    class Drawing(Figure):
        def _repr_html_(self) -> str:
            return as_html(self)

        def __repr__(self) -> str:
            return alt_text(self)

    return Drawing


def label_axes(ax: Axes, x: str, y: str) -> None:
    """Name both axes; a unit goes in parentheses."""
    ax.set_xlabel("\n".join(safe(line, 80) for line in x.split("\n")), fontsize=9)
    ax.set_ylabel("\n".join(safe(line, 60) for line in y.split("\n")), fontsize=9)


def few(systems: Mapping[str, Any], what: str = "systems") -> Mapping[str, Any]:
    """Return the systems; raise `ValueError` if there are none, or more than there are styles."""
    if not 1 <= len(systems) <= len(STYLES):
        raise ValueError(f"expected 1 to {len(STYLES)} {what}, which can be told apart; got {len(systems)}")
    return systems


def line_style(style: Mapping[str, str]) -> dict[str, Any]:
    """Return colour and dash of an entry of `STYLES`, as arguments for matplotlib."""
    return {"color": style["color"], "linestyle": style["linestyle"]}


def one_line(text: str, width: int) -> str:
    """Remove line breaks and control characters, and cut to `width` characters."""
    words = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return words if len(words) <= width else words[: width - 1] + "…"


def safe(text: str, width: int = 40) -> str:
    """Clean a text like `one_line`, and escape dollars, so that matplotlib never reads maths."""
    return one_line(text, width).replace("$", r"\$")


def alt_text(figure: Figure) -> str:
    """Return what the figure says, in a few sentences with its main numbers."""
    return str(figure.get_label())


def png(figure: Figure) -> bytes:
    """Render a PNG of at most 128 colours, about half the size of a full-colour one."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image, PngImagePlugin

    canvas = FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        # A token in a script that the font lacks is drawn as a box; the text is in the alt text.
        warnings.filterwarnings("ignore", message="Glyph")
        canvas.draw()
    described = PngImagePlugin.PngInfo()
    described.add_itxt("Description", alt_text(figure))
    file = io.BytesIO()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").quantize(128, dither=Image.Dither.NONE)
    image.save(file, "png", optimize=True, pnginfo=described)
    return file.getvalue()


def save(figure: Figure, path: str | os.PathLike) -> Path:
    """Write the figure as PNG, with its alt text as description; missing folders are made."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(figure))
    return path


def as_html(figure: Figure) -> str:
    """Render one `<img>` with its alt text, everything escaped."""
    data = base64.b64encode(png(figure)).decode("ascii")
    return f'<img alt="{html.escape(alt_text(figure))}" src="data:image/png;base64,{data}">'


def show(figure: Figure) -> None:
    """Display the figure in a notebook cell, or print its alt text elsewhere."""
    if running_shell() is None:
        print(alt_text(figure))
        return
    from IPython.display import display

    display({"text/html": as_html(figure), "text/plain": alt_text(figure)}, raw=True)


def running_shell() -> Any:
    """Return the IPython shell that runs this code, or None in a plain script."""
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython else None
