"""Reads JSON-lines files as a table."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from recbole_hellm.data.event_table import Batch
from recbole_hellm.data.sources.records import event_batches, read_records

SUFFIXES = (".jsonl", ".ndjson", ".json")
_LOOKED_AT = 100


class JsonTable:
    """A file with one JSON object a line; its columns are the keys of the first 100 objects."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files: tuple[Path, ...] = (path,)
        names: dict[str, None] = {}
        for count, (_, record) in enumerate(read_records(path), start=1):
            names.update(dict.fromkeys(record))
            if count == _LOOKED_AT:
                break
        self.names = tuple(names)

    def batches(self, columns: dict[str, str]) -> Iterator[Batch]:
        """Yield the interactions."""
        yield from event_batches(self.path, dict(columns), read_records(self.path))

    def rows(self, columns: dict[str, str]) -> Iterator[tuple[Callable[[], str], dict[str, Any]]]:
        """Yield where a row stands and its values."""
        for number, record in read_records(self.path):
            row = {target: record.get(name) for target, name in columns.items()}
            yield (lambda number=number: f"{self.path}:{number}"), row  # type: ignore[misc]
