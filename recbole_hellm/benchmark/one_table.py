"""What makes the cells of a results file unfit for one table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from recbole_hellm.benchmark.line_fields import damage
from recbole_hellm.errors import ArtifactError

Line = Mapping[str, Any]
SELECTED = {
    "valid": "validation; test read once",
    "last epoch": "nothing: the last epoch is kept; test read once",
    "nothing": "nothing: there are no epochs to choose from; test read once",
}
"""By what a line says, on what its epoch was chosen; every other choice is no result."""
SHORT_USERS = (
    "with users of fewer than 4 events, which RecBole splits one way for sequential and another way for general "
    "models, set user_inter_num_interval: '[4,inf)'"
)
_DATA = {"fingerprint": "data", "split": "splits", "n_items": "catalogues", "items": "catalogues"}
"""By field of ``data``: what differs between cells where it does."""


def named(line: Line) -> str:
    """Return how an error names a cell."""
    return f"{line['cell']} ({line['label']} on {line['dataset']}, seed {line['seed']})"


def with_results(lines: Sequence[Line]) -> list[Line]:
    """Return the cells that have a result, every field of them checked.

    Raises:
        ArtifactError: If a line lacks a field, or every cell failed.
    """
    measured = [line for line in lines if line["status"] == "ok"]
    for line in measured:
        if wrong := damage(line):
            raise ArtifactError(
                f"cell {named(line)}: its line has no proper {wrong!r}; it was changed by hand or by another version: "
                "delete the line and run the cell again"
            )
    if lines and not measured:
        first = lines[0]
        cells = "the only cell" if len(lines) == 1 else f"all {len(lines)} cells"
        raise ArtifactError(
            f"{cells} failed, so there is nothing to report; {named(first)}: {first.get('error', 'error not known')}"
        )
    return measured


def check_lines(lines: Sequence[Line]) -> None:
    """Check that cells with a result may stand in one report.

    Raises:
        ArtifactError: If a cell was selected on the test split, a data set has cells of different data, splits or
            catalogues, a label has a seed twice or two protocols, or no data set has two models.
    """
    first: dict[tuple[str, ...], Line] = {}
    seen: dict[tuple[Any, ...], Line] = {}
    for line in lines:
        dataset, label = line["dataset"], line["label"]
        _check_selection(line)
        # One by one: a field that the first line lacks may stand in the others.
        for key in _DATA:
            if line["data"].get(key) is not None:
                _check_data(key, line, first.setdefault((dataset, "data", key), line))
        of_label = first.setdefault((dataset, label), line)
        differ = sorted(key for key in {*line["protocol"], *of_label["protocol"]} if not _same(key, line, of_label))
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


def _check_selection(line: Line) -> None:
    selected = line["protocol"]["selected_on"]
    if selected not in SELECTED:
        raise ArtifactError(
            f"cell {named(line)} was selected on {selected!r}, so its number is no result; delete its line and run it "
            "again with selection on validation"
        )


def _check_data(key: str, line: Line, other: Line) -> None:
    """Check that two cells of a data set have one ``key``."""
    here, there = (str(cell["data"][key]) for cell in (line, other))
    if here == there:
        return
    words = f"cells {named(other)} and {named(line)}"
    if _DATA[key] == "catalogues":
        raise ArtifactError(
            f"{words} ranked different catalogues ({key} {there[:12]} and {here[:12]}), so they cannot stand in one "
            "table; give load_col and the filters of items to all models alike, and run one of them again"
        )
    hint = f"; {SHORT_USERS}" if key == "split" else ""
    raise ArtifactError(
        f"{words} were measured on different {_DATA[key]} ({key} {there[:12]} and {here[:12]}), so they cannot stand "
        f"in one table; delete the line of one and run it again{hint}"
    )


def _same(key: str, one: Line, other: Line) -> bool:
    return bool(one["protocol"].get(key) == other["protocol"].get(key))


def _enough(lines: Iterable[Line]) -> bool:
    labels: dict[tuple[str, str], set[str]] = {}
    for line in lines:
        labels.setdefault((line["dataset"], line["group"]), set()).add(line["label"])
    return any(len(found) > 1 for found in labels.values())
