"""The cells of one label and data set, made one row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from recbole_hellm.benchmark.comparison import Cost, Curve, Row
from recbole_hellm.benchmark.one_table import Line
from recbole_hellm.benchmark.significance import mean_interval
from recbole_hellm.benchmark.stored import Measured, common


@dataclass(frozen=True)
class Scored:
    """A row with what it was made of."""

    row: Row
    cells: tuple[Measured, ...]

    def by_seed(self, metric: str) -> dict[int, np.ndarray]:
        """Return every user's metric, by seed."""
        return {cell.line["seed"]: cell.vectors[metric] for cell in self.cells}

    def per_user(self, metric: str) -> np.ndarray:
        """Return every user's metric, averaged over seeds."""
        return mean_vector(self.cells, metric)


def scored_rows(cells: Iterable[Measured], metrics: Sequence[str], tested: Sequence[str]) -> list[Scored]:
    """Return one row per data set and label, data sets and labels in the order they come.

    Args:
        cells: Of all data sets.
        metrics: Metrics that users have one by one.
        tested: Those that get an interval.
    """
    tables: dict[str, dict[str, list[Measured]]] = {}
    for cell in cells:
        tables.setdefault(cell.line["dataset"], {}).setdefault(cell.line["label"], []).append(cell)
    rows = []
    for labels in tables.values():
        users = next(iter(labels.values()))[0].users  # one for all rows of a data set, so that parts are the same users
        rows += [Scored(_row(own, users, metrics, tested), tuple(own)) for own in labels.values()]
    return rows


def mean_vector(cells: Sequence[Measured], metric: str) -> np.ndarray:
    """Return every user's metric, averaged over cells."""
    return np.mean([cell.vectors[metric] for cell in cells], axis=0)


def curve(row: Row) -> Curve:
    """Return what the first seed of a row did over its epochs."""
    line = row.cells[0]
    curves = line["curves"]
    return Curve(
        row.dataset,
        row.label,
        line["seed"],
        tuple(curves["training"]),
        tuple(curves.get("graph", ())),  # only of models that have the stage
        tuple(curves.get("sequence", ())),
        line["best_epoch"],
    )


def _row(cells: Sequence[Measured], users: pd.DataFrame, metrics: Sequence[str], tested: Sequence[str]) -> Row:
    lines = [cell.line for cell in cells]
    first = lines[0]
    test = pd.DataFrame([line["test"] for line in lines])[list(common(lines))]
    valid = [line["valid"] for line in lines]
    tied = users["tied"].to_numpy()
    known, free = tied >= 0, tied == 0
    vectors = {name: mean_vector(cells, name) for name in metrics}
    return Row(
        label=first["label"],
        model=first["model"],
        dataset=first["dataset"],
        group=first["group"],
        protocol=first["protocol"],
        seeds=tuple(line["seed"] for line in lines),
        mean=test.mean().to_dict(),
        std=test.std(ddof=1).to_dict(),
        valid_mean=pd.DataFrame(valid).mean().to_dict() if all(valid) else {},
        interval={name: mean_interval(vectors[name]) for name in tested},
        untied={name: float(values[free].mean()) for name, values in vectors.items()} if free.any() else None,
        tied_share=float((tied[known] > 0).mean()) if known.any() else None,
        n_users=len(users),
        cost=_cost(lines),
        lines=tuple(line["cell"] for line in lines),
        cells=tuple(lines),
    )


def _cost(lines: Sequence[Line]) -> Cost:
    stages = pd.DataFrame([_seconds(line) for line in lines]).mean().to_dict()
    return Cost(
        parameters_trained=lines[0]["parameters"]["trained"],
        parameters_total=lines[0]["parameters"]["total"],
        seconds_by_stage=stages,
        seconds=float(sum(stages.values())),
        peak_memory_mb=max(line["peak_memory_mb"] for line in lines),
        training_samples_per_second=_mean(line["training_samples_per_second"] for line in lines),
        evaluation_users_per_second=_mean(line["evaluation_users_per_second"] for line in lines),
    )


def _seconds(line: Line) -> dict[str, float]:
    """Return what each stage costs where nothing is stored: a reused one counts as much as when it ran."""
    seconds: dict[str, float] = {}
    for stage in line["stages"]:
        seconds[stage["name"]] = seconds.get(stage["name"], 0.0) + stage["computed_seconds"]
    return seconds


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def by_dataset(rows: Iterable[Scored]) -> Mapping[str, list[Scored]]:
    """Return the rows of each data set."""
    tables: dict[str, list[Scored]] = {}
    for row in rows:
        tables.setdefault(row.row.dataset, []).append(row)
    return tables
