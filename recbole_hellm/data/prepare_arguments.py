"""The arguments of ``recbole-hellm prepare``."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from recbole_hellm.data.collect import BadTimes
from recbole_hellm.data.filters import FILTER_NAMES, Duplicates
from recbole_hellm.data.item_file import MissingText
from recbole_hellm.data.sources.base import Conflicts, SourceOptions
from recbole_hellm.data.times import TIME_UNITS
from recbole_hellm.errors import ConfigError

FORMATS = ("sequences", "amazon2014", "amazon2018", "amazon2023", "mmrec", "csv", "atomic")
"""As ``sources.detect.FORMATS``, which would import every reader for ``--help``."""


def add_prepare_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``prepare``."""
    parser.add_argument("name", help="amazon-sports, amazon-beauty, amazon-toys, ml-100k, or a name for your own data")
    parser.add_argument("--source", type=Path, help="file or folder with the source")
    parser.add_argument("--output", type=Path, default=Path("dataset"), help="folder of data sets (default: dataset)")
    parser.add_argument("--force", action="store_true", help="replace a data set with other contents")
    parser.add_argument("--format", metavar="FORMAT", help=f"{', '.join(FORMATS)} (default: found out)")
    parser.add_argument(
        "--missing-text", choices=get_args(MissingText), default="error", help="items without a row in the item texts"
    )
    parser.add_argument(
        "--keep-cold-items", action="store_true", help="keep items of the catalogue without interactions"
    )
    _add_reading(parser.add_argument_group("how the source is read"))
    _add_filters(parser.add_argument_group("what is kept (defaults as S3-Rec; everything of formats filtered before)"))


def _add_reading(group: Any) -> None:
    add = group.add_argument
    add(
        "--columns",
        action="append",
        metavar="MAP",
        help="user=uid,item=asin,time=ts,rating=stars,title=name,image=photo",
    )
    add("--items", type=Path, help="table of the items (csv, tsv, Parquet, JSON lines)")
    add("--features", action="append", metavar="NAME=ARRAY[,IDS]", help="item vectors (.npy, .pt) and their ids")
    add("--images", type=Path, metavar="DIR", help="folder or .zip of pictures, named by item id or by column image")
    add("--fields", help="text columns to keep, for example title,brand (default: all)")
    add("--time-unit", choices=TIME_UNITS, help="default: by size; row: the order of the rows is the time")
    add("--bad-times", choices=get_args(BadTimes), help="interactions without a time (default: error)")
    add("--conflicts", choices=get_args(Conflicts), help="items that come again with other texts (default: error)")
    add("--separator", help="of a csv file (default: found out)")
    add("--no-header", action="store_false", dest="header", default=None, help="columns are called 1, 2, ...")


def _add_filters(group: Any) -> None:
    add = group.add_argument
    add("--min-rating", type=float, help="least rating (default: none)")
    add("--duplicates", choices=get_args(Duplicates), help="of interactions of one user with one item (default: all)")
    add("--min-user", type=int, help="interactions a user must have, k-core (default: 5)")
    add("--min-item", type=int, help="interactions an item must have, k-core (default: 5)")
    add("--min-length", type=int, help="users with fewer interactions go at the end (default: 0)")


def prepare_settings(given: argparse.Namespace) -> dict[str, Any]:
    """Return the keyword arguments of ``prepare.prepare`` but name, source and output.

    Raises:
        ConfigError: If a value is wrong.
    """
    reading: dict[str, Any] = {
        name: getattr(given, name)
        for name in ("items", "images", "time_unit", "bad_times", "conflicts", "separator", "header")
        if getattr(given, name) is not None
    }
    if given.columns:
        reading["columns"] = column_map(given.columns)
    if given.features:
        reading["features"] = tuple(given.features)
    if given.fields is not None:
        reading["fields"] = tuple(name for name in given.fields.split(",") if name)
    if reading.get("separator") == "\\t":
        reading["separator"] = "\t"
    return {
        "force": given.force,
        "missing_text": given.missing_text,
        "format": given.format,
        "options": SourceOptions(**reading) if reading else None,
        "filters": {name: getattr(given, name) for name in FILTER_NAMES if getattr(given, name) is not None},
        "keep_cold_items": given.keep_cold_items,
    }


def column_map(texts: Sequence[str]) -> dict[str, str]:
    """Read ``user=uid,item=asin`` into a mapping.

    Raises:
        ConfigError: If a part has another form, or a target stands twice.
    """
    columns: dict[str, str] = {}
    for part in (part for text in texts for part in text.split(",")):
        target, equals, column = part.partition("=")
        if not equals or not target or not column:
            raise ConfigError(
                f"option 'columns': {part!r} must be TARGET=COLUMN, for example user=uid,item=asin,time=ts"
            )
        if target in columns:
            raise ConfigError(f"option 'columns' names {target!r} twice: {columns[target]!r} and {column!r}")
        columns[target] = column
    return columns
