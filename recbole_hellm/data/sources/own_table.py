"""``csv``: interactions in csv, tsv, Parquet or JSON-lines files, with a map of their columns."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recbole_hellm.data.manifest import MANIFEST
from recbole_hellm.data.records import TEXT_COLUMNS
from recbole_hellm.data.sources import parquet_table
from recbole_hellm.data.sources.base import RESERVED, ItemRow, OpenSource, SourceOptions
from recbole_hellm.data.sources.columns import event_columns, item_columns, log_left_out
from recbole_hellm.data.sources.peek import is_amazon
from recbole_hellm.data.sources.pieces import Table
from recbole_hellm.data.sources.tables import is_table, open_table
from recbole_hellm.errors import DataError

_EVENT_NAMES = ("interactions", "ratings", "reviews", "events", "inter")
_OTHERS = (MANIFEST, "_id_mapping.csv")
"""Endings of files that are no table of interactions."""
_ITEM_NAMES = ("items", "products", "movies", "catalogue", "catalog")


class TableFormat:
    """One table of interactions, and perhaps one of items."""

    name = "csv"
    about = "csv, tsv, Parquet or JSON-lines tables, a folder of Parquet parts, or interactions.* with items.* beside"

    def recognise(self, path: Path) -> str:
        """Say why ``path`` may be of this format."""
        if path.is_dir() and _parts(path):
            return "it holds Parquet parts"
        named = [path] if path.is_file() else _named(path, _EVENT_NAMES)
        tables = named or [entry for entry in sorted(path.iterdir()) if is_table(entry)]
        tables = [entry for entry in tables if not entry.name.endswith(_OTHERS)]
        if len(tables) != 1 or not (tables[0].is_dir() or is_table(tables[0])) or is_amazon(tables[0]):
            return ""
        return f"{tables[0].name} is a table"

    def open(self, path: Path, options: SourceOptions) -> OpenSource:
        """Find the tables and their columns."""
        events_path, items_path = _find(path)
        events = open_table(events_path, options.separator, options.header)
        columns = event_columns(events_path, events.names, options.columns, options.time_unit)
        items: Table | None = None
        if options.items is None and items_path is not None:
            items = open_table(items_path, options.separator, options.header)
        elif options.items is None and _has_texts(events, options):
            items = events
        files = dict.fromkeys((*events.files, *(items.files if items is not None else ())))
        return OpenSource(
            files=tuple(files),
            batches=lambda: events.batches(columns),
            item_rows=None
            if items is None
            else lambda: table_items(items, options, strict=True, alone=items is not events),
        )


def table_items(table: Table, options: SourceOptions, strict: bool, alone: bool = False) -> Iterator[ItemRow]:
    """Yield the items of a table.

    Args:
        table: One row an item, or one an interaction.
        options: With the map of its columns.
        strict: Whether every mapped text column must be there.
        alone: Whether it holds nothing but items: then columns that are not taken are logged.

    Raises:
        DataError: If it has no item column, or lacks a mapped text column and ``strict`` is set.
    """
    columns = item_columns(table.path, table.names, options.columns, strict)
    if alone:
        log_left_out(table.path, table.names, columns)
    texts = [target for target in columns if target not in RESERVED]
    for place, row in table.rows(columns):
        yield ItemRow(
            item=_item_id(place, row["item"]),
            place=place,
            texts={target: row[target] for target in texts},
            image=first_text(row.get("image")),
        )


def first_text(value: Any) -> str:
    """Return a text, or the first one of a list."""
    while isinstance(value, (list, tuple)) and value:
        value = value[0]
    return value if isinstance(value, str) else ""


def _item_id(place: Any, value: Any) -> str:
    if isinstance(value, str) or value is None:
        return value or ""
    if type(value) is not int:
        raise DataError(f"{place()}: item id is {str(value)[:40]!r}; must be a text or an integer")
    return str(value)


def _has_texts(table: Table, options: SourceOptions) -> bool:
    """Tell whether the table of the interactions has columns that speak of the items."""
    if any(target not in ("user", "item", "time", "rating") for target in options.columns):
        return True
    columns = item_columns(table.path, table.names, options.columns, strict=True)
    return any(target in columns for target in (*TEXT_COLUMNS, "image"))


def _find(path: Path) -> tuple[Path, Path | None]:
    """Return the table of the interactions and that of the items."""
    if path.is_file() or _parts(path):
        return path, None
    events, items = _named(path, _EVENT_NAMES), _named(path, _ITEM_NAMES)
    tables = [entry for entry in sorted(path.iterdir()) if is_table(entry) and entry not in items]
    if len(events) != 1 and len(tables) == 1:
        events = tables
    if len(events) != 1 or len(items) > 1:
        found = ", ".join(entry.name for entry in (events if len(events) != 1 else items)) or "none"
        which = "interactions" if len(events) != 1 else "items"
        raise DataError(
            f"{path}: one table of {which} is needed ({which}.csv, .tsv, .parquet or .jsonl), found: {found}; give "
            "--source the file itself, and --items the other"
        )
    return events[0], items[0] if items else None


def _parts(path: Path) -> bool:
    """Tell whether a folder is one table in Parquet parts."""
    if _named(path, _EVENT_NAMES):
        return False
    parts = [part for suffix in parquet_table.SUFFIXES for part in path.rglob(f"*{suffix}")]
    return any(part.name[0] not in "._" for part in parts)


def _named(path: Path, stems: tuple[str, ...]) -> list[Path]:
    """Return the tables, or folders of Parquet parts, that are called so."""
    return [
        entry
        for entry in sorted(path.iterdir())
        if entry.name.split(".")[0].lower() in stems and (is_table(entry) or (entry.is_dir() and _parts(entry)))
    ]
