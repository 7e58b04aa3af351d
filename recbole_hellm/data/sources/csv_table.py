"""Reads csv and tsv files in blocks: polars parses, a slower reader names the record that it refuses."""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import polars as pl

from recbole_hellm.data.event_table import Batch
from recbole_hellm.data.reading import read_blocks
from recbole_hellm.data.sources.pieces import Piece, named, piece_batch, piece_rows, plain_suffix
from recbole_hellm.errors import DataError


class CsvTable:
    """A csv or tsv file, perhaps packed with gzip.

    Args:
        path: The file.
        separator: One character; ``None``: tab for ``.tsv``, else the likeliest one of the first line.
        header: Whether the first line has the names; else they are ``1``, ``2``, ...
        quoted: Whether a cell may stand in double quotes.
    """

    def __init__(self, path: Path, separator: str | None, header: bool, quoted: bool) -> None:
        self.path = path
        self.files: tuple[Path, ...] = (path,)
        self._header, self._quoted = header, quoted
        _, block = next(read_blocks(path, quoted))
        # Blank lines at the top would hide the header from every reader.
        line = block.lstrip(b"\xef\xbb\xbf").split(b"\n", 1)[0].rstrip(b"\r").decode()
        self.separator = separator or _likeliest(path, line)
        first = tuple(_first_cells(path, line, self.separator) if quoted else line.split(self.separator))
        if not first:
            raise DataError(f"{path}:1: the first line is empty: it must have the names of the columns")
        self.names = first if header else tuple(str(place) for place in range(1, len(first) + 1))

    def batches(self, columns: dict[str, str]) -> Iterator[Batch]:
        """Yield the interactions."""
        for piece in self._pieces(list(columns.values())):
            yield piece_batch(piece, columns)

    def rows(self, columns: dict[str, str]) -> Iterator[tuple[Callable[[], str], dict[str, Any]]]:
        """Yield where a row stands and its values; equal rows of a piece once."""
        yield from piece_rows(self._pieces(list(dict.fromkeys(columns.values()))), columns)

    def _pieces(self, columns: Sequence[str]) -> Iterator[Piece]:
        """Yield all rows with these columns as text; an empty cell is null."""
        for line, block in read_blocks(self.path, self._quoted):
            if line == 1:
                block = block.removeprefix(b"\xef\xbb\xbf")
                if self._header:
                    head, _, block = block.partition(b"\n")
                    line = 2
            if block.strip(b"\r\n"):
                yield self._piece(line, block, columns)

    def _piece(self, line: int, block: bytes, columns: Sequence[str]) -> Piece:
        try:
            frame = pl.read_csv(
                io.BytesIO(block),
                has_header=False,
                schema=dict.fromkeys(self.names, pl.String),
                separator=self.separator,
                quote_char='"' if self._quoted else None,
            )
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            raise self._diagnosis(line, block, error) from error
        many_lines = self._quoted and b'"' in block
        if len(self.names) > 1:
            blank = frame.select(pl.all_horizontal(pl.all().is_null())).to_series()
            if blank.any() and not many_lines:  # as every csv reader leaves them out, but the others keep their line
                rows = (~blank).arg_true().to_list()
                frame = frame.filter(~blank)
                return Piece(frame.select(named(columns)), lambda row: f"{self.path}:{line + rows[row]}")
            frame = frame.filter(~blank)
        if many_lines:
            return Piece(frame.select(named(columns)), lambda row: f"{self.path}:{self._line(line, block, row)}")
        return Piece(frame.select(named(columns)), lambda row: f"{self.path}:{line + row}")

    def _line(self, first: int, block: bytes, row: int) -> int:
        """Return the line on which a row of a block begins whose cells may hold line ends."""
        reader, begin, n_rows = self._reader(block), 0, 0
        with suppress(csv.Error):  # polars is less strict: then the line before is as near as can be said
            for cells in reader:
                if any(cells):
                    if n_rows == row:
                        break
                    n_rows += 1
                begin = reader.line_num
        return first + begin

    def _reader(self, block: bytes) -> Any:
        return csv.reader(io.StringIO(block.decode(), newline="\n"), delimiter=self.separator, strict=True)

    def _diagnosis(self, line: int, block: bytes, error: BaseException) -> DataError:
        """Find the record that polars could not read."""
        begin = 0
        if self._quoted:
            reader = self._reader(block)
            try:
                for cells in reader:
                    if len(cells) > len(self.names):
                        return self._too_many(line + begin, len(cells))
                    begin = reader.line_num
            except csv.Error as wrong:
                return DataError(f"{self.path}:{line + begin}: broken csv record ({wrong}): check its double quotes")
        else:
            for number, text in enumerate(block.split(b"\n")):
                if (n_cells := text.count(self.separator.encode()) + 1) > len(self.names):
                    return self._too_many(line + number, n_cells)
        reason = str(error).split("\n", 1)[0][:80]
        return DataError(f"{self.path}: cannot be read as csv after line {line - 1} ({reason}): check quotes and cells")

    def _too_many(self, line: int, n_cells: int) -> DataError:
        return DataError(
            f"{self.path}:{line}: {n_cells} cells, but the first line has {len(self.names)}: put a cell with the "
            f"separator {self.separator!r} into double quotes, or say --separator"
        )


def _first_cells(path: Path, line: str, separator: str) -> list[str]:
    """Return the cells of the first line.

    Raises:
        DataError: If it is broken.
    """
    try:
        return next(csv.reader([line], delimiter=separator), [])
    except csv.Error as error:
        raise DataError(f"{path}:1: broken csv record ({error}): check its quotes and line ends") from error


def _likeliest(path: Path, line: str) -> str:
    """Return the separator that the first line has most of."""
    if plain_suffix(path) == ".tsv":
        return "\t"
    best = max(",;\t|", key=line.count)
    return best if best in line else ","
