"""Which column of a table is the user, the item, the time, a text."""

from collections.abc import Mapping, Sequence
from logging import getLogger
from pathlib import Path

from recbole_hellm.data.records import TEXT_COLUMNS
from recbole_hellm.data.sources.base import RESERVED
from recbole_hellm.errors import DataError, nearest

logger = getLogger(__name__)

_USUAL = {
    "user": ("user_id", "user", "uid", "userid", "reviewerid", "customer_id", "visitorid", "session_id"),
    "item": ("item_id", "item", "iid", "itemid", "parent_asin", "asin", "product_id", "movie_id", "movieid", "sku"),
    "time": ("timestamp", "time", "ts", "unixreviewtime", "date", "datetime", "created_at"),
    "rating": ("rating", "stars", "overall", "score"),
    "image": ("image", "image_url", "image_path", "imurl", "img", "photo", "picture", "poster"),
    "title": ("title", "name", "product_title", "product_name", "movie_title", "item_name"),
    "brand": ("brand", "store", "manufacturer"),
    "categories": ("categories", "category", "genres", "genre", "class", "main_category"),
    "description": ("description", "desc"),
    "keywords": ("keywords", "tags"),
}
"""Names a column may have, in small letters, if nothing is said of it."""
EVENT_TARGETS = ("user", "item", "time", "rating")


def event_columns(path: Path, names: Sequence[str], columns: Mapping[str, str], time_unit: str) -> dict[str, str]:
    """Return ``user``, ``item``, ``time``, ``rating`` to the name of their column, the last two where there is one.

    Raises:
        DataError: If a mapped column does not exist, two may be meant, or there is none for user, item or time.
    """
    check_names(path, names)
    found = {target: _column(path, names, columns, target) for target in EVENT_TARGETS}
    for target in ("user", "item", "time"):
        if found[target] is None and not (target == "time" and time_unit == "row"):
            more = "; --time-unit row takes the order of the rows" if target == "time" else ""
            raise DataError(
                f"{path}: which column is the {target}? Say --columns {target}=NAME{more}; there are: "
                f"{', '.join(names)[:400]}"
            )
    chosen = {target: name for target, name in found.items() if name is not None}
    _check_distinct(path, chosen)
    return chosen


def item_columns(path: Path, names: Sequence[str], columns: Mapping[str, str], strict: bool) -> dict[str, str]:
    """Return ``item``, ``image`` and the text columns to the name of their column.

    Args:
        path: For messages.
        names: Columns of the table.
        columns: The map that was given; a name it gives to the item may also belong to another table.
        strict: Whether every text column of the map must exist here.

    Raises:
        DataError: If a mapped text column does not exist, two may be meant, or there is none for the item.
    """
    check_names(path, names)
    here = dict(columns)
    if here.get("item") not in names:
        here.pop("item", None)
    own = [target for target in columns if target not in RESERVED and target not in TEXT_COLUMNS]
    targets = ("item", *TEXT_COLUMNS, *own, "image")
    if not strict:
        here = {target: name for target, name in here.items() if name in names}
    found = {target: _column(path, names, here, target) for target in targets}
    if found["item"] is None:
        raise DataError(
            f"{path}: which column is the item? Say --columns item=NAME; there are: {', '.join(names)[:400]}"
        )
    return {target: name for target, name in found.items() if name is not None}


def log_left_out(path: Path, names: Sequence[str], chosen: Mapping[str, str]) -> None:
    """Log which columns of a table of items are not taken."""
    left = [repr(name) for name in names if name not in chosen.values()]
    if left:
        logger.info("%s: not taken: %s; --columns price=COLUMN takes one", path.name, ", ".join(left)[:300])


def check_names(path: Path, names: Sequence[str]) -> None:
    """Refuse a header with an empty or repeated name."""
    for place, name in enumerate(names, start=1):
        if not name.strip() or names.index(name) + 1 != place:
            what = "comes twice" if name.strip() else "is empty"
            raise DataError(f"{path}: name {name!r} of column {place} {what}: correct the first line, or --no-header")


def _column(path: Path, names: Sequence[str], columns: Mapping[str, str], target: str) -> str | None:
    """Return the mapped column, or the only one with a usual name."""
    if target in columns:
        name = columns[target]
        if name not in names:
            raise DataError(
                f"{path}: no column {name!r} for {target}{nearest(name, names)}; there are: {', '.join(names)[:400]}"
            )
        return name
    taken = set(columns.values())
    usual = [name for name in names if name.strip().lower() in _USUAL.get(target, ()) and name not in taken]
    exact = [name for name in usual if name.strip().lower() == _USUAL[target][0]]
    usual = exact or usual
    if len(usual) > 1 and target in EVENT_TARGETS[:3]:
        raise DataError(f"{path}: {' or '.join(usual)} may be the {target}: say --columns {target}=NAME")
    if usual:
        logger.info("%s: column %r is taken as the %s", path.name, usual[0], target)
    return usual[0] if usual else None


def _check_distinct(path: Path, chosen: Mapping[str, str]) -> None:
    for target, name in chosen.items():
        other = next((t for t, n in chosen.items() if n == name and t != target), None)
        if other is not None:
            raise DataError(f"{path}: column {name!r} cannot be both {target} and {other}: correct --columns")
