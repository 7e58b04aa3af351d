"""``sequences``: the text files of S3-Rec, E4SRec and P5, one user a line."""

from collections.abc import Iterator
from functools import partial
from itertools import zip_longest
from pathlib import Path

import polars as pl

from recbole_hellm.data.event_table import Batch
from recbole_hellm.data.filters import TAKE_ALL
from recbole_hellm.data.reading import read_lines
from recbole_hellm.data.records import TEXT_COLUMNS
from recbole_hellm.data.sequences import read_asins
from recbole_hellm.data.sources.base import ItemRow, OpenSource, SourceOptions
from recbole_hellm.data.sources.own_table import first_text
from recbole_hellm.data.sources.records import identity, read_records
from recbole_hellm.data.times import SECONDS_A_DAY
from recbole_hellm.errors import DataError

_BATCH_ROWS = 200_000
_TEXTS = "item_text.jsonl.gz"
_ASINS = "item2asin.tsv"
_GAPS = "_daygaps.txt.gz"


class SequenceFormat:
    """``<name>.txt`` with ``user item item ...``; perhaps ``<name>_daygaps.txt.gz``, ``item_text.jsonl.gz``."""

    name = "sequences"
    about = "<name>.txt with 'user item item ...' a line in the order of time, perhaps item_text.jsonl.gz"

    def recognise(self, path: Path) -> str:
        """Say why ``path`` may be of this format."""
        return next((f"{file.name} has lines of numbers" for file in _text_files(path) if _is_sequences(file)), "")

    def open(self, path: Path, options: SourceOptions) -> OpenSource:
        """Find the files."""
        files = [path] if path.is_file() else [file for file in _text_files(path) if _is_sequences(file)]
        if len(files) != 1:
            found = ", ".join(file.name for file in files) or "none"
            raise DataError(f"{path}: one file of sequences is needed, found: {found}; give --source the file itself")
        main = files[0]
        gaps, texts, asins = (main.with_name(name) for name in (main.stem + _GAPS, _TEXTS, _ASINS))
        gap_file = gaps if gaps.is_file() else None
        with_texts = texts.is_file() and options.items is None
        used = [file for file in (gaps, asins) if file.is_file()] + ([texts] if with_texts else [])
        return OpenSource(
            files=(main, *used),
            batches=partial(_batches, main, gap_file),
            item_rows=partial(_items, texts, asins if asins.is_file() else None) if with_texts else None,
            comparable=False,
            time_unit="s" if gap_file else "row",
            filters=TAKE_ALL,
        )


def _text_files(path: Path) -> list[Path]:
    files = [path] if path.is_file() else sorted(path.iterdir())
    return [file for file in files if file.suffix == ".txt" and file.is_file()]


def _is_sequences(file: Path) -> bool:
    """Tell whether the first line is a user and items as numbers."""
    try:
        cells = next(read_lines(file))[1].split()
    except (DataError, StopIteration):
        return False
    return len(cells) >= 2 and all(cell.isascii() and cell.isdecimal() for cell in cells)


def _batches(main: Path, gaps: Path | None) -> Iterator[Batch]:
    """Yield the interactions; a time is the sum of the user's day gaps, in seconds."""
    rows: list[tuple[str, str, float]] = []
    lines: list[int] = []
    seen: set[str] = set()
    for number, user, items, days in _users(main, gaps):
        if user in seen:
            raise DataError(f"{main}:{number}: user {user} comes a second time: a user has one line")
        seen.add(user)
        rows += [(user, item, day * SECONDS_A_DAY) for item, day in zip(items, days, strict=True)]
        lines += [number] * len(items)
        if len(rows) >= _BATCH_ROWS:
            yield _batch(main, rows, lines)
            rows, lines = [], []
    if rows:
        yield _batch(main, rows, lines)


def _batch(main: Path, rows: list[tuple[str, str, float]], lines: list[int]) -> Batch:
    frame = pl.DataFrame(rows, schema={"user": pl.String, "item": pl.String, "time": pl.Float64}, orient="row")
    return Batch(frame, lambda row: f"{main}:{lines[row]}")


def _users(main: Path, gaps: Path | None) -> Iterator[tuple[int, str, list[str], list[float]]]:
    """Yield line number, user, items and the day of each item counted from the first."""
    gap_lines = read_lines(gaps) if gaps is not None else None
    pairs = (
        zip_longest(read_lines(main), gap_lines) if gap_lines is not None else ((row, None) for row in read_lines(main))
    )
    for row, gap_row in pairs:
        if row is None:
            raise DataError(f"{main}: line {gap_row[0] if gap_row else 0} of {gaps} has no line here: both must align")
        number, line = row
        user, *items = line.split() or [""]
        if not items:
            raise DataError(f"{main}:{number}: the line must be 'user item item ...', got {line[:40]!r}: delete it")
        if gaps is None:
            yield number, user, items, [0.0] * len(items)
            continue
        if gap_row is None:
            raise DataError(f"{gaps}: line {number} is missing: {main.name} and {gaps.name} must align")
        yield number, user, items, _days(gaps, number, gap_row[1], user, len(items))


def _days(gaps: Path, number: int, line: str, user: str, n_items: int) -> list[float]:
    """Return the sums of the gaps of a user."""
    gap_user, *cells = line.split() or [""]
    if gap_user != user or len(cells) != n_items:
        raise DataError(
            f"{gaps}:{number}: {len(cells)} gaps of user {gap_user[:40]} do not align with {n_items} items of user "
            f"{user[:40]}: take both files from one source"
        )
    days, day = [], 0
    for place, cell in enumerate(cells):
        if not (cell.isascii() and cell.isdecimal()) or len(cell) > 7:
            raise DataError(f"{gaps}:{number}: expected days, an integer from 0 to 9999999, got {cell[:40]!r}")
        day += int(cell) if place else 0
        days.append(float(day))
    return days


def _items(texts: Path, asins: Path | None) -> Iterator[ItemRow]:
    """Yield the items of ``item_text.jsonl.gz``, checked against ``item2asin.tsv``."""
    names = read_asins(asins) if asins is not None else {}
    for number, record in read_records(texts):
        place = f"{texts}:{number}"
        value = record.get("id")
        item = value if isinstance(value, str) else identity(place, "item", value)
        if "asin" in record and names.get(item, record["asin"]) != record["asin"]:
            raise DataError(
                f"{place}: item {item[:40]} is {str(record['asin'])[:40]!r} here and {names[item]!r} in {_ASINS}: take "
                "both files from one source"
            )
        known = {column: record.get(column) for column in TEXT_COLUMNS}
        yield ItemRow(item, lambda place=place: place, known, first_text(record.get("image")))  # type: ignore[misc]
