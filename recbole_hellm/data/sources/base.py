"""What every source format offers, and the options all of them share."""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from recbole_hellm.data.collect import BadTimes
from recbole_hellm.data.event_table import Batch
from recbole_hellm.data.features import FeatureTable
from recbole_hellm.data.filters import Filters
from recbole_hellm.data.times import TIME_UNITS
from recbole_hellm.errors import ConfigError, nearest

Conflicts = Literal["error", "first"]
_NAME = re.compile(r"[a-z][a-z0-9_]*")
RESERVED = ("user", "item", "time", "rating", "image")
"""Targets of a column map that are no text."""


@dataclass(frozen=True)
class SourceOptions:
    """How a source is read; what a format does not know of is refused or does not apply."""

    columns: Mapping[str, str] = field(default_factory=dict)
    """``user``, ``item``, ``time``, ``rating``, ``image`` or the name of a text column to its name in the source."""
    items: Path | None = None
    """A table of the items (csv, tsv, Parquet, JSON lines) instead of the source's own item texts."""
    features: tuple[str, ...] = ()
    """Item vectors, ``name=array.npy`` or ``name=array.pt``, with ``,ids.txt`` behind unless the ids are known."""
    images: Path | None = None
    """Folder or ``.zip`` with pictures of the items, which runs then encode; they stay where they are."""
    fields: tuple[str, ...] | None = None
    """Text columns to keep; ``None`` keeps all that are known."""
    time_unit: str = "auto"
    """``s``, ``ms``, ``us``, ``ns``; ``auto`` by size; ``row`` takes the order of the rows for the time."""
    bad_times: BadTimes = "error"
    """``error`` or ``drop`` for interactions whose time is missing, no time or before 1970."""
    conflicts: Conflicts = "error"
    """``error`` or ``first`` for an item that comes again with other texts."""
    separator: str | None = None
    """Of a csv file; ``None``: by the ending and the first line."""
    header: bool = True
    """Whether a csv file has a line of names; else columns are called ``1``, ``2``, ..."""

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ConfigError: Naming the option.
        """
        choices: tuple[tuple[str, tuple[str, ...]], ...] = (
            ("time_unit", TIME_UNITS),
            ("bad_times", get_args(BadTimes)),
            ("conflicts", get_args(Conflicts)),
        )
        for name, known in choices:
            value = getattr(self, name)
            if value not in known:
                raise ConfigError(
                    f"option {name!r} must be one of {', '.join(known)}, got {value!r}{nearest(str(value), known)}"
                )
        if self.separator is not None and (len(self.separator.encode()) != 1 or self.separator in '"\n\r'):
            raise ConfigError(f"option 'separator' must be one ASCII character, no quote, got {self.separator!r}")
        for target, column in self.columns.items():
            if not _NAME.fullmatch(target) or target in ("item_id", "user_id") or not column:
                raise ConfigError(
                    f"option 'columns': {target}={column} must be user, item, time, rating, image or a text column "
                    "(small letters, digits, _), then '=' and the name in the source"
                )

    def described(self) -> dict[str, Any]:
        """Return what decides the result, for the manifest (files count by content)."""
        return {
            "columns": dict(sorted(self.columns.items())),
            "features": sorted(entry.partition("=")[0] for entry in self.features),
            **({} if self.images is None else {"images": image_place(self.images)}),
            "fields": None if self.fields is None else list(self.fields),
            "time_unit": self.time_unit,
            "bad_times": self.bad_times,
            "conflicts": self.conflicts,
            "separator": self.separator,
            "header": self.header,
        }


def image_place(path: Path) -> str:
    """Return the name of a folder of pictures with a digest of its place, which a manifest does not tell."""
    return f"{path.name}@{hashlib.sha256(str(path.resolve()).encode(errors='replace')).hexdigest()[:12]}"


@dataclass(frozen=True)
class ItemRow:
    """One row of a catalogue, not cleaned yet."""

    item: str
    """Id as in the source."""
    place: Callable[[], str]
    """Where it stands (``file:line``)."""
    texts: Mapping[str, Any]
    """Text column to value: a string, a list, a number or ``None``."""
    image: str = ""
    """Path or address of a picture."""


@dataclass(frozen=True)
class OpenSource:
    """A source whose files were found; nothing of them is read yet but what finding took."""

    files: tuple[Path, ...]
    """All files that will be read."""
    batches: Callable[[], Iterator[Batch]]
    """Interactions."""
    item_rows: Callable[[], Iterable[ItemRow]] | None = None
    """The catalogue; ``None`` if the source has none."""
    features: Callable[[], list[FeatureTable]] = list
    """Item vectors with ids as in the source."""
    feature_ids: Callable[[int], tuple[str, ...]] | None = None
    """Number of rows to the ids of a matrix in the source's own order; ``None`` if it has no such order."""
    comparable: bool = True
    """Whether times of different users share a calendar."""
    time_unit: str | None = None
    """Unit the format prescribes; ``None``: the option decides."""
    filters: Filters = Filters()
    """What is kept unless an option says otherwise."""


class SourceFormat(Protocol):
    """A format of ``--format``."""

    name: str
    about: str
    """What it looks like, in a few words."""

    def recognise(self, path: Path) -> str:
        """Say why ``path`` may be of this format; ``""`` if it is not."""

    def open(self, path: Path, options: SourceOptions) -> OpenSource:
        """Find the files.

        Raises:
            DataError: If one is missing.
        """
