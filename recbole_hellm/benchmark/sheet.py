"""A comparison as one CSV file."""

from __future__ import annotations

import csv
import io
import json
import math
import re

from recbole_hellm.benchmark.comparison import Comparison, Row
from recbole_hellm.benchmark.significance import PairedResult

CSV_COLUMNS = (
    *("dataset", "label", "model", "group", "metric", "test", "std", "interval_low", "interval_high", "valid"),
    *("untied", "tied_share", "seeds", "n_users", "history_masked", "fitted_on", "selected_on", "loss", "max_length"),
    *("minutes", "split", "against", "difference", "difference_low", "difference_high", "holm_wilcoxon"),
    *(
        "holm_permutation",
        "holm_seeds",
        "parameters_trained",
        "parameters_total",
        "seconds",
        "peak_memory_mb",
        "cells",
        "commits",
    ),
)
_FORMULA = re.compile(r"[=+\-@\t\r]")


def csv_text(comparison: Comparison) -> str:
    """Return one line per model, data set and metric, with protocol, tests, cost and cell keys."""
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in (*comparison.rows, *comparison.ablation_rows):
        for metric in comparison.metrics:
            values = {**_csv_row(row, metric), **_csv_test(_result(comparison, row, metric))}
            writer.writerow({name: "" if _missing(value) else _harmless(value) for name, value in values.items()})
    return text.getvalue()


def _csv_row(row: Row, metric: str) -> dict[str, object]:
    low, high = row.interval.get(metric, (math.nan, math.nan))
    names = ("history_masked", "fitted_on", "selected_on", "loss", "max_length", "minutes")
    return {
        **{"dataset": row.dataset, "label": row.label, "model": row.model, "group": row.group, "metric": metric},
        **{"test": row.mean[metric], "std": row.std.get(metric), "interval_low": low, "interval_high": high},
        **{"valid": row.valid_mean.get(metric), "untied": (row.untied or {}).get(metric)},
        **{"tied_share": row.tied_share, "seeds": " ".join(map(str, row.seeds)), "n_users": row.n_users},
        **{name: row.protocol.get(name) for name in names},
        "split": json.dumps(row.protocol.get("split"), sort_keys=True),
        **{"parameters_trained": row.cost.parameters_trained, "parameters_total": row.cost.parameters_total},
        **{"seconds": row.cost.seconds, "peak_memory_mb": row.cost.peak_memory_mb, "cells": " ".join(row.lines)},
        "commits": " ".join(dict.fromkeys(str(cell.get("commit")) for cell in row.cells)),
    }


def _result(comparison: Comparison, row: Row, metric: str) -> PairedResult | None:
    """Return the test a row takes part in: of the other models, and of the variants of an ablation."""
    if row.group == "ablation":
        results = comparison.ablation.get(row.dataset, ()) if metric == comparison.metric else ()
        return next((result for result in results if result.label == row.label), None)
    return next((r for r in comparison.tests.get((row.dataset, metric), ()) if r.other == row.label), None)


def _csv_test(result: PairedResult | None) -> dict[str, object]:
    """Return the columns of one test; ``difference`` is that of ``against`` minus the row's, as it was tested."""
    if result is None or result.reason:
        return {}
    sign = 1.0 if result.alternative == "greater" else -1.0  # an ablation's variant is A there, here it is the row
    low, high = sorted(sign * end for end in result.interval)
    return {
        "against": result.label if result.alternative == "greater" else result.other,
        **{"difference": sign * result.difference, "difference_low": low, "difference_high": high},
        **{"holm_wilcoxon": result.holm_wilcoxon, "holm_permutation": result.holm_permutation},
        "holm_seeds": result.holm_seeds,
    }


def _harmless(value: object) -> object:
    """Return a text so that no spreadsheet runs it as a formula; numbers stay as they are."""
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def _missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
