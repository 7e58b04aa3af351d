"""Reads Parquet files and folders of Parquet parts, as Spark and Ray Data write them."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from recbole_hellm.data.event_table import Batch
from recbole_hellm.data.sources.pieces import Piece, named, piece_batch, piece_rows
from recbole_hellm.errors import DataError

SUFFIXES = (".parquet", ".pq")
_ROWS = 200_000


class ParquetTable:
    """A Parquet file, or a folder of Parquet parts as Spark and Ray write them (sub-folders too)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        found = sorted(part for suffix in SUFFIXES for part in path.rglob(f"*{suffix}")) if path.is_dir() else [path]
        # Spark's own bookkeeping starts with _ or a dot.
        self.files = tuple(part for part in found if part.is_file() and part.name[0] not in "._")
        if not self.files:
            raise DataError(
                f"{path}: no Parquet part in this folder: give --source the folder with the *.parquet files"
            )
        schemas = [self._schema(file) for file in self.files]
        for file, schema in zip(self.files, schemas, strict=True):
            if schema != schemas[0]:
                other = next(
                    (name for name in {**schemas[0], **schema} if schemas[0].get(name) != schema.get(name)), ""
                )
                raise DataError(
                    f"{file}: column {other!r} is another one than in {self.files[0].name}: one schema is needed"
                )
        self.names = tuple(schemas[0])

    @staticmethod
    def _schema(file: Path) -> dict[str, Any]:
        try:
            return dict(pl.read_parquet_schema(file))
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
            raise _broken_parquet(file, error) from error

    def batches(self, columns: dict[str, str]) -> Iterator[Batch]:
        """Yield the interactions."""
        for piece in self._pieces(list(columns.values())):
            yield piece_batch(piece, columns)

    def rows(self, columns: dict[str, str]) -> Iterator[tuple[Callable[[], str], dict[str, Any]]]:
        """Yield where a row stands and its values; equal rows of a piece once."""
        yield from piece_rows(self._pieces(list(dict.fromkeys(columns.values()))), columns)

    def _pieces(self, columns: Sequence[str]) -> Iterator[Piece]:
        """Yield all rows with these columns in the types of the file."""
        for file in self.files:
            start = 0
            try:
                for frame in (
                    pl.scan_parquet(file, glob=False, hive_partitioning=False)
                    .select(named(columns))
                    .collect_batches(chunk_size=_ROWS, maintain_order=True)
                ):
                    yield Piece(frame, lambda row, file=file, start=start: f"{file}: row {start + row + 1}")  # type: ignore[misc]
                    start += len(frame)
            except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
                raise _broken_parquet(file, error) from error


def _broken_parquet(file: Path, error: BaseException) -> DataError:
    reason = " ".join(str(error).split())[:80]
    return DataError(f"{file}: no readable Parquet file ({reason}): write or copy it again")
