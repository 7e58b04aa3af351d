"""Small SVG drawings; colours come from the page, so that they follow light and dark."""

import math
from collections.abc import Sequence

from markupsafe import Markup, escape

_WIDTH, _HEIGHT, _TOP, _BOTTOM, _LEFT = 360, 170, 18, 28, 8
_LETTER = 6.2
"""Width of a letter."""


def bars(values: Sequence[tuple[str, int]], of: str) -> Markup:
    """Draw a bar for each (range, number).

    Args:
        values: At least one.
        of: What is counted, for the description, such as ``users by number of events``.
    """
    highest, step = max((n for _, n in values), default=0) or 1, (_WIDTH - 2 * _LEFT) / len(values)
    parts, named = [], False
    longest = max(len(label) for label, _ in values)
    every = math.ceil((longest + 1.5) * _LETTER / step)  # more labels would run into each other
    for place, (label, n) in enumerate(values):
        height = (_HEIGHT - _TOP - _BOTTOM) * n / highest
        if n:
            height = max(height, 1.0)
        x, y = _LEFT + place * step, _HEIGHT - _BOTTOM - height
        parts.append(
            f'<rect class="bar" x="{x + 1:.1f}" y="{y:.1f}" width="{step - 2:.1f}" height="{height:.1f}">'
            f"<title>{escape(label)}: {n:,}</title></rect>"
        )
        middle = x + step / 2
        if n == highest and not named:
            anchor = "start" if middle < 40 else "end" if middle > _WIDTH - 40 else "middle"
            parts.append(f'<text class="value" x="{middle:.1f}" y="{y - 5:.1f}" text-anchor="{anchor}">{n:,}</text>')
            named = True
        if place % every == 0:
            parts.append(f'<text x="{middle:.1f}" y="{_HEIGHT - 10}" text-anchor="middle">{escape(label)}</text>')
    base = _HEIGHT - _BOTTOM
    parts.append(f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _LEFT}" y1="{base}" y2="{base}"/>')
    return _svg(parts, f"{of}: " + ", ".join(f"{label}: {n:,}" for label, n in values))


def curve(points: Sequence[tuple[float, float]], of: str) -> Markup:
    """Draw a line through points of [0, 1] x [0, 1], with the diagonal for comparison."""
    base, width, height = _HEIGHT - _BOTTOM, _WIDTH - 40 - _LEFT, _HEIGHT - _TOP - _BOTTOM
    placed = " ".join(f"{40 + x * width:.1f},{base - y * height:.1f}" for x, y in points)
    parts = [
        f'<line class="axis" x1="40" x2="{40 + width}" y1="{base}" y2="{base}"/>',
        f'<line class="even" x1="40" x2="{40 + width}" y1="{base}" y2="{base - height}"/>',
        f'<polyline class="line" points="{placed}"/>',
    ]
    for share in (0, 0.5, 1):
        parts.append(
            f'<text x="{40 + share * width:.1f}" y="{_HEIGHT - 10}" text-anchor="'
            f'{"start" if share == 0 else "end" if share == 1 else "middle"}">{100 * share:.0f} % of items</text>'
        )
        parts.append(f'<text x="34" y="{base - share * height + 4:.1f}" text-anchor="end">{100 * share:.0f} %</text>')
    return _svg(parts, of)


def _svg(parts: Sequence[str], description: str) -> Markup:
    inside = "".join(parts)
    return Markup(f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(description)}">{inside}</svg>')
