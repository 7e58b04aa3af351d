"""Numbers and protocols as a reader sees them, in tables and figures."""

from __future__ import annotations

import math
from collections.abc import Sequence

from recbole.evaluator.register import metrics_dict

from recbole_hellm.benchmark.comparison import UNPAIRED, Comparison, Row
from recbole_hellm.benchmark.significance import FEWEST_SEEDS, PairedResult

NONE = "–"
"""Stands where there is no number."""
PROTOCOL = ("History", "Fitted on", "Loss", "Max length", "Minutes")
"""Columns printed beside every number."""
TESTED = (
    "Wilcoxon signed-rank and paired permutation test over users, right tail, Holm-corrected over the models of the "
    "data set"
)


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


def protocol_entries(row: Row) -> tuple[str, ...]:
    """Return what stands in the columns :data:`PROTOCOL`."""
    protocol, minutes = row.protocol, row.protocol.get("minutes")
    return (
        "masked" if protocol["history_masked"] else "kept",
        str(protocol["fitted_on"]),
        str(protocol.get("loss") or NONE),
        str(protocol.get("max_length") or NONE),
        ("no limit" if minutes is None else f"{minutes:g}") + (" †" if over_limit(row) else ""),
    )


def over_limit(row: Row) -> float | None:
    """Return the minutes of the longest cell of a row where they are more than its limit, ``None`` elsewhere.

    Counted is what the limit is for: training and the stages before it, not reading, evaluation or a refit.
    """
    limit, used = row.protocol.get("minutes"), 0.0
    for cell in row.cells:
        counted = [s for s in cell.get("stages") or () if not _uncounted(s["name"])]
        used = max(used, sum(stage["computed_seconds"] for stage in counted) / 60)
    return used if limit is not None and used > limit else None


def late(rows: Sequence[Row]) -> str:
    """Explain the dagger of :func:`protocol_entries`, as a sentence; empty if no row has it."""
    longest = [f"{row.label} {used:.1f}" for row in rows if (used := over_limit(row)) is not None]
    if not longest:
        return ""
    return f"† over the limit, as an epoch that has begun runs to its end: {listed(longest)} minutes."


def _uncounted(stage: str) -> bool:
    return stage in ("data and model", "evaluation") or stage.endswith("(refit)")


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

    A masked history, more fitted events or more minutes make another task. Of several, it is that of the model tested
    against the others.
    """
    if not rows:
        return []
    chosen = next((row for row in rows if row.label == comparison.against.get(row.dataset)), rows[0])
    return [row for row in rows if all(row.protocol.get(key) == chosen.protocol.get(key) for key in UNPAIRED)]


def unranked(comparison: Comparison, rows: Sequence[Row]) -> str:
    """Name the rows that :func:`ranked` leaves out, as a sentence; empty if there are none."""
    kept = {row.label for row in ranked(comparison, rows)}
    left = [row.label for row in rows if row.label not in kept]
    return f"Not ranked, as history, fitted events or minutes differ: {listed(left)}." if left else ""


def listed(names: Sequence[str]) -> str:
    """Return ``A, B and C``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
