"""A comparison as figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from recbole_hellm.benchmark.comparison import Comparison, Curve, Group, Row
from recbole_hellm.benchmark.drawing import INK, MUTED, PALETTE, Plot, as_plot, canvas, looks, style
from recbole_hellm.benchmark.layout import by_dataset
from recbole_hellm.benchmark.naming import LETTERS, entry, listing, name_ends, name_points, name_width
from recbole_hellm.benchmark.wording import headline_metrics, mark, number, ranked, signed

WORSE, BETTER = PALETTE[1], PALETTE[2]
SHOWN = 2
"""Metrics with a figure of their own: the main one and the next."""
MOST_LETTERS = 24
"""Of a name beside its curve."""
MARKED = 10
"""Epochs up to which a curve has a marker on each."""
_TIMES = (0.1, 1, 10, 60, 600, 3600, 36000, 360000)
_MORE = (3, 30, 120, 300, 1200, 1800, 7200, 18000)
"""Seconds of the ticks of a cost axis, and those between them."""
_BY = {"history": "interactions before the target", "popularity": "training events of the target"}


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
        for dataset, by in dict.fromkeys((group.dataset, group.by) for group in comparison.groups):
            yield _by_part(comparison, dataset, by)


def curve_plots(comparison: Comparison) -> Iterator[Plot]:
    """Yield, by data set, what every stage did over its epochs."""
    shown = {(row.dataset, row.label) for row in comparison.rows or comparison.ablation_rows}
    curves = [curve for curve in comparison.curves if (curve.dataset, curve.label) in shown]
    metric = comparison.metric
    kinds: dict[str, Callable[[Curve], list[tuple[float, float]]]] = {
        f"validation {metric}": lambda c: _validations(c, metric),
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
            axes = listing(len(tested))
            for place, result in enumerate(tested):
                colour = "#d55e00" if result.difference < 0 else "#009e73"
                axes.barh(
                    place + 0.22, result.difference, height=0.26, color=colour, alpha=0.55 if mark(result) else 0.25
                )
                axes.plot(result.interval, [place + 0.22] * 2, color=INK, linewidth=1.2)
                entry(axes, place, result.label, f"{signed(result.difference)}{mark(result)}")
                # In the strips alone: a line from top to bottom would cross the values written above them.
                axes.plot([0, 0], [place + 0.04, place + 0.4], color=MUTED, linewidth=0.8)
            text = f"Difference of {comparison.metric} to the full model, with 95 % interval over users; {_STARS}"
            yield as_plot(axes, dataset, f"One part off, {dataset}", text)


_STARS = "* p < 0.05, ** p < 0.01 after Holm's correction."


def _by_model(comparison: Comparison, dataset: str, rows: Sequence[Row], metric: str) -> Plot:
    axes, comparable = listing(len(rows)), ranked(comparison, rows)
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
        entry(axes, place, row.label, value, "" if row in comparable else _task(row, comparable))
    text = f"Test {metric}: mean (symbol), 95 % bootstrap interval over users (band)"
    seeds = ", one stroke per seed." if any(len(row.cells) > 1 for row in rows) else "."
    return as_plot(axes, dataset, f"{metric}, {dataset}", text + seeds)


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
    axes.xaxis.set_major_locator(FixedLocator(_ticks(low / 1.6, high * 1.6)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _time(x)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(visible=True)
    axes.set_xlabel("time of all stages")
    name_points(axes, [row.label for row in rows], points)
    return as_plot(
        axes, dataset, f"Quality against cost, {dataset}", f"Test {metric} over total seconds; up and left is better."
    )


def _by_part(comparison: Comparison, dataset: str, by: str) -> Plot:
    groups = [group for group in comparison.groups if group.dataset == dataset and group.by == by]
    names = list(dict.fromkeys(group.name for group in groups))
    labels = list(dict.fromkeys(group.label for group in groups))
    axes = canvas(max(260, 15 * len(labels) + 110), right=name_width(), bottom=66)
    ends: dict[str, tuple[float, float]] = {}
    for shift, label in enumerate(labels):
        look, own = looks(comparison)[label], [group for group in groups if group.label == label]
        x = [names.index(group.name) + 0.07 * (shift - (len(labels) - 1) / 2) for group in own]
        ends[label] = (x[-1], own[-1].mean)
        axes.plot(x, [group.mean for group in own], look.marker + "-", color=look.colour, markersize=5.5, linewidth=1.4)
        for place, group in zip(x, own, strict=True):
            axes.plot([place, place], group.interval, color=look.colour, linewidth=1.2, alpha=0.4)
    axes.set_xticks(range(len(names)), [_part(next(g for g in groups if g.name == name)) for name in names])
    axes.set_xlim(-0.4, len(names) - 0.6)
    axes.set_xlabel(_BY[by])
    axes.grid(visible=True, axis="y")
    name_ends(axes, looks(comparison), ends)
    text = f"Test {comparison.metric} by {_BY[by]}, with 95 % intervals over users; n: users in the part."
    return as_plot(axes, dataset, f"By {by}, {dataset}", text)


def _over_epochs(
    comparison: Comparison, dataset: str, kind: str, lines: Mapping[str, Sequence[tuple[float, float]]]
) -> Plot:
    letters = min(MOST_LETTERS, max(LETTERS, *map(len, lines)))
    axes = canvas(max(240, 15 * len(lines) + 80), right=name_width(letters))
    for label, line in lines.items():
        look = looks(comparison)[label]
        epochs, values = zip(*line, strict=True)
        # Long runs have an epoch per pixel: their markers would hide the line.
        every = 0.08 if len(line) > MARKED else 1
        axes.plot(epochs, values, color=look.colour, linewidth=1.5, marker=look.marker, markersize=4, markevery=every)
    longest = sorted(line[-1][0] for line in lines.values())
    if longest[-1] > 10 * max(longest[0], 2):
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlabel("epoch")
    axes.grid(visible=True, axis="y")
    name_ends(axes, looks(comparison), {label: line[-1] for label, line in lines.items()}, letters)
    text = "First seed of each model." if kind.startswith("validation") else _LOSS
    return as_plot(axes, dataset, f"{kind[0].upper()}{kind[1:]}, {dataset}", text)


_LOSS = "First seed of each model; share of the first epoch's loss, as models have different losses."


def _ticks(low: float, high: float) -> list[float]:
    few, more = ([time for time in times if low <= time <= high] for times in (_TIMES, sorted((*_TIMES, *_MORE))))
    return few if len(few) > 1 else more


def _time(seconds: float) -> str:
    unit, name = (1, "s") if seconds < 60 else (60, "min") if seconds < 3600 else (3600, "h")
    return f"{seconds / unit:g} {name}"


def _part(group: Group) -> str:
    name = group.name.replace("-", "–")
    if group.by == "popularity":
        name += f"\n{group.low:,.0f}–{group.high:,.0f}" if group.low < group.high else f"\n{group.low:,.0f}"
    return f"{name}\nn {group.n_users:,}"


def _task(row: Row, others: Sequence[Row]) -> str:
    """Say what is another task in a row than in the others."""
    parts = ["history masked" if row.protocol["history_masked"] else "history kept"]
    parts += [row.protocol["fitted_on"]] if row.protocol["fitted_on"] != "train" else []
    minutes = row.protocol.get("minutes")
    if any(other.protocol.get("minutes") != minutes for other in others):
        parts.append("no time limit" if minutes is None else f"{minutes:g} minutes")
    return f"({', '.join(parts)})"


def _relative(losses: Sequence[float]) -> list[tuple[float, float]]:
    first = next(iter(losses), 0.0)
    return [(epoch, loss / first) for epoch, loss in enumerate(losses, start=1)] if first else []


def _validations(curve: Curve, metric: str) -> list[tuple[float, float]]:
    return [(epoch["epoch"], epoch["valid"][metric]) for epoch in curve.training if metric in (epoch["valid"] or ())]
