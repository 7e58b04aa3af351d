"""What a table is made of, and in which order a report goes through rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from recbole_hellm.benchmark.comparison import Comparison, Row


@dataclass(frozen=True)
class Entry:
    """One place of a table."""

    text: str
    place: int = 0
    """1: best of its column, 2: second, 0: neither."""
    mark: str = ""
    """Significance: ``*`` or ``**``."""
    spread: str = ""
    """Standard deviation over seeds, without the sign."""
    note: str = ""
    """What a pointer resting on the entry shows."""
    target: str = ""
    """Id of the lines the entry is made of."""
    label: str = ""
    """Model the row is about, set in the entry that names it."""


@dataclass(frozen=True)
class Column:
    """Head of a column."""

    name: str
    kind: str = "number"
    """``"number"``, ``"minor"`` (small), ``"text"``, ``"code"`` or ``"protocol"``."""


@dataclass(frozen=True)
class Table:
    """One table; every row has one entry per column."""

    key: str
    """Id in a page."""
    dataset: str
    """Empty for a table over all data sets."""
    title: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Entry, ...], ...]
    anchors: tuple[str, ...] = ()
    """Id by row, where other entries point at these rows; neighbours may share one."""
    protocol: str = ""
    """Under which protocol the numbers stand, as one sentence."""


def datasets_of(comparison: Comparison) -> tuple[str, ...]:
    """Return the data sets in order."""
    return tuple(dict.fromkeys(row.dataset for row in (*comparison.rows, *comparison.ablation_rows)))


def trace_ids(comparison: Comparison) -> dict[tuple[str, str, str], str]:
    """Return by (group, data set, label) the id under which a page lists the cells of a row."""
    rows = (*comparison.rows, *comparison.ablation_rows)
    return {(row.group, row.dataset, row.label): f"cells-{place}" for place, row in enumerate(rows, start=1)}


def by_dataset(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """Return the rows of each data set, in order."""
    names = dict.fromkeys(row.dataset for row in rows)
    return [(name, [row for row in rows if row.dataset == name]) for name in names]
