"""Reads item texts back from a RecBole ``.item`` file."""

from collections.abc import Sequence
from pathlib import Path

from recbole_hellm.data.reading import read_lines
from recbole_hellm.data.text import category_text
from recbole_hellm.errors import DataError, nearest

_CATEGORY_COLUMN = "categories"
_ITEM_COLUMN = "item_id"


def read_item_text(item_file: Path, columns: Sequence[str], separator: str = ". ") -> dict[str, str]:
    """Return item token -> its texts, joined in the order of ``columns``.

    Args:
        item_file: RecBole ``.item`` file: tab-separated, a header of ``name:type`` cells.
        columns: Names without type; ``categories`` is written out (``Toys_&_Games Dolls`` to
            ``Toys & Games, Dolls``).
        separator: Put between the columns of an item that are not empty.

    Returns:
        One entry a row, ``""`` for an item without any of these texts.

    Raises:
        DataError: If the file is missing or broken, has no ``item_id``, a column is unknown, or an item comes twice.
        ValueError: If ``columns`` is empty.
    """
    if not columns:
        raise ValueError(f"columns must name at least one text column of {item_file}")
    texts: dict[str, str] = {}
    header: list[str] = []
    for number, line in read_lines(item_file):
        cells = line.split("\t")
        if number == 1:
            header = [cell.split(":")[0] for cell in cells]
            token_place, places = _places(item_file, header, columns)
            continue
        if len(cells) != len(header):
            raise DataError(f"{item_file}:{number}: expected {len(header)} tab-separated cells, got {len(cells)}")
        token = cells[token_place]
        if token in texts:
            raise DataError(f"{item_file}:{number}: item {token!r} comes a second time: an item has one row")
        parts = (category_text(cells[i]) if header[i] == _CATEGORY_COLUMN else cells[i].strip() for i in places)
        texts[token] = separator.join(part for part in parts if part)
    return texts


def _places(item_file: Path, header: list[str], columns: Sequence[str]) -> tuple[int, list[int]]:
    """Find the item column and the wanted columns in the header."""
    known = [name for name in header if name != _ITEM_COLUMN]
    for column in columns:
        if column not in known:
            near = nearest(column, known)
            raise DataError(f"{item_file}: unknown column {column!r}{near}; known: {', '.join(known)}")
    if _ITEM_COLUMN not in header:
        raise DataError(f"{item_file}:1: the header must have 'item_id:token', got {', '.join(header)}")
    return header.index(_ITEM_COLUMN), [header.index(column) for column in columns]


def item_columns(item_file: Path) -> list[str]:
    """Return the names of all columns of a RecBole ``.item`` file but the item id.

    Raises:
        DataError: If the file is missing or has no other column.
    """
    for _, line in read_lines(item_file):
        columns = [name for cell in line.split("\t") if (name := cell.split(":")[0]) != _ITEM_COLUMN]
        if columns:
            return columns
        break
    raise DataError(f"{item_file}:1: no column beside {_ITEM_COLUMN}: nothing to make item text of")
