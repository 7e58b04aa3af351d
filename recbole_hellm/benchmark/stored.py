"""The cells of a results file with their users."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from recbole_hellm.artifacts import file_digest
from recbole_hellm.benchmark.one_table import SHORT_USERS, Line, named
from recbole_hellm.benchmark.per_user import RANKING, check_mean, metric_vectors
from recbole_hellm.errors import ArtifactError

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
                f"{len(arrays['user'])}), so they cannot be paired; delete the line of one and run it again, or, "
                f"{SHORT_USERS}"
            )
        cells.append(Measured(line, _vectors(line, arrays, metrics), _users(arrays)))
    return cells


def ranking_metrics(lines: Sequence[Line]) -> tuple[str, ...]:
    """Return the metrics that all lines have and that ranks decide, in the order of the first."""
    return tuple(name for name in common(lines) if name.partition("@")[0] in RANKING and _cutoff(name) > 0)


def common(lines: Sequence[Line]) -> tuple[str, ...]:
    """Return the test metrics that all lines have: in the order of the first, those of one name by their cutoff."""
    names = [name for name in lines[0]["test"] if all(name in line["test"] for line in lines)]
    kinds = list(dict.fromkeys(name.partition("@")[0] for name in names))
    # A line's keys are sorted as texts, where 10 comes before 5.
    return tuple(sorted(names, key=lambda name: (kinds.index(name.partition("@")[0]), _cutoff(name))))


def _cutoff(metric: str) -> int:
    k = metric.partition("@")[2]
    return int(k) if k.isdecimal() else 0


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
            arrays = {name: stored[name] for name in COLUMNS}
    except (OSError, KeyError, ValueError, BadZipFile) as error:
        raise ArtifactError(
            f"cell {named(line)}: users file {path} is missing or cannot be read ({error}); {way_out}"
        ) from error
    if len({array.shape for array in arrays.values()}) > 1 or arrays["rank"].ndim != 1 or not len(arrays["rank"]):
        raise ArtifactError(
            f"cell {named(line)}: users file {path} has no rank for every user; a comparison needs the whole catalogue "
            "ranked (eval_args mode: full): delete the cell's line and run it again"
        )
    return arrays


def _vectors(line: Line, arrays: Mapping[str, np.ndarray], metrics: Sequence[str]) -> dict[str, np.ndarray]:
    names = list(dict.fromkeys(name.partition("@")[0] for name in metrics))
    topk = sorted({int(name.partition("@")[2]) for name in metrics})
    # Lines of older versions say it only where the plan asked for it.
    decimals = line.get("decimals") or line["settings"].get("metric_decimal_place") or DECIMALS
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
            f"use a leave-one-out split; {SHORT_USERS}"
        ) from error
    return vectors


def _users(arrays: Mapping[str, np.ndarray]) -> pd.DataFrame:
    table = pd.DataFrame({name: arrays[name] for name in ("user", "history", "popularity", "tied")})
    # A user with several targets counts as tied if one of them is.
    return table.groupby("user", sort=True).agg({"history": "min", "popularity": "mean", "tied": "max"})
