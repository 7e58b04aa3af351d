"""The tables of a report that say what was spent and where each number comes from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from recbole_hellm.benchmark.comparison import Comparison
from recbole_hellm.benchmark.layout import Column, Entry, Table, by_dataset, datasets_of, trace_ids
from recbole_hellm.benchmark.wording import NONE, amount, count, number

REPORTED = "Numbers from other papers, other protocols: not comparable line by line."
MEMORY = (
    "Peak memory is that of the whole process: about 430 MB of it are Python and its packages before a model is made; "
    "the memory of a GPU is not in it."
)


def data_table(comparison: Comparison) -> Table:
    """Return what is known of each data set."""
    body = []
    for dataset in datasets_of(comparison):
        rows = [row for row in (*comparison.rows, *comparison.ablation_rows) if row.dataset == dataset]
        data = rows[0].cells[0].get("data") or {}
        entries = [Entry(dataset), Entry(_grouped(data.get("n_users"))), Entry(_grouped(data.get("n_items")))]
        entries.append(Entry(_grouped(rows[0].n_users)))
        for name in ("fingerprint", "split"):
            digest = str(data.get(name) or NONE)
            entries.append(Entry(digest[:16], note=digest))
        seeds = sorted({seed for row in rows for seed in row.seeds})
        body.append((*entries, Entry(", ".join(map(str, seeds)))))
    columns: tuple[Column, ...] = (Column("Data set", "text"), Column("Users"), Column("Items"), Column("Users tested"))
    columns += (Column("Data fingerprint", "code"), Column("Split", "code"), Column("Seeds", "text"))
    cells = [cell for row in (*comparison.rows, *comparison.ablation_rows) for cell in row.cells]
    # Older lines have no digest of the items: there only their number is known to be one.
    items = "items" if all((cell.get("data") or {}).get("items") for cell in cells) else "number of items"
    caption = f"All cells of a data set saw the same events, split and {items}; this was checked."
    return Table("data", "", "Data sets", caption, columns, tuple(body))


def cost_tables(comparison: Comparison) -> Iterator[Table]:
    """Yield, by data set, what each model costs."""
    ids = trace_ids(comparison)
    for place, (dataset, rows) in enumerate(by_dataset(comparison.rows), start=1):
        # The row with most stages first: it knows their order.
        parts = sorted((row.cost.seconds_by_stage for row in rows), key=len, reverse=True)
        stages = tuple(dict.fromkeys(stage for part in parts for stage in part))
        reused = {(row.label, s["name"]) for row in rows for c in row.cells for s in _stages(c) if _reused(s)}
        caption = f"Stages and total in seconds, memory in MB; means over seeds, peak memory the largest. {MEMORY}"
        if reused:
            caption += " † in some cells a stored result was reused: the number says what it cost when it was computed."
        columns = [Column("Model", "text"), Column("Trained weights"), Column("All weights")]
        columns += [Column(stage.capitalize(), "minor") for stage in stages] + [
            Column("Total"),
            Column("Peak memory"),
        ]
        columns += [Column("Training samples/s"), Column("Users ranked/s")]
        body = []
        for row in rows:
            cost, target = row.cost, ids[row.group, row.dataset, row.label]
            weights = (cost.parameters_trained, cost.parameters_total)
            entries = [
                Entry(row.label, label=row.label),
                *(Entry(count(n), note=f"{n:,}", target=target) for n in weights),
            ]
            for stage in stages:
                dagger = " †" if (row.label, stage) in reused else ""
                entries.append(Entry(amount(cost.seconds_by_stage.get(stage)) + dagger, target=target))
            speeds = (
                cost.seconds,
                cost.peak_memory_mb,
                cost.training_samples_per_second,
                cost.evaluation_users_per_second,
            )
            body.append((*entries, *(Entry(amount(value), target=target) for value in speeds)))
        yield Table(f"cost-{place}", dataset, f"Cost, {dataset}", caption, tuple(columns), tuple(body))


def failed_table(comparison: Comparison) -> Table | None:
    """Return the cells without a result, if there are any."""
    columns = tuple(Column(n, "text") for n in ("Model", "Data set", "Seed", "Error")) + (Column("Cell", "code"),)
    body = tuple(
        (Entry(line["label"]), Entry(line["dataset"]), Entry(str(line["seed"])), Entry(str(line.get("error", NONE))))
        + (Entry(line["cell"]),)
        for line in comparison.failed
    )
    return Table("failed", "", "Failed cells", "No number of them is in this report.", columns, body) if body else None


def reported_table(comparison: Comparison) -> Table | None:
    """Return the numbers of others, if there are any."""
    if not comparison.reported:
        return None
    metrics = tuple(dict.fromkeys(metric for line in comparison.reported for metric in line.metrics))
    columns: tuple[Column, ...] = (
        Column("Model", "text"),
        Column("Data set", "text"),
        *(Column(metric) for metric in metrics),
    )
    columns += (Column("Source", "text"), Column("Protocol there", "text"))
    body = []
    for line in comparison.reported:
        values = (line.metrics.get(metric) for metric in metrics)
        ends = (Entry(line.source or NONE), Entry(line.protocol or NONE))
        body.append((Entry(line.model), Entry(line.dataset), *(Entry(number(v)) for v in values), *ends))
    return Table("reported", "", "Reported elsewhere", REPORTED, columns, tuple(body))


def provenance_table(comparison: Comparison) -> Table:
    """Return every cell behind the numbers."""
    names, ids = _environments(comparison), trace_ids(comparison)
    columns: tuple[Column, ...] = (
        Column("Model", "text"),
        Column("Data set", "text"),
        Column("Seed"),
        Column("Cell", "code"),
    )
    columns += (Column(f"Test {comparison.metric}"), Column("Epoch"), Column("Commit", "code"), Column("Where"))
    columns += (Column("Finished", "text"), Column("Settings", "code"), Column("Command", "code"))
    body, anchors = [], []
    for row in (*comparison.rows, *comparison.ablation_rows):
        for cell in row.cells:
            texts = [row.label, row.dataset, cell["seed"], cell["cell"], number(cell["test"][comparison.metric], 6)]
            texts += [cell.get("best_epoch") or NONE, cell.get("commit") or NONE, names[_environment(cell)]]
            texts += [cell.get("time") or NONE, _json(cell.get("settings") or {}), cell.get("command") or NONE]
            body.append(tuple(Entry(str(text)) for text in texts))
            anchors.append(ids[row.group, row.dataset, row.label])
    caption = "One line per cell of the results file; Where: see below."
    return Table("provenance", "", "Every cell", caption, columns, tuple(body), tuple(anchors))


def environments(comparison: Comparison) -> list[tuple[str, str]]:
    """Return a letter and a description for each machine and set of packages the cells ran on."""
    described = []
    for text, name in _environments(comparison).items():
        parts = json.loads(text)
        versions = ", ".join(f"{package} {version}" for package, version in parts["versions"].items())
        machine = ", ".join(f"{value} {_UNITS.get(key, '')}".strip() for key, value in parts["hardware"].items())
        described.append((name, f"{machine or 'machine not known'}; {versions or 'versions not known'}"))
    return described


_UNITS = {"cores": "cores", "memory_gb": "GB"}


def _environments(comparison: Comparison) -> dict[str, str]:
    rows = (*comparison.rows, *comparison.ablation_rows)
    texts = dict.fromkeys(_environment(cell) for row in rows for cell in row.cells)
    return {text: chr(65 + place) if place < 26 else f"Z{place}" for place, text in enumerate(texts)}


def _environment(cell: Mapping[str, Any]) -> str:
    return json.dumps({"hardware": cell.get("hardware") or {}, "versions": cell.get("versions") or {}})


def _json(settings: Mapping[str, Any]) -> str:
    return json.dumps(settings, sort_keys=True, ensure_ascii=False) if settings else NONE


def _grouped(value: int | None) -> str:
    return NONE if value is None else f"{value:,}"


def _stages(cell: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return cell.get("stages") or ()


def _reused(stage: Mapping[str, Any]) -> bool:
    return stage["status"] == "reused"
