"""Reads item texts, numbers and picture names back from a RecBole ``.item`` file."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from recbole_hellm.data.item_file import IMAGE_COLUMN
from recbole_hellm.data.reading import read_lines
from recbole_hellm.data.template import TextTemplate
from recbole_hellm.data.text import category_text
from recbole_hellm.errors import DataError, nearest

_CATEGORY_COLUMN = "categories"
_ITEM_COLUMN = "item_id"
_NUMBER = "float"
T = TypeVar("T")


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
    return _by_item(item_file, columns, lambda cells: separator.join(text for text in cells.values() if text))


def read_templated_text(item_file: Path, template: TextTemplate) -> dict[str, str]:
    """Return item token -> the text its columns give with ``template``; ``""`` where all of them are empty.

    Raises:
        DataError: As :func:`read_item_text`.
    """
    return _by_item(item_file, template.fields, template.fill)


def read_column(item_file: Path, column: str) -> dict[str, str]:
    """Return item token -> the cell of one column, as it stands, without empty ones.

    Raises:
        DataError: As :func:`read_item_text`.
    """
    return {token: cell for token, cell in _by_item(item_file, [column], lambda cells: cells[column]).items() if cell}


def read_item_tokens(item_file: Path) -> list[str]:
    """Return the item token of every row, in the order of the file.

    Raises:
        DataError: As :func:`read_item_text`.
    """
    return list(_by_item(item_file, [], lambda cells: None))


def _by_item(item_file: Path, columns: Sequence[str], make: Callable[[Mapping[str, str]], T]) -> dict[str, T]:
    """Return item token -> what ``make`` makes of its cells."""
    found: dict[str, T] = {}
    for number, token, cells in _rows(item_file, columns):
        if token in found:
            raise DataError(f"{item_file}:{number}: item {token!r} comes a second time: an item has one row")
        found[token] = make(cells)
    return found


def _rows(item_file: Path, columns: Sequence[str]) -> Iterator[tuple[int, str, dict[str, str]]]:
    """Yield line number, item token and the wanted cells of each row."""
    header: list[str] = []
    for number, line in read_lines(item_file):
        cells = line.split("\t")
        if number == 1:
            header = [cell.split(":")[0] for cell in cells]
            token_place, places = _places(item_file, header, columns)
            continue
        if len(cells) != len(header):
            raise DataError(f"{item_file}:{number}: expected {len(header)} tab-separated cells, got {len(cells)}")
        wanted = {header[place]: cells[place].strip() for place in places}
        if _CATEGORY_COLUMN in wanted:
            wanted[_CATEGORY_COLUMN] = category_text(wanted[_CATEGORY_COLUMN])
        yield number, cells[token_place], wanted


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


def column_types(item_file: Path) -> dict[str, str]:
    """Return the type of every column of a RecBole ``.item`` file but the item id; empty if there is no file.

    Raises:
        DataError: If the file cannot be read.
    """
    if not item_file.is_file():
        return {}
    for _, line in read_lines(item_file):
        parts = (cell.partition(":") for cell in line.split("\t"))
        return {name: kind for name, _, kind in parts if name != _ITEM_COLUMN}
    return {}


def item_columns(item_file: Path) -> list[str]:
    """Return the columns of a RecBole ``.item`` file that hold text: no item id, no numbers, no names of pictures.

    Raises:
        DataError: If the file is missing or has no such column.
    """
    for _ in read_lines(item_file):
        break  # a missing or empty file is an error here
    kinds = column_types(item_file).items()
    columns = [name for name, kind in kinds if not kind.startswith(_NUMBER) and name != IMAGE_COLUMN]
    if not columns:
        raise DataError(f"{item_file}:1: no column of text beside {_ITEM_COLUMN}: nothing to make item text of")
    return columns


def number_columns(item_file: Path) -> list[str]:
    """Return the columns of a RecBole ``.item`` file with one number an item (type ``float``)."""
    return [name for name, kind in column_types(item_file).items() if kind == _NUMBER]
