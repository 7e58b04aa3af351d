"""From the lines of a results file to one checked comparison, which tables, plots and pages only print."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole_hellm.benchmark.comparison import UNPAIRED, Comparison, Cost, Curve, Group, Interval, Row
from recbole_hellm.benchmark.groups import groups
from recbole_hellm.benchmark.line_fields import damaged_report
from recbole_hellm.benchmark.one_table import Line, check_lines, with_results
from recbole_hellm.benchmark.plan import Reported
from recbole_hellm.benchmark.remarks import FULL, file_remarks, table_remarks, untested_remarks
from recbole_hellm.benchmark.rows import Scored, by_dataset, curve, scored_rows
from recbole_hellm.benchmark.significance import PairedResult, compare_pair, holm
from recbole_hellm.benchmark.stored import common, load_cells, ranking_metrics
from recbole_hellm.errors import ArtifactError, ConfigError, nearest

__all__ = ["Comparison", "Cost", "Curve", "Group", "Interval", "PairedResult", "Reported", "Row", "compare"]

OURS = "HeLLM"
"""The model that is tested against the others where nobody says which."""


def compare(
    lines: Sequence[Line],
    header: Mapping[str, Any],
    folder: Path,
    metric: str = "ndcg@10",
    against: str | None = None,
) -> Comparison:
    """Return everything a report prints about the cells of a results file.

    Args:
        lines: Lines of cells, the last of each; those without a result are only listed.
        header: First line of the file.
        folder: Where the file lies.
        metric: Main metric.
        against: Label tested against each other one; ``None``: HeLLM, or else the best on validation.

    Raises:
        ArtifactError: If the cells must not stand in one report (see :mod:`.one_table`) or do not have ``metric``.
        ConfigError: If no row is labelled ``against``.
    """
    measured = with_results(lines)
    check_lines(measured)
    known, tested = _metrics(measured, metric)
    rows = scored_rows(load_cells(measured, folder, known), known, tested)
    tables, ablations = (by_dataset(r for r in rows if r.row.group == group) for group in ("compare", "ablation"))
    _check_label(against, tables)
    picked = {dataset: _against(table, metric, against) for dataset, table in tables.items()}
    tests = _all_tests(tables, {dataset: row for dataset, (row, _) in picked.items()}, tested)
    ablation = {dataset: _ablation(table, metric) for dataset, table in ablations.items()}
    notes = [*file_remarks(header, lines, measured), *table_remarks(tables), *table_remarks(ablations)]
    notes += untested_remarks(tests, ablation, metric)
    return Comparison(
        name=header["plan"],
        metric=metric,
        metrics=common(measured),
        tested=tested,
        rows=tuple(row.row for table in tables.values() for row in table),
        against={dataset: row.row.label for dataset, (row, _) in picked.items() if row is not None},
        against_reason={dataset: reason for dataset, (_, reason) in picked.items()},
        tests=tests,
        groups=tuple(part for table in tables.values() for part in _groups(table, metric)),
        ablation_rows=tuple(row.row for table in ablations.values() for row in table),
        ablation=ablation,
        curves=tuple(curve(row.row) for row in rows),
        failed=tuple(line for line in lines if line["status"] != "ok"),
        reported=_reported(header["reported"]),
        notes=tuple(dict.fromkeys(notes)),
    )


def _reported(entries: Sequence[Any]) -> tuple[Reported, ...]:
    """Return the numbers from elsewhere that a header holds."""
    for entry in entries:
        if wrong := damaged_report(entry):
            raise ArtifactError(
                f"the header's 'reported' has an entry without a proper {wrong!r}; correct it in the plan, and run "
                "'recbole-hellm compare' again"
            )
    return tuple(Reported(**entry) for entry in entries)


def _metrics(lines: Sequence[Line], metric: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the metrics that users have one by one, and those that are tested: ``metric`` and others of its cutoff."""
    known = ranking_metrics(lines)
    if metric not in known:
        raise ArtifactError(
            f"metric {metric!r} is not in every cell{nearest(metric, known)}; all have: {', '.join(known) or 'none'}"
        )
    cutoff = metric.partition("@")[2]
    return known, (metric, *(name for name in known if name != metric and name.partition("@")[2] == cutoff))


def _check_label(label: str | None, tables: Mapping[str, Sequence[Scored]]) -> None:
    known = list(dict.fromkeys(row.row.label for table in tables.values() for row in table))
    if label is not None and label not in known:
        raise ConfigError(f"no model is labelled {label!r}{nearest(label, known)}; known: {', '.join(known)}")


def _against(table: Sequence[Scored], metric: str, label: str | None) -> tuple[Scored | None, str]:
    """Return the row that is tested against the others of its data set, and why that one."""
    if label is not None:
        named = next((row for row in table if row.row.label == label), None)
        return named, f"{label} was named" if named else f"{label} has no result, so nothing is tested"
    ours = [row for row in table if row.row.model == OURS]
    # On validation: picking the best on test and then testing it would find chance significant.
    judged = [row for row in ours or table if metric in row.row.valid_mean]
    if len(ours) == 1:
        return ours[0], f"{ours[0].row.label} is the model of this package"
    if not judged:
        return None, f"no model has {metric} on validation, so nothing is tested"
    best = max(judged, key=lambda row: row.row.valid_mean[metric])
    return best, f"{best.row.label} has the best {metric} on validation" + (f" of the {OURS} models" if ours else "")


def _all_tests(
    tables: Mapping[str, Sequence[Scored]], chosen: Mapping[str, Scored | None], metrics: Sequence[str]
) -> dict[tuple[str, str], tuple[PairedResult, ...]]:
    known = {dataset: row for dataset, row in chosen.items() if row is not None}
    return {(dataset, name): _tests(tables[dataset], row, name) for dataset, row in known.items() for name in metrics}


def _tests(table: Sequence[Scored], best: Scored, metric: str) -> tuple[PairedResult, ...]:
    return holm([_pair(best, other, metric, "greater") for other in table if other is not best])


def _ablation(table: Sequence[Scored], metric: str) -> tuple[PairedResult, ...]:
    full = next((row for row in table if row.row.label == FULL), None)
    if full is None:
        return ()
    # Two-sided: a part may hurt, and then its variant is the better one.
    return holm([_pair(variant, full, metric, "two-sided") for variant in table if variant is not full])


def _pair(one: Scored, other: Scored, metric: str, alternative: str) -> PairedResult:
    dataset, a, b = one.row.dataset, one.row, other.row
    differ = [
        f"{_switch(key, a.protocol.get(key))} and {_switch(key, b.protocol.get(key))}"
        for key in UNPAIRED
        if a.protocol.get(key) != b.protocol.get(key)
    ]
    pair = PairedResult(dataset, metric, a.label, b.label, alternative, reason="; ".join(differ) or None)
    return pair if differ else compare_pair(pair, one.by_seed(metric), other.by_seed(metric))


def _switch(key: str, value: Any) -> str:
    """Return a switch of the protocol in words."""
    if key == "minutes":
        return "no time limit" if value is None else f"{value:g} minutes"
    return f"history {'masked' if value else 'kept'}" if key == "history_masked" else f"{key.replace('_', ' ')} {value}"


def _groups(table: Sequence[Scored], metric: str) -> Iterator[Group]:
    users = table[0].cells[0].users  # one for all rows, so that a part is the same users
    for row in table:
        yield from groups(row.row.dataset, row.row.label, row.per_user(metric), users)
