"""A study as figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from recbole_hellm.benchmark.drawing import INK, PALETTE, Plot, as_plot, canvas, style
from recbole_hellm.benchmark.naming import entry, listing, shorten
from recbole_hellm.tune.findings import Findings
from recbole_hellm.tune.space import Domain, label

DONE, PRUNED = PALETTE[0], PALETTE[1]
HEIGHT = 230
"""Of a figure with axes, in points."""


def plots(found: Findings) -> list[Plot]:
    """Return the figures of a study; none of them before a trial has a value."""
    valued = [record for record in found.records if record["value"] is not None]
    if not valued:
        return []
    with style():
        made = [_history(found, valued)]
        if any(len(_curve(record)) > 1 for record in valued):
            made.append(_curves(found, valued))
        if found.importances:
            made.append(_importances(found))
        made += [_setting(found, domain, valued) for domain in found.plan.space]
    return made


def _history(found: Findings, records: Sequence[dict[str, Any]]) -> Plot:
    axes = canvas(HEIGHT)
    _points(axes, records, [record["trial"] for record in records])
    best, line = None, []
    for record in records:
        if record["status"] == "complete":
            better = best is None or (record["value"] > best if found.bigger else record["value"] < best)
            best = record["value"] if better else best
            line.append((record["trial"], best))
    if line:
        axes.step(*zip(*line, strict=True), where="post", color=INK, linewidth=1.2)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlabel("trial")
    text = f"{found.metric} on validation by trial; the line is the best so far. {_LEGEND}"
    return as_plot(axes, "", "Trials in order", text)


def _curve(record: Mapping[str, Any]) -> list[tuple[int, float]]:
    """Return (epoch, value) of the first seed's validations."""
    first = next(iter(record["runs"].values()))
    return [(epoch, value) for epoch, value, *_ in first["curve"] if value is not None]


def _curves(found: Findings, records: Sequence[dict[str, Any]]) -> Plot:
    axes, best = canvas(HEIGHT), found.best
    for record in records:
        curve = _curve(record)
        if record["same_as"] is not None or not curve:
            continue
        is_best = best is not None and record["trial"] == best["trial"]
        colour = INK if is_best else DONE if record["status"] == "complete" else PRUNED
        axes.plot(
            *zip(*curve, strict=True),
            color=colour,
            linewidth=2 if is_best else 1,
            alpha=1 if is_best else 0.6,
            marker="o",
            markersize=3,
            zorder=3 if is_best else 2,
        )
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlabel("epoch")
    axes.grid(visible=True, axis="y")
    text = f"{found.metric} on validation by epoch, first seed of each trial; the best trial thick. {_LEGEND}"
    return as_plot(axes, "", "Validation curves", text)


def _importances(found: Findings) -> Plot:
    axes = listing(len(found.importances))
    for place, (key, share) in enumerate(found.importances.items()):
        axes.barh(place + 0.22, share, height=0.26, color=DONE)
        entry(axes, place, key, f"{share:.2f}")
    axes.set_xlim(0, 1)
    text = "Share of the spread of complete trials that each setting explains alone (PED-ANOVA)."
    return as_plot(axes, "", "Importance of settings", text)


def _setting(found: Findings, domain: Domain, records: Sequence[dict[str, Any]]) -> Plot:
    """Draw the value of every trial against one setting."""
    axes = canvas(HEIGHT)
    tried = [record for record in records if domain.key in record["settings"]]
    values = [record["settings"][domain.key] for record in tried]
    if domain.kind == "choice":
        labels = [label(choice) for choice in domain.choices]
        _points(axes, tried, [labels.index(label(value)) for value in values])
        axes.set_xticks(range(len(labels)), [shorten(str(one), max(4, 48 // len(labels))) for one in labels])
        axes.set_xlim(-0.5, len(labels) - 0.5)
    else:
        _points(axes, tried, values)
        if "log" in domain.kind:
            axes.set_xscale("log")
            axes.xaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        elif domain.kind == "int":
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.set_xlim(domain.low, domain.high)
    axes.set_xlabel(domain.key)
    return as_plot(axes, "", domain.key, f"{found.metric} on validation against {domain.key}. {_LEGEND}")


_LEGEND = "Filled, blue: complete; hollow, red: pruned."


def _points(axes: Axes, records: Sequence[dict[str, Any]], x: Sequence[Any]) -> None:
    for record, place in zip(records, x, strict=True):
        done = record["status"] == "complete"
        colour, face = (DONE, DONE) if done else (PRUNED, "none")
        axes.plot(
            [place], [record["value"]], "o", color=colour, markerfacecolor=face, markersize=6, clip_on=False, zorder=3
        )
    axes.grid(visible=True, axis="y")
