"""Checks a RecBole ``.inter`` file before RecBole reads it, which would name neither row nor rule."""

from collections.abc import Iterable
from pathlib import Path

from recbole_hellm.data.reading import read_lines
from recbole_hellm.errors import DataError, nearest

_TYPES = ("token", "float", "token_seq", "float_seq")


def check_inter_file(path: Path, columns: Iterable[str], separator: str = "\t") -> None:
    """Check header, number of cells and floats of an interaction file.

    RecBole fills an empty or missing time with the mean of the others, which moves the interaction in its sequence.

    Args:
        path: File with a header of ``name:type`` cells.
        columns: Names it must have; cells of those of type ``float`` must be numbers.
        separator: Between two cells.

    Raises:
        DataError: Naming file, row and rule.
    """
    cells: list[str] = []
    floats: list[int] = []
    n_rows = 0
    for number, line in read_lines(path):
        if number == 1:
            cells = line.split(separator)
            floats = _float_places(path, cells, list(columns))
            continue
        if not line:  # as RecBole's reader does
            continue
        n_rows += 1
        if line.count(separator) != len(cells) - 1:
            raise DataError(f"{path}:{number}: expected {len(cells)} cells, got {line.count(separator) + 1}")
        row = line.split(separator) if floats else []
        for place in floats:
            if not _is_number(row[place]):
                raise DataError(f"{path}:{number}: {cells[place].split(':')[0]} must be a number, got {row[place]!r}")
    if n_rows == 0:
        raise DataError(
            f"{path} has no interaction: a header 'user_id:token ...' and one row an interaction are needed"
        )


def _float_places(path: Path, cells: list[str], columns: list[str]) -> list[int]:
    """Check the header and return the places of the wanted float columns."""
    names = []
    for cell in cells:
        name, _, kind = cell.partition(":")
        if kind not in _TYPES:
            raise DataError(f"{path}:1: header cell {cell!r} must be name:type, type one of {', '.join(_TYPES)}")
        names.append(name)
    for column in columns:
        if column not in names:
            raise DataError(
                f"{path}:1: no column {column!r}{nearest(column, names)}; the header has: {', '.join(names)}"
            )
    return [place for place, cell in enumerate(cells) if names[place] in columns and cell.endswith(":float")]


def _is_number(text: str) -> bool:
    try:
        return float(text) == float(text)  # not NaN
    except ValueError:
        return False
