"""Reads the MovieLens-100K files that the recbole package ships, so that a first run needs no download."""

from collections.abc import Iterator
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

from recbole_hellm.data.reading import read_lines
from recbole_hellm.data.records import MAX_EXACT_TIME, CatalogueItem, UserSequence
from recbole_hellm.data.text import clean_text
from recbole_hellm.errors import DataError

_NAME = "ml-100k"
_INTER_HEADER = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
_ITEM_HEADER = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq"
_SECONDS_A_DAY = 86_400


def packaged_folder() -> Path:
    """Return recbole's own ``dataset_example/ml-100k`` without importing recbole.

    Raises:
        DataError: If recbole is not installed or lacks the folder.
    """
    spec = find_spec("recbole")
    for location in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(location) / "dataset_example" / _NAME
        if folder.is_dir():
            return folder
    raise DataError(f"recbole's packaged {_NAME} is not found: install recbole==1.2.1 or give --source its folder")


def source_files(folder: Path) -> list[Path]:
    """Return the files read from ``folder``.

    Raises:
        DataError: If one is missing.
    """
    files = [folder / f"{_NAME}.inter", folder / f"{_NAME}.item"]
    for file in files:
        if not file.is_file():
            raise DataError(f"file {file} is missing: give --source the folder with {_NAME}.inter and {_NAME}.item")
    return files


def read_sequences(folder: Path) -> Iterator[UserSequence]:
    """Yield the users of ``ml-100k.inter``; every rating is an interaction.

    A timestamp is the place (from 1) of the rating among all 100,000, by second and then by line of the file: exact
    in float32, where the original seconds are not, and comparable between users. ``day_gaps`` are seconds / 86,400;
    0 marks two ratings of one second.

    Raises:
        DataError: Naming file and line, if the header or a cell is not as expected.
    """
    path = folder / f"{_NAME}.inter"
    rows: list[tuple[int, int, str, str]] = []
    for number, cells in _rows(path, _INTER_HEADER):
        try:
            seconds = int(float(cells[3]))
        except ValueError as error:
            raise DataError(f"{path}:{number}: timestamp must be a number of seconds, got {cells[3]!r}") from error
        rows.append((seconds, number, cells[0], cells[1]))
    if len(rows) >= MAX_EXACT_TIME:
        raise DataError(f"{path}: {len(rows)} rows; float32 keeps the order of less than 2**24")
    users: dict[str, list[tuple[int, int, str]]] = {}
    for time, (seconds, _, user, item) in enumerate(sorted(rows), start=1):
        users.setdefault(user, []).append((time, seconds, item))
    for user in sorted(users, key=lambda token: (len(token), token)):
        times, seconds_of, items = zip(*users[user], strict=True)
        gaps = (0.0, *((after - before) / _SECONDS_A_DAY for before, after in pairwise(seconds_of)))
        yield UserSequence(user, items, times, gaps)


def read_catalogue(folder: Path) -> Iterator[CatalogueItem]:
    """Yield the films: ``title`` is title and year, ``categories`` the genres.

    Raises:
        DataError: Naming file and line, if the header or a row is not as expected.
    """
    for _, (token, title, year, genres) in _rows(folder / f"{_NAME}.item", _ITEM_HEADER):
        title, year = clean_text(title), clean_text(year)
        texts = {
            "title": f"{title} ({year})" if title and year.isdecimal() else title,
            "categories": clean_text(genres),
        }
        yield CatalogueItem(token, {column: text for column, text in texts.items() if text})


def _rows(path: Path, header: str) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and cells of a RecBole file with exactly this header."""
    width = header.count("\t") + 1
    for number, line in read_lines(path):
        cells = line.split("\t")
        if number == 1 and line != header:
            raise DataError(f"{path}:1: expected the header {header!r}, got {line[:80]!r}")
        if len(cells) != width:
            raise DataError(f"{path}:{number}: expected {width} tab-separated cells, got {len(cells)}")
        if number > 1:
            yield number, cells
