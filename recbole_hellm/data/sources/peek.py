"""Looks at the first record of a file to tell whose it is."""

from pathlib import Path

from recbole_hellm.data.sources.pieces import plain_suffix
from recbole_hellm.data.sources.records import read_records
from recbole_hellm.data.sources.tables import open_table
from recbole_hellm.errors import DataError

JSON = (".json", ".jsonl")
CSV_CELLS = 4
"""Cells of a file of Amazon ratings."""


def is_amazon(file: Path) -> bool:
    """Tell whether a file is one of the reviews or ratings of Amazon's data sets."""
    if plain_suffix(file) == ".csv":
        return has_parent_asin(file) or (file.name.startswith("ratings_") and headerless(file))
    keys = record_keys(file)
    return {"user_id", "parent_asin"} <= keys or {"reviewerID", "asin", "unixReviewTime"} <= keys


def record_keys(file: Path) -> set[str]:
    """Return the keys of the first record of a JSON-lines file; none if it cannot be read."""
    if plain_suffix(file) not in JSON:
        return set()
    try:
        return set(next(read_records(file))[1])
    except (DataError, StopIteration):
        return {"reviewerID", "asin", "unixReviewTime", "helpful"} if file.name.startswith("reviews_") else set()


def headerless(file: Path) -> bool:
    """Tell whether the first line of a csv file has numbers for rating and time instead of names."""
    try:
        cells = open_table(file, ",", header=True).names
    except DataError:
        return False
    return len(cells) == CSV_CELLS and all(_is_number(cell) for cell in cells[2:])


def has_parent_asin(file: Path) -> bool:
    """Tell whether a csv file has the columns of the 2023 data."""
    try:
        return {"user_id", "parent_asin"} <= set(open_table(file, ",", header=True).names)
    except DataError:
        return False


def _is_number(cell: str) -> bool:
    try:
        return float(cell) == float(cell)
    except ValueError:
        return False
