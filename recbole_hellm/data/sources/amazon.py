"""``amazon2014``, ``amazon2018``, ``amazon2023``: reviews or ratings of one category, with its metadata."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from recbole_hellm.data.event_table import Batch
from recbole_hellm.data.sources.amazon_items import rows_2014, rows_2018, rows_2023
from recbole_hellm.data.sources.base import OpenSource, SourceOptions
from recbole_hellm.data.sources.peek import CSV_CELLS, JSON, has_parent_asin, headerless, record_keys
from recbole_hellm.data.sources.pieces import plain_suffix
from recbole_hellm.data.sources.records import event_batches, read_records
from recbole_hellm.data.sources.tables import open_table
from recbole_hellm.errors import DataError


class Amazon2014:
    """McAuley's data of 2014: JSON reviews, csv ratings without a header, metadata in Python notation."""

    name = "amazon2014"
    about = "reviews_*.json.gz or ratings_*.csv, with meta_*.json.gz in Python notation"
    keys: Mapping[str, str | tuple[str, ...]] = {
        "user": "reviewerID",
        "item": "asin",
        "time": "unixReviewTime",
        "rating": "overall",
    }
    csv_order: tuple[str, ...] = ("user", "item", "rating", "time")
    marks: tuple[str, ...] = ("helpful",)
    """Keys of a review that only this version has."""
    prefixes: tuple[str, ...] = ("reviews_", "ratings_")
    items = staticmethod(rows_2014)

    def recognise(self, path: Path) -> str:
        """Say why ``path`` may be of this format."""
        files = [path] if path.is_file() else _event_files(path, self.prefixes)
        return next((reason for file in files if (reason := self._file_reason(file))), "")

    def _file_reason(self, file: Path) -> str:
        if plain_suffix(file) == ".csv":
            named = bool(self.prefixes) and file.name.startswith(self.prefixes)
            return f"{file.name} has ratings without a header" if named and headerless(file) else ""
        keys = record_keys(file)
        wanted = [key if isinstance(key, str) else key[0] for key in self.keys.values()]
        if not keys or not set(wanted[:3]) <= keys or self._is_another(keys):
            return ""
        return f"{file.name} has {', '.join(wanted[:3])}"

    def _is_another(self, keys: set[str]) -> bool:
        return bool(keys & set(Amazon2018.marks)) and not keys & set(self.marks)

    def open(self, path: Path, options: SourceOptions) -> OpenSource:
        """Find the reviews or ratings, and the metadata beside them."""
        events = self._events(path)
        meta = None if options.items is not None else self._meta(events)
        return OpenSource(
            files=(events, *([meta] if meta else [])),
            batches=lambda: self._batches(events),
            item_rows=None if meta is None else partial(self.items, meta),
        )

    def _events(self, path: Path) -> Path:
        if path.is_file():
            return path
        files = _event_files(path, self.prefixes)
        if len(files) != 1:
            found = ", ".join(file.name for file in files) or "none"
            raise DataError(
                f"{path}: one file of reviews or ratings is needed ({self.about}), found: {found}; give "
                "--source the file itself"
            )
        return files[0]

    def _meta(self, events: Path) -> Path | None:
        """Return the metadata of the same category, or the only one there is."""
        files = [file for file in sorted(events.parent.iterdir()) if _is_meta(file)]
        category = _category(events)
        same = [file for file in files if _category(file) == category]
        if len(same) != 1 and len(files) > 1:
            raise DataError(
                f"{events.parent}: which metadata belongs to {events.name}? There are "
                f"{', '.join(file.name for file in files)}: name it meta_{category}.json.gz"
            )
        found = same or files
        return found[0] if found else None

    def _batches(self, events: Path) -> Iterator[Batch]:
        if plain_suffix(events) != ".csv":
            return event_batches(events, dict(self.keys), read_records(events))
        table = open_table(events, ",", header=not headerless(events))
        if "1" not in table.names:
            return table.batches(self._csv_columns(events, table.names))
        if len(table.names) != CSV_CELLS:
            raise DataError(
                f"{events}:1: expected {CSV_CELLS} cells ({', '.join(self.csv_order)}), got {len(table.names)}"
            )
        return table.batches({target: str(place) for place, target in enumerate(self.csv_order, start=1)})

    def _csv_columns(self, events: Path, names: tuple[str, ...]) -> dict[str, str]:
        columns = {}
        for target, key in self.keys.items():
            name = key if isinstance(key, str) else key[0]
            if name not in names:
                raise DataError(
                    f"{events}:1: no column {name!r}; there are: {', '.join(names)[:400]}; or use --format csv"
                )
            columns[target] = name
        return columns


class Amazon2018(Amazon2014):
    """Ni's data of 2018: JSON lines for both."""

    name = "amazon2018"
    about = "<Category>.json.gz or <Category>_5.json.gz, with meta_<Category>.json.gz as JSON lines"
    csv_order = ("item", "user", "rating", "time")
    marks = ("verified", "style", "vote", "image")
    prefixes: tuple[str, ...] = ()
    items = staticmethod(rows_2018)

    def _is_another(self, keys: set[str]) -> bool:
        return bool(keys & set(Amazon2014.marks)) and not keys & set(self.marks)


class Amazon2023(Amazon2014):
    """Hou's data of 2023: JSON lines, items by their parent, times in milliseconds."""

    name = "amazon2023"
    about = "<Category>.jsonl.gz with parent_asin, or <Category>.csv with that column, and meta_<Category>.jsonl.gz"
    keys: Mapping[str, str | tuple[str, ...]] = {
        "user": "user_id",
        "item": "parent_asin",
        "time": ("timestamp", "sort_timestamp"),
        "rating": "rating",
    }
    csv_order = ("user", "item", "rating", "time")
    prefixes: tuple[str, ...] = ()
    items = staticmethod(rows_2023)

    def _file_reason(self, file: Path) -> str:
        if plain_suffix(file) == ".csv":
            return f"{file.name} has parent_asin" if has_parent_asin(file) else ""
        keys = record_keys(file)
        return f"{file.name} has user_id, parent_asin" if {"user_id", "parent_asin"} <= keys else ""


def _event_files(folder: Path, prefixes: tuple[str, ...]) -> list[Path]:
    files = [file for file in sorted(folder.iterdir()) if plain_suffix(file) in (*JSON, ".csv") and not _is_meta(file)]
    return [file for file in files if file.is_file() and (not prefixes or file.name.startswith(prefixes))]


def _is_meta(file: Path) -> bool:
    return file.is_file() and file.name.startswith("meta_") and plain_suffix(file) in JSON


def _category(file: Path) -> str:
    """Return ``Beauty`` for ``reviews_Beauty_5.json.gz`` and ``meta_Beauty.json.gz``."""
    stem = file.name.split(".")[0]
    for prefix in ("reviews_", "ratings_", "meta_"):
        stem = stem.removeprefix(prefix)
    return stem.removesuffix("_5")
