"""Opens any table by the ending of its name."""

from pathlib import Path

from recbole_hellm.data.sources import json_table, parquet_table
from recbole_hellm.data.sources.csv_table import CsvTable
from recbole_hellm.data.sources.json_table import JsonTable
from recbole_hellm.data.sources.parquet_table import ParquetTable
from recbole_hellm.data.sources.pieces import Table, plain_suffix
from recbole_hellm.errors import DataError

CSV_SUFFIXES = (".csv", ".tsv", ".txt", ".inter", ".item")


def is_table(path: Path) -> bool:
    """Tell whether the name is that of a csv, Parquet or JSON-lines file."""
    return plain_suffix(path) in (".csv", ".tsv", *parquet_table.SUFFIXES, *json_table.SUFFIXES)


def open_table(path: Path, separator: str | None = None, header: bool = True, quoted: bool = True) -> Table:
    """Return the table of a file or of a folder of Parquet parts.

    Raises:
        DataError: If the ending is unknown or the first line cannot be read.
    """
    suffix = plain_suffix(path)
    if path.is_dir() or suffix in parquet_table.SUFFIXES:
        return ParquetTable(path)
    if suffix in json_table.SUFFIXES:
        return JsonTable(path)
    if suffix in CSV_SUFFIXES:
        return CsvTable(path, separator, header, quoted)
    known = ", ".join((*CSV_SUFFIXES[:3], *parquet_table.SUFFIXES, *json_table.SUFFIXES))
    raise DataError(f"{path}: unknown ending {suffix!r}: a table is a file with one of {known} (text also with .gz)")
