"""Parses the S3-Rec text layout: one line a user, day gaps beside it, item texts as JSON lines."""

import json
from collections.abc import Iterator
from itertools import accumulate, zip_longest
from pathlib import Path

from recbole_hellm.data.reading import read_lines
from recbole_hellm.data.records import MAX_EXACT_TIME, CatalogueItem, UserSequence
from recbole_hellm.data.text import item_texts
from recbole_hellm.errors import DataError


def find_source(source: Path, name: str) -> Path:
    """Return the folder that holds ``<name>.txt``: ``source`` itself or ``source/<name>``.

    Raises:
        DataError: If ``source`` is missing, empty or holds no such data set.
    """
    if not source.is_dir():
        raise DataError(f"data folder {source} does not exist: give --source the folder that holds {name}/")
    if not any(source.iterdir()):
        raise DataError(f"data folder {source} is empty: it must hold {name}/ or {name}.txt")
    for folder in (source, source / name):
        if (folder / f"{name}.txt").is_file():
            return folder
    raise DataError(f"file {name}.txt is missing in {source} and {source / name}: give --source the folder of {name}")


def source_files(folder: Path, name: str) -> list[Path]:
    """Return the files the parser reads.

    Raises:
        DataError: If one is missing.
    """
    files = [folder / file for file in (f"{name}.txt", f"{name}_daygaps.txt.gz", "item_text.jsonl.gz", "item2asin.tsv")]
    for file in files:
        if not file.is_file():
            raise DataError(f"file {file} is missing: copy the complete data set folder")
    return files


def read_sequences(folder: Path, name: str) -> Iterator[UserSequence]:
    """Yield the users of ``<name>.txt`` with times built from order and day gaps.

    The source has days but no clock, and purchases of one day keep the order of the line. A timestamp is *days since
    the user's first interaction + place in the sequence (from 1)*: strictly increasing within the user, an integer
    far below 2**24 and so exact in float32, and the day is still in it (subtract the place). Times of different users
    are not comparable, as the source has no common calendar.

    Raises:
        DataError: Naming file, line and rule, if an id or gap is no integer, a user comes twice or has no items, or
            the two files do not fit line by line.
    """
    sequence_file, gap_file = folder / f"{name}.txt", folder / f"{name}_daygaps.txt.gz"
    seen: set[str] = set()
    for row, gap_row in zip_longest(read_lines(sequence_file), read_lines(gap_file)):
        if row is None or gap_row is None:
            short, number = (sequence_file, gap_row[0]) if row is None else (gap_file, row[0])
            raise DataError(f"{short}: line {number} is missing: {sequence_file.name} and {gap_file.name} must align")
        number, line = row
        user, *items = _integers(sequence_file, number, line, lowest=1)
        gap_user, *gaps = _integers(gap_file, number, gap_row[1], lowest=0)
        if not items:
            raise DataError(f"{sequence_file}:{number}: user {user} has no items: delete the line in both files")
        if (gap_user, len(gaps)) != (user, len(items)):
            raise DataError(
                f"{gap_file}:{number}: user {gap_user} with {len(gaps)} gaps does not align with user {user} with "
                f"{len(items)} items in {sequence_file.name}: take both files from one source"
            )
        if str(user) in seen:
            raise DataError(f"{sequence_file}:{number}: user {user} comes a second time: a user has one line")
        seen.add(str(user))
        times = tuple(days + place for place, days in enumerate(accumulate([0, *gaps[1:]]), start=1))
        if times[-1] >= MAX_EXACT_TIME:
            raise DataError(f"{gap_file}:{number}: the gaps of user {user} sum up to {times[-1]}; must be < 2**24 days")
        yield UserSequence(str(user), tuple(map(str, items)), times, tuple(map(float, gaps)))


def _integers(path: Path, number: int, line: str, lowest: int) -> list[int]:
    """Split ``line`` into integers >= ``lowest``; the first one is a user id and >= 1."""
    cells = line.split()
    if not cells:
        raise DataError(f"{path}:{number}: the line is empty: a line is 'user value value ...'")
    values: list[int] = []
    for cell in cells:
        # isdecimal alone would take digits of other scripts, int alone '+1' and '1_0'
        if not (cell.isascii() and cell.isdecimal()) or int(cell) < (lowest if values else 1):
            raise DataError(f"{path}:{number}: expected an integer >= {lowest if values else 1}, got {cell[:40]!r}")
        values.append(int(cell))
    return values


def read_catalogue(folder: Path) -> Iterator[CatalogueItem]:
    """Yield the items of ``item_text.jsonl.gz`` with cleaned texts, checked against ``item2asin.tsv``.

    Raises:
        DataError: Naming file, line and rule, if a line is broken JSON or has no integer ``id``, an item comes twice,
            or its ``asin`` is another one than in ``item2asin.tsv``.
    """
    path = folder / "item_text.jsonl.gz"
    asins = read_asins(folder / "item2asin.tsv")
    seen: set[str] = set()
    for number, line in read_lines(path):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}:{number}: broken JSON ({error.msg}): one object a line is needed") from error
        if not isinstance(row, dict) or type(row.get("id")) is not int or row["id"] < 1:
            raise DataError(f"{path}:{number}: expected an object with an integer 'id' >= 1, got {line[:40]!r}")
        token = str(row["id"])
        if token in seen:
            raise DataError(f"{path}:{number}: item {token} comes a second time: an item has one line")
        seen.add(token)
        if "asin" in row and asins.get(token, row["asin"]) != row["asin"]:
            raise DataError(
                f"{path}:{number}: item {token} is {row['asin']!r} here and {asins[token]!r} in item2asin.tsv: "
                "take both files from one source"
            )
        yield CatalogueItem(token, item_texts(row))


def read_asins(path: Path) -> dict[str, str]:
    """Read ``item_id<TAB>asin`` with a header line into item token -> ASIN.

    Raises:
        DataError: If a row has not two cells.
    """
    asins: dict[str, str] = {}
    for number, line in read_lines(path):
        cells = line.split("\t")
        if len(cells) != 2:
            raise DataError(f"{path}:{number}: expected 'item_id<TAB>asin', got {line[:40]!r}")
        if number > 1:
            asins[cells[0]] = cells[1]
    return asins
