"""Prepares one's own data: any source of a known format, under any name."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from recbole_hellm.artifacts import file_digest
from recbole_hellm.data.atomic import Contents
from recbole_hellm.data.collect import collect_events
from recbole_hellm.data.filters import FILTER_NAMES, Filters
from recbole_hellm.data.images import open_source
from recbole_hellm.data.item_file import IMAGE_COLUMN, MissingText
from recbole_hellm.data.manifest import describe_source
from recbole_hellm.data.records import CatalogueItem, Counts
from recbole_hellm.data.sources.base import ItemRow, OpenSource, SourceOptions
from recbole_hellm.data.sources.detect import find_format
from recbole_hellm.data.sources.items import clean_items
from recbole_hellm.data.sources.own_table import table_items
from recbole_hellm.data.sources.tables import open_table
from recbole_hellm.data.sources.vectors import entry_files, parse_entry, read_entry
from recbole_hellm.errors import ConfigError, DataError, nearest

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class OwnSource:
    """A source that was found, with everything decided but nothing read.

    Args:
        name: Name of the data set.
        path: File or folder.
        format_name: One of ``detect.FORMATS``; ``None`` takes the only one that fits.
        options: How the source is read.
        filters: What is kept, where it differs from the defaults of the format.
        keep_cold_items: Whether items of the catalogue without interactions are kept.
        missing_text: What to do with an item that has no row in the catalogue.

    Raises:
        ConfigError: If an option is unknown or wrong.
        DataError: If the format is not clear or a file is missing.
    """

    def __init__(
        self,
        name: str,
        path: Path,
        format_name: str | None,
        options: SourceOptions,
        filters: Mapping[str, Any],
        keep_cold_items: bool,
        missing_text: MissingText,
    ) -> None:
        check_name(name)
        for option in filters:
            if option not in FILTER_NAMES:
                raise ConfigError(f"unknown option {option!r}{nearest(option, FILTER_NAMES)} of the filters")
        self.path, self.options = path, options
        self.keep_cold_items, self.missing_text = keep_cold_items, missing_text
        chosen = find_format(path, format_name)
        self.source: OpenSource = chosen.open(path, options)
        self.filters: Filters = replace(self.source.filters, **filters)
        _check_features(options.features, options.images)
        if options.images is not None:
            open_source(options.images)  # a wrong path is not found out after an hour of reading
        extra = [file for entry in options.features for file in entry_files(entry)]
        self._items = None if options.items is None else open_table(options.items, options.separator)
        files = [*self.source.files, *extra, *(self._items.files if self._items else ())]
        self.inputs = describe_source(name, chosen.name, [], self._described())
        self.inputs["source"]["sha256"] = _checksums(dict.fromkeys(files), path)

    def _described(self) -> dict[str, Any]:
        return {
            "missing_text": self.missing_text,
            "keep_cold_items": self.keep_cold_items,
            **asdict(self.filters),
            **self.options.described(),
        }

    def read(self, expected: Counts | None) -> Contents:
        """Read and filter the interactions; items and vectors follow while they are written.

        Raises:
            DataError: Naming file and record, if something is wrong.
        """
        options, source = self.options, self.source
        events = collect_events(
            source.batches(), self.filters, source.time_unit or options.time_unit, options.bad_times, source.comparable
        )
        used = dict.fromkeys(events.item_tokens)
        rows = self._item_rows()
        items: Iterable[CatalogueItem] = ()
        if rows is not None:
            items = clean_items(rows, options, used, self.keep_cold_items)
        tables = source.features()
        given = [read_entry(entry, source) for entry in options.features]
        names = {table.name for table in given}
        if options.images is not None and any(table.name == IMAGE_COLUMN for table in tables):
            raise DataError(f"{self.path} has vectors {IMAGE_COLUMN!r} already: leave out --images, or the array")
        return Contents(
            sequences=events,
            items=items,
            features=[*(table for table in tables if table.name not in names), *given],
            expected=expected,
            missing_text="empty" if rows is None else self.missing_text,
            keep_cold=self.keep_cold_items,
            with_settings=True,
            images=options.images,
        )

    def _item_rows(self) -> Iterable[ItemRow] | None:
        if self._items is not None:
            return table_items(self._items, self.options, strict=True, alone=True)
        return None if self.source.item_rows is None else self.source.item_rows()


def check_name(name: str) -> None:
    """Refuse a name that is no plain name of a folder.

    Raises:
        ConfigError: If it is none.
    """
    if not _NAME.fullmatch(name) or len(name) > 100:
        raise ConfigError(
            f"name {name[:100]!r} must be letters, digits, '-', '_' and '.', beginning with the first two"
        )


def _check_features(entries: tuple[str, ...], images: Path | None) -> None:
    names = [parse_entry(entry)[0] for entry in entries]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"option 'features' names {name!r} twice: one array a name")
    if images is not None and IMAGE_COLUMN in names:
        raise ConfigError("options 'images' and 'features image=...' both say what 'image' is: give one of them")


def _checksums(files: Iterable[Path], root: Path) -> dict[str, str]:
    """Return the digest of each file by its path within the source, without the folders above it."""
    base = root if root.is_dir() else root.parent
    digests: dict[str, str] = {}
    for file in files:
        name = file.relative_to(base).as_posix() if file.is_relative_to(base) else file.name
        while name in digests:
            name += "'"
        try:
            digests[name] = file_digest(file)
        except OSError as error:
            raise DataError(
                f"file {file} cannot be read ({error.strerror}): check its rights or copy it again"
            ) from error
    return digests
