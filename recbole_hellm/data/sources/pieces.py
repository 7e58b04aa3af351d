"""What the readers of tables give: frames of bounded size whose rows can be named."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from recbole_hellm.data.event_table import Batch
from recbole_hellm.errors import DataError


@dataclass(frozen=True)
class Piece:
    """Some rows of a table, in its order."""

    frame: pl.DataFrame
    place: Callable[[int], str]
    """Row of ``frame`` to where it stands (``file:line``)."""


class Table(Protocol):
    """A file, or a folder of parts, with named columns."""

    path: Path
    files: tuple[Path, ...]
    names: tuple[str, ...]

    def batches(self, columns: dict[str, str]) -> Iterator[Batch]:
        """Yield the interactions; ``columns`` has ``user``, ``item``, ``time``, ``rating`` to the column's name."""

    def rows(self, columns: dict[str, str]) -> Iterator[tuple[Callable[[], str], dict[str, Any]]]:
        """Yield where a row stands and its values by the keys of ``columns``; equal neighbours may come once."""


def plain_suffix(path: Path) -> str:
    """Return the ending in small letters without ``.gz``."""
    return Path(path.stem).suffix.lower() if path.suffix.lower() == ".gz" else path.suffix.lower()


def piece_batch(piece: Piece, columns: dict[str, str]) -> Batch:
    """Return the interactions of a piece."""
    frame = pl.DataFrame([piece.frame[name].alias(target) for target, name in columns.items()])
    ids = [_as_ids(frame[target], target, piece.place) for target in ("user", "item")]
    return Batch(frame.with_columns(ids), piece.place)


def _as_ids(column: pl.Series, target: str, place: Callable[[int], str]) -> pl.Series:
    """Return ids as text.

    Raises:
        DataError: If they are neither texts nor integers.
    """
    if column.dtype.is_integer() or column.dtype in (pl.String, pl.Categorical, pl.Enum, pl.Null):
        return column.cast(pl.String)
    raise DataError(
        f"{place(0)}: column {column.name!r} ({target}) has type {column.dtype}; must be text or integers, as 12 and "
        "12.0 would be two ids"
    )


def piece_rows(pieces: Iterator[Piece], columns: dict[str, str]) -> Iterator[tuple[Callable[[], str], dict[str, Any]]]:
    """Yield the distinct rows of each piece with their place."""
    names = list(dict.fromkeys(columns.values()))
    for piece in pieces:
        frame = piece.frame.select(named(names))
        if frame[columns["item"]].dtype.is_float():
            _as_ids(frame[columns["item"]], "item", piece.place)
        # A title that stands in every interaction of its item is looked at once a piece.
        simple = not any(frame[name].dtype.is_nested() for name in names)
        frame = frame.with_row_index("row number of the piece")
        frame = frame.unique(names, keep="first", maintain_order=True) if simple else frame
        for number, *values in frame.iter_rows():
            cells = dict(zip(names, values, strict=True))
            row = {target: cells[name] for target, name in columns.items()}
            yield (lambda piece=piece, number=number: piece.place(number)), row  # type: ignore[misc]


def named(names: Sequence[str]) -> pl.Expr:
    """Return an expression for these columns; a plain ``^x$`` or ``*`` would be read as a pattern."""
    return pl.selectors.by_name(*names).as_expr()
