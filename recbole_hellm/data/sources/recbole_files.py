"""``atomic``: RecBole's own ``.inter`` and ``.item`` files."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from recbole_hellm.data.filters import TAKE_ALL
from recbole_hellm.data.reading import read_lines
from recbole_hellm.data.sources.base import ItemRow, OpenSource, SourceOptions
from recbole_hellm.data.sources.columns import event_columns
from recbole_hellm.data.sources.csv_table import CsvTable
from recbole_hellm.data.sources.own_table import table_items
from recbole_hellm.errors import DataError

_TYPES = ("token", "float", "token_seq", "float_seq")


class AtomicFormat:
    """A folder with ``<name>.inter`` and perhaps ``<name>.item``, or the ``.inter`` file."""

    name = "atomic"
    about = "RecBole's <name>.inter (header of name:type cells) and <name>.item"

    def recognise(self, path: Path) -> str:
        """Say why ``path`` may be of this format."""
        found = inter_files(path)
        typed = [file for file in found if is_typed(file)]
        return f"{typed[0].name} has a header of name:type cells" if typed else ""

    def open(self, path: Path, options: SourceOptions) -> OpenSource:
        """Find the files and their columns."""
        events = one_inter_file(path)
        table = AtomicTable(events)
        columns = event_columns(events, table.names, options.columns, options.time_unit)
        item_file = events.with_suffix(".item")
        items = item_file if options.items is None and item_file.is_file() else None
        return OpenSource(
            files=(events, *([items] if items else [])),
            batches=lambda: table.batches(columns),
            item_rows=None if items is None else partial(_items, items, options),
            filters=TAKE_ALL,
        )


class AtomicTable(CsvTable):
    """A tab-separated file whose header says names and types; quotes mean nothing in it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "\t", header=True, quoted=False)
        names = []
        for cell in self.names:
            name, _, kind = cell.partition(":")
            if kind not in _TYPES:
                raise DataError(
                    f"{path}:1: header cell {cell[:80]!r} must be name:type, type one of {', '.join(_TYPES)}"
                )
            names.append(name)
        self.names = tuple(names)


def _items(path: Path, options: SourceOptions) -> Iterator[ItemRow]:
    return table_items(AtomicTable(path), options, strict=False)


def inter_files(path: Path) -> list[Path]:
    """Return the ``.inter`` files of a folder, or the file itself."""
    files = [path] if path.is_file() else sorted(path.iterdir())
    return [file for file in files if file.suffix == ".inter" and file.is_file()]


def one_inter_file(path: Path) -> Path:
    """Return the only ``.inter`` file, or the one that is called as its folder.

    Raises:
        DataError: If there is none, or several.
    """
    files = inter_files(path)
    same = [file for file in files if file.stem == path.name]
    if len(files) != 1 and len(same) != 1:
        found = ", ".join(file.name for file in files) or "none"
        raise DataError(f"{path}: one .inter file is needed, found: {found}; give --source the file itself")
    return (same or files)[0]


def is_typed(file: Path) -> bool:
    """Tell whether the first cell of the header is ``name:type``."""
    try:
        cell = next(read_lines(file))[1].split("\t")[0]
    except (DataError, StopIteration):
        return True  # opening it says what is wrong
    return cell.partition(":")[2] in _TYPES
