"""The cells of a results file with their users, and what makes them unfit for one table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from recbole_hellm.artifacts import file_digest
from recbole_hellm.benchmark.per_user import RANKING, check_mean, metric_vectors
from recbole_hellm.errors import ArtifactError

Line = Mapping[str, Any]
DECIMALS = 6
"""Decimals of the metrics in a results file, unless a cell's settings say otherwise."""
COLUMNS = ("user", "rank", "history", "popularity", "tied")
"""Arrays of a users file."""


@dataclass(frozen=True)
class Measured:
    """A cell that has a result."""

    line: Line
    vectors: Mapping[str, np.ndarray]
    """By metric: every user's value, in the order of ``users``."""
    users: pd.DataFrame
    """One row per user token, sorted: ``history``, ``popularity`` (mean over the user's targets), ``tied``."""


def named(line: Line) -> str:
    """Return how an error names a cell."""
    return f"{line['cell']} ({line['label']} on {line['dataset']}, seed {line['seed']})"


def check_lines(lines: Sequence[Line]) -> None:
    """Check that cells with a result may stand in one report.

    Raises:
        ArtifactError: If a cell was selected on the test split, a data set has cells of different data or splits, a
            label has a seed twice or two protocols, or no data set has two models.
    """
    first: dict[tuple[str, ...], Line] = {}
    seen: dict[tuple[Any, ...], Line] = {}
    for line in lines:
        dataset, label, protocol = line["dataset"], line["label"], line["protocol"]
        if protocol["selected_on"] != "valid":
            raise ArtifactError(
                f"cell {named(line)} was selected on {protocol['selected_on']!r}, so its number is no result; delete "
                "its line and run it again with selection on validation"
            )
        of_data = first.setdefault((dataset,), line)
        for key, what in (("split", "splits"), ("fingerprint", "data")):
            here, there = line["data"][key], of_data["data"][key]
            if here != there:
                raise ArtifactError(
                    f"cells {named(of_data)} and {named(line)} were measured on different {what} ({key} {there[:12]} "
                    f"and {here[:12]}), so they cannot stand in one table; delete the line of one and run it again"
                )
        of_label = first.setdefault((dataset, label), line)
        differ = sorted(key for key in {*protocol, *of_label["protocol"]} if not _same(key, line, of_label))
        if differ:
            raise ArtifactError(
                f"cells {named(of_label)} and {named(line)} have one label but different protocols "
                f"({', '.join(differ)}); give them different labels, or run one of them again"
            )
        twin = seen.setdefault((dataset, label, line["seed"]), line)
        if twin is not line:
            raise ArtifactError(
                f"cells {named(twin)} and {named(line)} have one label and one seed; give them different labels, or "
                "delete the line of one"
            )
    if not _enough(lines):
        labels = sorted({line["label"] for line in lines})
        raise ArtifactError(
            f"a comparison needs at least 2 models with results on one data set, got {', '.join(labels) or 'none'}; "
            "run the missing cells first"
        )


def load_cells(lines: Iterable[Line], folder: Path, metrics: Sequence[str]) -> list[Measured]:
    """Return the cells with every user's metrics, checked against RecBole's numbers.

    Args:
        lines: Lines of cells that have a result.
        folder: What ``users_file`` is relative to.
        metrics: Names of the wanted metrics, such as ``"ndcg@10"``.

    Raises:
        ArtifactError: If a users file is missing or not the line's own, if two cells of a data set have other users,
            or if the users' metrics do not average to the line's.
    """
    first: dict[str, tuple[Line, np.ndarray]] = {}
    cells = []
    for line in lines:
        arrays = _arrays(line, folder)
        other, users = first.setdefault(line["dataset"], (line, arrays["user"]))
        if not np.array_equal(users, arrays["user"]):
            raise ArtifactError(
                f"cells {named(other)} and {named(line)} have different test users ({len(users)} and "
                f"{len(arrays['user'])}), so they cannot be paired; delete the line of one and run it again"
            )
        cells.append(Measured(line, _vectors(line, arrays, metrics), _users(arrays)))
    return cells


def ranking_metrics(lines: Sequence[Line]) -> tuple[str, ...]:
    """Return the metrics that all lines have and that ranks decide, in the order of the first."""
    return tuple(name for name in common(lines) if name.partition("@")[0] in RANKING)


def common(lines: Sequence[Line]) -> tuple[str, ...]:
    """Return the test metrics that all lines have, in the order of the first."""
    return tuple(name for name in lines[0]["test"] if all(name in line["test"] for line in lines))


def _same(key: str, one: Line, other: Line) -> bool:
    return bool(one["protocol"].get(key) == other["protocol"].get(key))


def _enough(lines: Iterable[Line]) -> bool:
    labels: dict[tuple[str, str], set[str]] = {}
    for line in lines:
        labels.setdefault((line["dataset"], line["group"]), set()).add(line["label"])
    return any(len(found) > 1 for found in labels.values())


def _arrays(line: Line, folder: Path) -> dict[str, np.ndarray]:
    path = folder / line["users_file"]
    way_out = "put it back, or delete the cell's line and run it again"
    try:
        digest = file_digest(path)
        if digest != line["users_sha256"]:
            raise ArtifactError(
                f"cell {named(line)}: users file {path} has digest {digest[:12]}, the line says "
                f"{line['users_sha256'][:12]}; {way_out}"
            )
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in COLUMNS}
    except (OSError, KeyError, ValueError, BadZipFile) as error:
        raise ArtifactError(
            f"cell {named(line)}: users file {path} is missing or cannot be read ({error}); {way_out}"
        ) from error


def _vectors(line: Line, arrays: Mapping[str, np.ndarray], metrics: Sequence[str]) -> dict[str, np.ndarray]:
    names = list(dict.fromkeys(name.partition("@")[0] for name in metrics))
    topk = sorted({int(name.partition("@")[2]) for name in metrics})
    decimals = line["settings"].get("metric_decimal_place", DECIMALS)
    try:
        every = metric_vectors(arrays["rank"], arrays["user"], names, topk)
        vectors = {name: every[name] for name in metrics}
        check_mean(vectors, line["test"], decimals, named(line))
    except ArtifactError as error:
        if len(np.unique(arrays["user"])) == len(arrays["user"]):
            raise
        # A sequential model ranks such targets one by one, another model all in one list: two different numbers.
        raise ArtifactError(
            f"cell {named(line)} has users with several test targets, which it did not rank in one list; "
            "use a leave-one-out split"
        ) from error
    return vectors


def _users(arrays: Mapping[str, np.ndarray]) -> pd.DataFrame:
    table = pd.DataFrame({name: arrays[name] for name in ("user", "history", "popularity", "tied")})
    # A user with several targets counts as tied if one of them is.
    return table.groupby("user", sort=True).agg({"history": "min", "popularity": "mean", "tied": "max"})
