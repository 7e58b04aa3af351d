"""Which format a source has."""

from pathlib import Path

from recbole_hellm.data.sources.amazon import Amazon2014, Amazon2018, Amazon2023
from recbole_hellm.data.sources.base import SourceFormat
from recbole_hellm.data.sources.mmrec import MMRecFormat
from recbole_hellm.data.sources.own_table import TableFormat
from recbole_hellm.data.sources.recbole_files import AtomicFormat
from recbole_hellm.data.sources.text_sequences import SequenceFormat
from recbole_hellm.errors import DataError, nearest

FORMATS: dict[str, SourceFormat] = {
    entry.name: entry
    for entry in (
        SequenceFormat(),
        Amazon2014(),
        Amazon2018(),
        Amazon2023(),
        MMRecFormat(),
        TableFormat(),
        AtomicFormat(),
    )
}
"""Formats by their name."""


def find_format(path: Path, name: str | None) -> SourceFormat:
    """Return the format called ``name``, or the only one that fits ``path``.

    Raises:
        DataError: If the name or the path is unknown, none fits, or several do (they are listed).
    """
    if name is not None and name not in FORMATS:
        raise DataError(f"unknown format {name!r}{nearest(name, FORMATS)}; known: {', '.join(FORMATS)}")
    if not path.exists():
        raise DataError(f"source {path} does not exist: give --source the file or folder with the data")
    if path.is_dir() and not any(path.iterdir()):
        raise DataError(f"source folder {path} is empty: give --source the folder with the data")
    if name is not None:
        return FORMATS[name]
    reasons = {known: reason for known, entry in FORMATS.items() if (reason := entry.recognise(path))}
    if len(reasons) == 1:
        return FORMATS[next(iter(reasons))]
    if reasons:
        listed = "; ".join(f"{known} ({reason})" for known, reason in reasons.items())
        raise DataError(f"source {path} may be {listed}: say which with --format")
    known = "; ".join(f"{entry.name}: {entry.about}" for entry in FORMATS.values())
    raise DataError(f"source {path}: unknown format; say which with --format. {known}")
