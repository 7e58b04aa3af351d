"""The tables of results in a report, before they become HTML, Markdown or LaTeX."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from recbole_hellm.benchmark.comparison import Comparison, Row
from recbole_hellm.benchmark.layout import Column, Entry, Table, by_dataset, datasets_of, trace_ids
from recbole_hellm.benchmark.sentences import protocol_line
from recbole_hellm.benchmark.significance import PairedResult
from recbole_hellm.benchmark.wording import (
    NONE,
    PROTOCOL,
    TESTED,
    between,
    distinct_metrics,
    headline_metrics,
    late,
    mark,
    number,
    p_value,
    percent,
    protocol_entries,
    ranked,
    seeds_test,
    signed,
    smaller_is_better,
    unranked,
)


def main_tables(comparison: Comparison) -> Iterator[Table]:
    """Yield, by data set, test metrics of every model with their protocol."""
    metrics, remark = distinct_metrics(comparison)
    main = comparison.metric
    # The main metric's columns first: a phone shows no others.
    metrics = tuple(sorted(metrics, key=lambda metric: metric.partition("@")[0] != main.partition("@")[0]))
    for place, (dataset, rows) in enumerate(by_dataset(comparison.rows), start=1):
        chosen = comparison.against.get(dataset, "")
        marked = any(mark(r) for m in metrics for r in comparison.tests.get((dataset, m), ()))
        caption = f"{_seeds(rows)}. Best bold, second underlined. "
        caption += unranked(comparison, rows)
        if marked:
            caption += f" * p < 0.05, ** p < 0.01 on a model's number: {chosen} is better there ({TESTED}). "
            caption += _marked_only(comparison, metrics)
        columns = (Column("Model", "text"), *(Column(m) for m in metrics), Column(f"95 % interval, {main}", "minor"))
        columns += (Column(f"Validation {main}", "minor"), *(Column(name, "protocol") for name in PROTOCOL))
        body = tuple(_main_row(comparison, row, ranked(comparison, rows), metrics) for row in rows)
        text = " ".join(filter(None, [caption.strip(), remark, late(rows)]))
        yield Table(f"main-{place}", dataset, f"Test metrics, {dataset}", text, columns, body, (), protocol_line(rows))


def significance_tables(comparison: Comparison) -> Iterator[Table]:
    """Yield, by data set, the tests of the chosen model against every other."""
    metric, ids = comparison.metric, trace_ids(comparison)
    for place, dataset in enumerate(datasets_of(comparison), start=1):
        results = comparison.tests.get((dataset, metric), ())
        if not results:
            continue
        chosen = comparison.against[dataset]
        caption = f"{metric} of {chosen} minus that of the other model, paired by user. {TESTED}; d_z is Cohen's."
        caption += _untested(results)
        body = tuple(
            (Entry(r.other, label=r.other), *_paired(r, ids.get(("compare", dataset, r.other), "")))
            for r in results
            if not r.reason
        )
        columns = (Column(f"{chosen} against", "text"), *map(_paired_column, _PAIRED))
        title, task = f"{chosen} against every other, {dataset}", _protocol_of(comparison, dataset)
        yield Table(f"tests-{place}", dataset, title, caption, columns, body, (), task)


def tie_tables(comparison: Comparison) -> Iterator[Table]:
    """Yield, by data set, the metrics without the users whose target ties in time."""
    metrics, ids = headline_metrics(comparison), trace_ids(comparison)
    for place, (dataset, every) in enumerate(by_dataset(comparison.rows), start=1):
        rows = [row for row in every if row.untied is not None]
        if not rows:
            continue
        caption = (
            "Where the target has the time of the item before it, the data do not say which came last. "
            "Untied: the users without such a tie."
        )
        columns = [Column("Model", "text"), Column("Users that tie", "minor")]
        for metric in metrics:
            columns += [Column(f"{metric}, all"), Column(f"{metric}, untied")]
        body, rivals = [], ranked(comparison, rows)
        for row in rows:
            entries = [Entry(row.label, label=row.label), Entry(percent(row.tied_share))]
            target = ids[row.group, row.dataset, row.label]
            for metric in metrics:
                untied = [_finite((r.untied or {}).get(metric)) for r in rivals]
                value = _finite((row.untied or {}).get(metric))
                entries.append(Entry(number(row.mean[metric]), target=target))
                entries.append(
                    Entry(number(value), place=_place(value, untied if row in rivals else []), target=target)
                )
            body.append(tuple(entries))
        title = f"Without users that tie, {dataset}"
        yield Table(f"ties-{place}", dataset, title, caption, tuple(columns), tuple(body), (), protocol_line(rows))


def ablation_tables(comparison: Comparison) -> Iterator[Table]:
    """Yield, by data set, every variant with its difference to the full model."""
    metrics, ids = headline_metrics(comparison), trace_ids(comparison)
    for place, (dataset, rows) in enumerate(by_dataset(comparison.ablation_rows), start=1):
        results = {result.label: result for result in comparison.ablation.get(dataset, ())}
        caption = f"{_seeds(rows)}. Differences of {comparison.metric} to the full model, paired by user; "
        caption += "tests as above, but two-sided."
        columns = (
            Column("Variant", "text"),
            *(Column(m) for m in metrics),
            *(_paired_column(_PAIRED[place]) for place in _CORRECTED),
        )
        columns += tuple(Column(name, "protocol") for name in PROTOCOL)
        body = []
        for row in rows:
            target, result = ids[row.group, row.dataset, row.label], results.get(row.label)
            values = [_value(row, metric, rows, target) for metric in metrics]
            paired = _paired(result, target) if result and not result.reason else (Entry(NONE),) * len(_PAIRED)
            paired = tuple(paired[place] for place in _CORRECTED)
            body.append((Entry(row.label), *values, *paired, *map(Entry, protocol_entries(row))))
        caption = " ".join(filter(None, [caption + _untested(list(results.values())), late(rows)]))
        title, task = f"One part off, {dataset}", protocol_line(rows)
        yield Table(f"ablation-{place}", dataset, title, caption, columns, tuple(body), (), task)


_TESTS = ("Wilcoxon p", "Wilcoxon Holm p", "Permutation p", "Permutation Holm p", "Seeds p", "Seeds Holm p")
_PAIRED = ("Difference", "Relative", "95 % interval", "d_z", *_TESTS)
_CORRECTED = tuple(place for place, name in enumerate(_PAIRED) if name not in ("Wilcoxon p", "Permutation p"))
"""Of :data:`_PAIRED`, what a table that also prints metrics has room for."""


def _paired_column(name: str) -> Column:
    return Column(name, "minor" if "interval" in name else "number")


def _paired(result: PairedResult, target: str) -> tuple[Entry, ...]:
    return (
        Entry(signed(result.difference), mark=mark(result), target=target, note=f"{result.n_users:,} users"),
        Entry(percent(result.relative, sign=True)),
        Entry(between(result.interval, sign=True)),
        Entry(signed(result.effect, 3)),
        Entry(p_value(result.p_wilcoxon)),
        Entry(p_value(result.holm_wilcoxon)),
        Entry(p_value(result.p_permutation)),
        Entry(p_value(result.holm_permutation)),
        Entry(seeds_test(result)),
        Entry(p_value(result.holm_seeds)),
    )


def _marked_only(comparison: Comparison, metrics: Sequence[str]) -> str:
    """Say which columns can have a star at all."""
    k = comparison.metric.partition("@")[2]
    elsewhere = any(metric not in comparison.tested for metric in metrics)
    only = f"Only metrics at {k} are tested: no star elsewhere says nothing; " if elsewhere else ""
    return f"{only}{'each' if only else 'Each'} metric is corrected on its own."


def _protocol_of(comparison: Comparison, dataset: str) -> str:
    return protocol_line([row for row in comparison.rows if row.dataset == dataset])


def _untested(results: Sequence[PairedResult]) -> str:
    names = (f"{r.other if r.alternative == 'greater' else r.label} ({r.reason})" for r in results if r.reason)
    said = "; ".join(names)
    return f" Not tested: {said}." if said else ""


def _main_row(comparison: Comparison, row: Row, rows: Sequence[Row], metrics: Sequence[str]) -> tuple[Entry, ...]:
    target = trace_ids(comparison)[row.group, row.dataset, row.label]
    values = []
    for metric in metrics:
        results = {result.other: result for result in comparison.tests.get((row.dataset, metric), ())}
        values.append(_value(row, metric, rows, target, mark(results.get(row.label))))
    main = comparison.metric
    interval = between(row.interval[main]) if main in row.interval else NONE
    extra = (Entry(interval, target=target), Entry(number(row.valid_mean.get(main)), target=target))
    return (Entry(row.label, label=row.label), *values, *extra, *map(Entry, protocol_entries(row)))


def _value(row: Row, metric: str, rows: Sequence[Row], target: str, stars: str = "") -> Entry:
    cells = "; ".join(
        f"{number(cell['test'][metric], 6)} seed {cell['seed']}, cell {cell['cell']}" for cell in row.cells
    )
    rivals = [other.mean[metric] for other in rows] if row in rows else []
    place = _place(row.mean[metric], rivals, smaller_is_better(metric))
    std = row.std.get(metric, math.nan)
    spread = "" if math.isnan(std) else number(std)
    return Entry(number(row.mean[metric]), place, stars, spread, f"{row.label}, {metric}: {cells}", target)


def _place(value: float, values: Sequence[float], smaller: bool = False) -> int:
    """Rank as printed: two numbers that print alike share a place."""
    if math.isnan(value):
        return 0
    best = sorted({round(other, 4) for other in values if not math.isnan(other)}, reverse=not smaller)[:2]
    return best.index(round(value, 4)) + 1 if round(value, 4) in best else 0


def _seeds(rows: Sequence[Row]) -> str:
    counts = sorted({len(row.seeds) for row in rows})
    if counts == [1]:
        return f"Seed {', '.join(map(str, sorted({row.seeds[0] for row in rows})))}"
    return f"Mean ± standard deviation over {'-'.join(map(str, {counts[0]: 0, counts[-1]: 0}))} seeds"


def _finite(value: float | None) -> float:
    return math.nan if value is None else value
