"""Numbers and protocols as a reader sees them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from recbole.evaluator.register import metrics_dict

from recbole_hellm.benchmark.comparison import Comparison, Row
from recbole_hellm.benchmark.significance import FEWEST_SEEDS, PairedResult
from recbole_hellm.benchmark.summary import UNPAIRED

NONE = "–"
"""Stands where there is no number."""
PROTOCOL = ("History", "Fitted on", "Loss", "Max length", "Minutes")
"""Columns printed beside every number."""
TESTED = (
    "Wilcoxon signed-rank and paired permutation test over users, right tail, Holm-corrected over the models of the "
    "data set"
)
_TARGETS = {
    "valid_and_test": "leave one out: each user's last item tests, the one before validates",
    "valid_only": "leave one out: each user's last item validates, nothing tests",
    "test_only": "leave one out: each user's last item tests, nothing validates",
}
_ORDERS = {"TO": "in order of time", "RO": "in random order"}


def number(value: float | None, decimals: int = 4) -> str:
    """Return ``0.0812``."""
    return NONE if value is None or math.isnan(value) else f"{value:.{decimals}f}"


def signed(value: float, decimals: int = 4) -> str:
    """Return ``+0.0123`` or ``−0.0123``."""
    return NONE if math.isnan(value) else f"{value:+.{decimals}f}".replace("-", "−")


def percent(share: float | None, sign: bool = False) -> str:
    """Return ``12.3 %`` for 0.123."""
    if share is None or math.isnan(share):
        return NONE
    return (signed(100 * share, 1) if sign else f"{100 * share:.1f}") + " %"


def between(interval: tuple[float, float], sign: bool = False) -> str:
    """Return ``0.0790 to 0.0834``."""
    low, high = (signed(end) if sign else number(end) for end in interval)
    return NONE if NONE in (low, high) else f"{low} to {high}"


def p_value(value: float | None) -> str:
    """Return ``0.012``, or ``<0.001``."""
    if value is None or math.isnan(value):
        return NONE
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def count(value: float | None) -> str:
    """Return ``8.16 M`` for 8158016."""
    if value is None:
        return NONE
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f}"


def amount(value: float | None) -> str:
    """Return seconds or a speed: one decimal below 10, ``1,234`` above."""
    if value is None or math.isnan(value):
        return NONE
    return f"{value:.1f}" if value < 9.95 else f"{value:,.0f}"


def mark(result: PairedResult | None) -> str:
    """Return ``**`` or ``*`` where both tests over users stay below 0.01 or 0.05 after Holm's correction."""
    if result is None or result.reason:
        return ""
    p = max(result.holm_wilcoxon, result.holm_permutation)
    return "**" if p < 0.01 else "*" if p < 0.05 else ""


def protocol_entries(protocol: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what stands in the columns :data:`PROTOCOL`."""
    minutes = protocol.get("minutes")
    return (
        "masked" if protocol["history_masked"] else "kept",
        str(protocol["fitted_on"]),
        str(protocol.get("loss") or NONE),
        str(protocol.get("max_length") or NONE),
        "no limit" if minutes is None else f"{minutes:g}",
    )


def protocol_sentences(rows: Sequence[Row]) -> list[str]:
    """Say the protocol of some rows in plain words; where rows differ, who has what."""
    history = {True: "masked: a user's past items leave the ranking", False: "kept: past items stay in the ranking"}
    said: tuple[tuple[str, Callable[[Mapping[str, Any]], str]], ...] = (
        ("Split", lambda p: _split(p["split"])),
        ("History", lambda p: history[bool(p["history_masked"])]),
        ("Fitted on", lambda p: str(p["fitted_on"])),
        ("Epoch chosen on", lambda p: {"valid": "validation; test read once"}.get(p["selected_on"], p["selected_on"])),
        ("Training time per cell", lambda p: _minutes(p.get("minutes"))),
        ("Loss", lambda p: str(p.get("loss") or "the model's own")),
        ("Longest history a model reads", lambda p: _length(p.get("max_length"))),
    )
    sentences = []
    for name, words in said:
        holders: dict[str, list[str]] = {}
        for row in rows:
            holders.setdefault(words(row.protocol), []).append(row.label)
        parts = sorted(holders.items(), key=lambda part: -len(part[1]))
        said_of = [f"{text} ({_listed(labels)})" for text, labels in parts[1:]]
        if said_of:
            most = parts[0][1]
            said_of.insert(0, f"{parts[0][0]} ({_listed(most) if len(most) == 1 else 'all others'})")
        sentences.append(f"{name}: {'; '.join(said_of) or parts[0][0]}.")
    return sentences


def distinct_metrics(comparison: Comparison) -> tuple[tuple[str, ...], str]:
    """Return the metrics that say something of their own, and a sentence on those left out.

    With one target per user RecBole's hit@k is recall@k, and precision@k is recall@k / k: a column for each would
    print one number three times.
    """
    rows, left = (*comparison.rows, *comparison.ablation_rows), []
    for metric in comparison.metrics:
        name, _, k = metric.partition("@")
        twin, share = f"recall@{k}", {"hit": 1.0, "precision": 1.0 / int(k) if k.isdigit() else math.nan}.get(name)
        if share is None or twin not in comparison.metrics or metric == comparison.metric:
            continue
        if all(abs(row.mean[metric] - share * row.mean[twin]) < 1.5e-6 for row in rows):
            left.append(metric)
    names = {metric.partition("@")[0] for metric in left}
    reasons = {"hit": "hit@k equals recall@k", "precision": "precision@k equals recall@k / k"}
    remark = f"Here {' and '.join(reasons[name] for name in reasons if name in names)}, so not printed." if left else ""
    return tuple(metric for metric in comparison.metrics if metric not in left), remark


def headline_metrics(comparison: Comparison) -> tuple[str, ...]:
    """Return the tested metrics that say something of their own, the main one first."""
    metrics, _ = distinct_metrics(comparison)
    return tuple(metric for metric in comparison.tested if metric in metrics)


def smaller_is_better(metric: str) -> bool:
    """Say which end of a metric is the good one, as RecBole declares it."""
    return bool(getattr(metrics_dict.get(metric.partition("@")[0]), "smaller", False))


def seeds_test(result: PairedResult) -> str:
    """Return the p-value of the test over seeds, or why there is none."""
    if result.p_seeds is None:
        return f"needs {FEWEST_SEEDS} seeds" if len(result.seeds) < FEWEST_SEEDS else "no spread"
    return p_value(result.p_seeds)


def ranked(comparison: Comparison, rows: Sequence[Row]) -> list[Row]:
    """Return the rows of one table whose numbers may be ranked: those with one task.

    A masked history or more fitted events make another task. Of several, it is that of the model tested against the
    others.
    """
    if not rows:
        return []
    chosen = next((row for row in rows if row.label == comparison.against.get(row.dataset)), rows[0])
    return [row for row in rows if all(row.protocol[key] == chosen.protocol[key] for key in UNPAIRED)]


def unranked(comparison: Comparison, rows: Sequence[Row]) -> str:
    """Name the rows that :func:`ranked` leaves out, as a sentence; empty if there are none."""
    kept = {row.label for row in ranked(comparison, rows)}
    left = [row.label for row in rows if row.label not in kept]
    return f"Not ranked, as history or fitted events differ: {_listed(left)}." if left else ""


def in_short(comparison: Comparison, dataset: str) -> list[str]:
    """Say what one data set's table shows; nothing where it has no two models."""
    metric = comparison.metric
    every = [row for row in comparison.rows if row.dataset == dataset]
    rows = sorted(ranked(comparison, every), key=lambda row: -row.mean[metric])
    if len(rows) < 2:
        return []
    first, second = rows[:2]
    ahead = f", {percent(first.mean[metric] / second.mean[metric] - 1)} above" if second.mean[metric] else ", before"
    sentences = [
        f"{first.label} has the highest {metric}, {number(first.mean[metric])} on test{ahead} {second.label} "
        f"({number(second.mean[metric])})."
    ]
    tested = [result for result in comparison.tests.get((dataset, metric), ()) if not result.reason]
    better = [result.other for result in tested if result.significant]
    others = [result.other for result in tested if not result.significant]
    if better:
        sentences.append(f"{comparison.against[dataset]} is significantly better than {_listed(better)}.")
    if others:
        sentences.append(f"Not shown: that {comparison.against[dataset]} is better than {_listed(others)}.")
    return [*sentences, *filter(None, [unranked(comparison, every)])]


def method(comparison: Comparison, dataset: str) -> list[str]:
    """Say how the rows of one data set were made and what is tested."""
    rows = [row for row in comparison.rows if row.dataset == dataset]
    variants = [row for row in comparison.ablation_rows if row.dataset == dataset]
    sentences = protocol_sentences(rows or variants)
    against, reason = comparison.against.get(dataset), comparison.against_reason.get(dataset)
    if reason:
        sentences.append(f"Tested against the others: {f'{against}; ' if against else 'none; '}{reason}.")
    return sentences


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _minutes(minutes: float | None) -> str:
    return "no limit" if minutes is None else f"at most {minutes:g} minutes, stages included"


def _length(length: int | None) -> str:
    return "the model's own" if length is None else f"{length} items"


def _split(split: Mapping[str, Any]) -> str:
    """Say RecBole's ``eval_args``; what this does not know stays as it is."""
    parts = []
    for kind, value in (split.get("split") or {}).items():
        if kind == "LS" and value in _TARGETS:
            parts.append(_TARGETS[value])
        elif kind == "RS" and isinstance(value, Sequence):
            parts.append("shares " + " / ".join(f"{share:g}" for share in value))
        else:
            parts.append(f"{kind} {json.dumps(value)}")
    order = split.get("order")
    parts.append(_ORDERS.get(str(order), f"order {order}"))
    mode = split.get("mode")
    modes = sorted({str(m) for m in (mode.values() if isinstance(mode, Mapping) else [mode])})
    parts.append("every item of the catalogue is ranked" if modes == ["full"] else f"ranked among {', '.join(modes)}")
    return "; ".join(parts)
