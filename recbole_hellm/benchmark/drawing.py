"""How the figures of a report look, and how they become text of a page."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from recbole_hellm.benchmark.comparison import Comparison

WIDTH = 380
"""Of every figure in points: about a phone's width, so that its text keeps its size there."""
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6bb1", "#808080")
"""Okabe and Ito's colours without black and yellow, which vanish on a dark or a light page, and two more."""
MARKERS = "os^Dv<>"
"""One fewer than colours, so that colour and shape together repeat late."""
# The page replaces these by its own colours, which follow the reader's light or dark setting.
INK, MUTED, LINE = "#010203", "#040506", "#070809"
_ELEMENTS = (
    (r"<defs>\s*<style[^>]*>.*?</style>\s*</defs>", ""),  # would hold for the whole page
    (r"<!--.*?-->", ""),
    (r"\s*\n\s*", " "),
    (r"> <", "><"),
)
_TAGS = (
    (r'<g id="[^"]*"', "<g"),  # every figure has the same
    (r" font-family: [^;\"]*;", ""),  # the page's own
    (r' transform="rotate\(-0 [^"]*\)"', ""),
    *((colour, f"var({name})") for colour, name in ((INK, "--ink"), (MUTED, "--muted"), (LINE, "--line"))),
)
_RC: Any = {
    "svg.fonttype": "none",  # text stays text: it can be searched, read aloud, and follows the page's colours
    "font.size": 11.0,
    "text.parse_math": False,  # a label may hold a dollar sign
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 11.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 11.0,
    "ytick.labelsize": 11.0,
    "xtick.major.size": 0.0,
    "ytick.major.size": 0.0,
    "axes.axisbelow": True,
}


@dataclass(frozen=True)
class Plot:
    """One figure of a page."""

    dataset: str
    title: str
    text: str
    """What it shows, for those who cannot see it and for a caption."""
    svg: str


@dataclass(frozen=True)
class Look:
    """Colour and marker of one label in every figure."""

    colour: str
    marker: str


def looks(comparison: Comparison) -> dict[str, Look]:
    """Return one look per label, in the order the labels come."""
    labels = dict.fromkeys(row.label for row in (*comparison.rows, *comparison.ablation_rows))
    return {
        label: Look(PALETTE[place % len(PALETTE)], MARKERS[place % len(MARKERS)]) for place, label in enumerate(labels)
    }


@contextmanager
def style() -> Iterator[None]:
    """Draw as this package does; matplotlib's settings are as before afterwards."""
    with matplotlib.rc_context(_RC), warnings.catch_warnings():
        # Only the measuring font lacks them; the page's own fonts draw the text.
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
        yield


def canvas(height: float, left: float = 46, right: float = 12, top: float = 10, bottom: float = 40) -> Axes:
    """Return the axes of a new figure; all lengths in points."""
    figure = Figure(figsize=(WIDTH / 72, height / 72), dpi=72)
    figure.patch.set_visible(False)
    size = (left / WIDTH, bottom / height, (WIDTH - left - right) / WIDTH, (height - top - bottom) / height)
    axes = figure.add_axes(size)
    axes.patch.set_visible(False)
    return axes


def as_plot(axes: Axes, dataset: str, title: str, text: str) -> Plot:
    """Return the figure as inline SVG: the same figure gives the same text, without ids that meet on one page."""
    figure, buffer = cast(Figure, axes.figure), io.StringIO()
    FigureCanvasSVG(figure)
    with matplotlib.rc_context({"svg.hashsalt": f"{title} {text}"}):
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", metadata=nothing, transparent=True)
    svg = buffer.getvalue()
    body = svg[svg.index(">", svg.index("<svg")) + 1 :]
    for pattern, new in _ELEMENTS:
        body = re.sub(pattern, new, body, flags=re.DOTALL)
    body = re.sub(r"<[^>]*>", _plain_tag, body)
    height = figure.get_figheight() * 72
    return Plot(
        dataset, title, text, f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-hidden="true">{body.strip()}'
    )


def _plain_tag(tag: re.Match[str]) -> str:
    """Return one tag without what a page does not need; the text between tags, a label say, is not touched."""
    text = tag[0]
    for pattern, new in _TAGS:
        text = re.sub(pattern, new, text)
    return re.sub(r"\d+\.\d{3,}", lambda digits: f"{float(digits[0]):.2f}".rstrip("0").rstrip("."), text)
