"""A comparison as figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from recbole_hellm.benchmark.comparison import Comparison, Curve, Row
from recbole_hellm.benchmark.drawing import INK, LINE, MUTED, WIDTH, Plot, as_plot, canvas, looks, shorten, spread, style
from recbole_hellm.benchmark.layout import by_dataset
from recbole_hellm.benchmark.wording import headline_metrics, mark, number, ranked, signed

SHOWN = 2
"""Metrics with a figure of their own: the main one and the next."""
_TIMES = {0.1: "0.1 s", 1: "1 s", 10: "10 s", 60: "1 min", 600: "10 min", 3600: "1 h", 36000: "10 h", 360000: "100 h"}
_MORE = {3: "3 s", 30: "30 s", 120: "2 min", 300: "5 min", 1200: "20 min", 1800: "30 min", 7200: "2 h", 18000: "5 h"}
_BY = {"history": "interactions before the target", "popularity": "training events of the target"}
_NAME_WIDTH = 112


def result_plots(comparison: Comparison) -> Iterator[Plot]:
    """Yield, by data set, the metric of every model with its interval, and quality against cost."""
    with style():
        for dataset, rows in by_dataset(comparison.rows):
            for metric in headline_metrics(comparison)[:SHOWN]:
                yield _by_model(comparison, dataset, rows, metric)
            yield _by_cost(comparison, dataset, rows)


def group_plots(comparison: Comparison) -> Iterator[Plot]:
    """Yield, by data set, the main metric over parts of the users."""
    with style():
        for dataset in dict.fromkeys(group.dataset for group in comparison.groups):
            for by in dict.fromkeys(group.by for group in comparison.groups):
                yield _by_part(comparison, dataset, by)


def curve_plots(comparison: Comparison) -> Iterator[Plot]:
    """Yield, by data set, what every stage did over its epochs."""
    shown = {(row.dataset, row.label) for row in comparison.rows or comparison.ablation_rows}
    curves = [curve for curve in comparison.curves if (curve.dataset, curve.label) in shown]
    metric = comparison.metric
    kinds: dict[str, Callable[[Curve], list[tuple[float, float]]]] = {
        f"validation {metric}": lambda c: [(e["epoch"], e["valid"][metric]) for e in c.training if _validated(e, metric)],
        "loss in training": lambda c: _relative([e["loss"] for e in c.training]),
        "loss in graph pre-training": lambda c: _relative(c.graph),
        "loss in sequence pre-training": lambda c: _relative(c.sequence),
    }
    with style():
        for dataset in dict.fromkeys(curve.dataset for curve in curves):
            for kind, points in kinds.items():
                lines = {curve.label: points(curve) for curve in curves if curve.dataset == dataset and points(curve)}
                if any(len(line) > 1 for line in lines.values()):
                    yield _over_epochs(comparison, dataset, kind, lines)


def ablation_plots(comparison: Comparison) -> Iterator[Plot]:
    """Yield, by data set, the difference of every variant to the full model."""
    with style():
        for dataset, results in comparison.ablation.items():
            tested = sorted((r for r in results if not r.reason), key=lambda result: result.difference)
            if not tested:
                continue
            axes = _listing(len(tested))
            for place, result in enumerate(tested):
                colour = "#d55e00" if result.difference < 0 else "#009e73"
                axes.barh(place + 0.22, result.difference, height=0.26, color=colour, alpha=0.55 if mark(result) else 0.25)
                axes.plot(result.interval, [place + 0.22] * 2, color=INK, linewidth=1.2)
                _entry(axes, place, result.label, f"{signed(result.difference)}{mark(result)}")
            axes.axvline(0, color=MUTED, linewidth=0.8)
            text = f"Difference of {comparison.metric} to the full model, with 95 % interval over users; {_STARS}"
            yield as_plot(axes, f"One part off, {dataset}", text)


_STARS = "* p < 0.05, ** p < 0.01 after Holm's correction."


def _by_model(comparison: Comparison, dataset: str, rows: Sequence[Row], metric: str) -> Plot:
    axes, comparable = _listing(len(rows)), ranked(comparison, rows)
    for place, row in enumerate(sorted(rows, key=lambda row: -row.mean[metric])):
        look, y = looks(comparison)[row.label], place + 0.22
        if metric in row.interval:
            axes.plot(row.interval[metric], [y, y], color=look.colour, linewidth=5, alpha=0.35, solid_capstyle="round")
        if len(row.cells) > 1:
            values = [cell["test"][metric] for cell in row.cells]
            axes.plot(values, [y] * len(values), "|", color=look.colour, markersize=9, markeredgewidth=1.2)
        axes.plot(row.mean[metric], y, look.marker, color=look.colour, markersize=7)
        std = row.std.get(metric, math.nan)
        value = number(row.mean[metric]) + ("" if math.isnan(std) else f" ± {number(std)}")
        _entry(axes, place, row.label, value, "" if row in comparable else _task(row))
    text = f"Test {metric}: mean (symbol), 95 % bootstrap interval over users (band)"
    seeds = ", one stroke per seed." if any(len(row.cells) > 1 for row in rows) else "."
    return as_plot(axes, f"{metric}, {dataset}", text + seeds)


def _by_cost(comparison: Comparison, dataset: str, rows: Sequence[Row]) -> Plot:
    metric, height = comparison.metric, 300
    axes = canvas(height, right=16)
    points = [(max(row.cost.seconds, 0.1), row.mean[metric]) for row in rows]
    axes.set_xscale("log")
    low, high = min(x for x, _ in points), max(x for x, _ in points)
    axes.set_xlim(low / 1.6, high * 1.6)
    axes.margins(y=0.16)
    for row, (x, y) in zip(rows, points, strict=True):
        look = looks(comparison)[row.label]
        axes.plot(x, y, look.marker, color=look.colour, markersize=9)
    ticks = _ticks(low / 1.6, high * 1.6)
    axes.xaxis.set_major_locator(FixedLocator(list(ticks)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: ticks.get(x, "")))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(visible=True)
    axes.set_xlabel("all stages, from nothing stored")
    _name_points(axes, [row.label for row in rows], points)
    return as_plot(axes, f"Quality against cost, {dataset}", f"Test {metric} over total seconds; up and left is better.")


def _by_part(comparison: Comparison, dataset: str, by: str) -> Plot:
    groups = [group for group in comparison.groups if group.dataset == dataset and group.by == by]
    names = list(dict.fromkeys(group.name for group in groups))
    labels = list(dict.fromkeys(group.label for group in groups))
    axes = canvas(max(260, 15 * len(labels) + 110), right=_NAME_WIDTH, bottom=66)
    for shift, label in enumerate(labels):
        look, own = looks(comparison)[label], [group for group in groups if group.label == label]
        x = [names.index(group.name) + 0.07 * (shift - (len(labels) - 1) / 2) for group in own]
        axes.plot(x, [group.mean for group in own], look.marker + "-", color=look.colour, markersize=5.5, linewidth=1.4)
        for place, group in zip(x, own, strict=True):
            axes.plot([place, place], group.interval, color=look.colour, linewidth=1.2, alpha=0.5)
    axes.set_xticks(range(len(names)), [_part(next(g for g in groups if g.name == name)) for name in names])
    axes.set_xlim(-0.4, len(names) - 0.6)
    axes.set_xlabel(_BY[by])
    axes.grid(visible=True, axis="y")
    ends = {label: next(g.mean for g in reversed(groups) if g.label == label) for label in labels}
    _name_ends(axes, comparison, {label: (len(names) - 1, value) for label, value in ends.items()})
    text = f"Test {comparison.metric} by {_BY[by]}, with 95 % intervals over users; n: users in the part."
    return as_plot(axes, f"By {by}, {dataset}", text)


def _over_epochs(
    comparison: Comparison, dataset: str, kind: str, lines: Mapping[str, Sequence[tuple[float, float]]]
) -> Plot:
    axes = canvas(max(240, 15 * len(lines) + 80), right=_NAME_WIDTH)
    for label, line in lines.items():
        look = looks(comparison)[label]
        epochs, values = zip(*line, strict=True)
        # Long runs have an epoch per pixel: their markers would hide the line.
        axes.plot(epochs, values, color=look.colour, linewidth=1.5, marker=look.marker, markersize=4, markevery=0.08)
    longest = sorted(line[-1][0] for line in lines.values())
    if longest[-1] > 10 * max(longest[0], 2):
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlabel("epoch")
    axes.grid(visible=True, axis="y")
    _name_ends(axes, comparison, {label: line[-1] for label, line in lines.items()})
    text = "First seed of each model." if kind.startswith("validation") else _LOSS
    return as_plot(axes, f"{kind[0].upper()}{kind[1:]}, {dataset}", text)


_LOSS = "First seed of each model; share of the first epoch's loss, as models have different losses."


def _listing(n: int) -> Axes:
    """Return axes with ``n`` lines of text, each above its own strip of the plot, so that names may be long."""
    axes = canvas(38 * n + 34, left=8, right=12, top=4, bottom=30)
    axes.set_ylim(n - 0.35, -0.5)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.grid(visible=True, axis="x")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    return axes


def _entry(axes: Axes, place: int, name: str, value: str, remark: str = "") -> None:
    side = axes.get_yaxis_transform()
    room = 52 - len(value) - len(remark)
    text = axes.text(0, place - 0.2, shorten(name, room), transform=side, va="center")
    if remark:
        axes.annotate(f" {remark}", (1, 0.5), xycoords=text, va="center", color=MUTED)
    axes.text(1, place - 0.2, value, transform=side, ha="right", va="center", color=MUTED)


def _name_points(axes: Axes, names: Sequence[str], points: Sequence[tuple[float, float]]) -> None:
    """Write each name beside its point, where it covers neither a point nor another name."""
    axes.autoscale_view()
    spots = [tuple(axes.transData.transform(point)) for point in points]
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in spots]
    frame, renderer = axes.get_window_extent(), axes.figure.canvas.get_renderer()
    for name, (x, y) in sorted(zip(names, spots, strict=True), key=lambda item: -item[1][1]):
        text = axes.text(0, 0, shorten(name, 30), transform=None, va="center", fontsize=11)
        box = text.get_window_extent(renderer)
        free = _free_place((x, y), box.width, box.height, taken, (frame.x0, frame.y0, WIDTH - 2, frame.y1))
        text.set_position((free[0], (free[1] + free[3]) / 2))
        taken.append(free)
        if abs((free[1] + free[3]) / 2 - y) > 20:
            end = min(max(x, free[0]), free[2])
            axes.plot([x, end], [y, free[1] if free[1] > y else free[3]], color=LINE, linewidth=1, transform=None)


Box = tuple[float, float, float, float]


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


def _name_ends(axes: Axes, comparison: Comparison, ends: Mapping[str, tuple[float, float]]) -> None:
    """Write each name at the right, joined to the end of its line."""
    axes.autoscale_view()
    frame = axes.get_window_extent()
    spots = [axes.transData.transform(end) for end in ends.values()]
    places = spread([y for _, y in spots], 14, frame.y0 + 4, frame.y1)
    for label, (x, y), place in zip(ends, spots, places, strict=True):
        colour = looks(comparison)[label].colour
        line = [(x + 5, y), (frame.x1 + 2, y), (frame.x1 + 10, place)]
        axes.plot(*zip(*line, strict=True), color=colour, linewidth=0.8, alpha=0.6, transform=None, clip_on=False)
        axes.text(frame.x1 + 13, place, shorten(label, 16), transform=None, va="center")


def _ticks(low: float, high: float) -> dict[float, str]:
    few = {time: name for time, name in _TIMES.items() if low <= time <= high}
    return few if len(few) > 1 else {time: name for time, name in sorted({**_TIMES, **_MORE}.items()) if low <= time <= high}


def _part(group: object) -> str:
    ...


def _task(row: Row) -> str:
    parts = ["history masked"] if row.protocol["history_masked"] else ["history kept"]
    return f"({', '.join([*parts, *([str(row.protocol['fitted_on'])] if row.protocol['fitted_on'] != 'train' else [])])})"


def _relative(losses: Sequence[float]) -> list[tuple[float, float]]:
    first = next(iter(losses), 0.0)
    return [(epoch, loss / first) for epoch, loss in enumerate(losses, start=1)] if first else []


def _validated(epoch: Mapping[str, object], metric: str) -> bool:
    valid = epoch.get("valid")
    return isinstance(valid, Mapping) and metric in valid
