"""Where the names of models stand in a figure: beside what they name, never on each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from recbole_hellm.benchmark.drawing import MUTED, WIDTH, Look, canvas

LETTERS = 15
"""Of a name in :func:`name_ends`, where nothing else is said; the rest of its middle is left out."""
Box = tuple[float, float, float, float]


def listing(n: int) -> Axes:
    """Return axes with ``n`` lines of text, each above its own strip of the plot, so that names may be long."""
    axes = canvas(38 * n + 34, left=8, right=12, top=4, bottom=30)
    axes.set_ylim(n - 0.35, -0.5)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.grid(visible=True, axis="x")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    return axes


def entry(axes: Axes, place: int, name: str, value: str, remark: str = "") -> None:
    """Write a name, what is remarked on it, and a value above a strip of :func:`listing`."""
    side = axes.get_yaxis_transform()
    room = 52 - len(value) - len(remark)
    text = axes.text(0, place - 0.2, shorten(name, room), transform=side, va="center")
    if remark:
        axes.annotate(remark, (1, 0.5), (5, 0), xycoords=text, textcoords="offset points", va="center", color=MUTED)
    axes.text(1, place - 0.2, value, transform=side, ha="right", va="center", color=MUTED)


def name_points(axes: Axes, names: Sequence[str], points: Sequence[tuple[float, float]]) -> None:
    """Write each name beside its point, where it covers neither a point nor another name."""
    axes.autoscale_view()
    spots = [tuple(axes.transData.transform(point)) for point in points]
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in spots]
    frame = axes.get_window_extent()
    for name, (x, y) in sorted(zip(names, spots, strict=True), key=lambda item: -item[1][1]):
        text = axes.text(0, 0, shorten(name, 30), transform=None, va="center", fontsize=11)
        box = text.get_window_extent()
        free = _free_place((x, y), box.width, box.height, taken, (frame.x0, frame.y0, WIDTH - 2, frame.y1))
        text.set_position((free[0], (free[1] + free[3]) / 2))
        taken.append(free)
        if abs((free[1] + free[3]) / 2 - y) > 20:
            end = min(max(x, free[0]), free[2])
            axes.plot(
                [x, end], [y, free[1] if free[1] > y else free[3]], color=MUTED, linewidth=0.7, transform=None, zorder=1
            )


def _free_place(spot: tuple[float, float], width: float, height: float, taken: Sequence[Box], frame: Box) -> Box:
    x, y = spot
    best, least = (x, y, x, y), math.inf
    for step in range(12):
        for left, up in ((x + 9, 0), (x - 9 - width, 0), (x - width / 2, 14), (x - width / 2, -14)):
            for sign in (1, -1):
                middle = y + up + sign * step * 7
                start = min(max(left, frame[0] + 2), frame[2] - width)
                box = (start, middle - height / 2, start + width, middle + height / 2)
                outside = max(0.0, frame[1] - box[1]) + max(0.0, box[3] - frame[3])
                cost = sum(_overlap(box, other) for other in taken) + 40 * outside + step + 0.1 * (up != 0)
                if cost < least - 1e-9:
                    best, least = box, cost
    return best


def _overlap(a: Box, b: Box) -> float:
    wide, tall = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return wide * tall if wide > 0 and tall > 0 else 0.0


def name_width(letters: int = LETTERS) -> float:
    """Return the points that :func:`name_ends` needs at the right of the axes for names of so many letters."""
    return 20 + 6.1 * letters


def name_ends(
    axes: Axes, looks: Mapping[str, Look], ends: Mapping[str, tuple[float, float]], letters: int = LETTERS
) -> None:
    """Write each name at the right, joined to the end of its line."""
    axes.autoscale_view()
    frame = axes.get_window_extent()
    spots = [axes.transData.transform(end) for end in ends.values()]
    places = spread([y for _, y in spots], 14, frame.y0 + 4, frame.y1)
    for label, (x, y), place in zip(ends, spots, places, strict=True):
        colour = looks[label].colour
        line = [(x + 5, y), (frame.x1 + 2, y), (frame.x1 + 10, place)]
        axes.plot(*zip(*line, strict=True), color=colour, linewidth=0.8, alpha=0.6, transform=None, clip_on=False)
        axes.text(frame.x1 + 13, place, shorten(label, letters), transform=None, va="center")


def shorten(text: str, longest: int) -> str:
    """Return ``text`` with its middle left out if it is longer; names often differ at their ends."""
    text = " ".join(text.split())
    if len(text) <= longest:
        return text
    head = (longest - 1) * 2 // 3
    return f"{text[:head].rstrip()}…{text[head + 1 - longest :].lstrip()}"


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return places near the wanted ones, at least ``gap`` apart, between ``low`` and ``high`` if they fit there."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    places = dict.fromkeys(order, 0.0)
    floor = low
    for i in order:
        places[i] = max(wanted[i], floor)
        floor = places[i] + gap
    ceiling = high
    for i in reversed(order):
        places[i] = min(places[i], ceiling)
        ceiling = places[i] - gap
    return [places[i] for i in range(len(wanted))]
