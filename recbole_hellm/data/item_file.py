"""Writes the ``.item`` file of a data set in one pass over a catalogue of any size."""

import json
import math
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from logging import getLogger
from pathlib import Path
from typing import IO, Literal

from recbole_hellm.data.records import TEXT_COLUMNS, CatalogueItem
from recbole_hellm.errors import DataError

logger = getLogger(__name__)

MissingText = Literal["error", "empty"]
IMAGE_COLUMN = "image"
"""Column of the ``.item`` file with the path or address of an item's picture."""


@dataclass
class ItemReport:
    """What was counted while the items were written."""

    n_items: int = 0
    n_cold: int = 0
    """Items without interactions."""
    n_no_row: int = 0
    """Items of the interactions without a row in the catalogue."""
    n_images: int = 0
    """Items with the path or address of a picture."""
    missing: dict[str, int] = field(default_factory=dict)
    """Column to the number of items that have nothing in it, in the order of the file, without the picture's."""
    numbers: tuple[str, ...] = ()
    """Those of the columns that hold numbers alone."""

    @property
    def texts(self) -> list[str]:
        """Columns that hold text."""
        return [column for column in self.missing if column not in self.numbers]


def write_items(
    path: Path, items: Iterable[CatalogueItem], used: Mapping[str, object], missing_text: MissingText, keep_cold: bool
) -> ItemReport:
    """Write one row an item: ``item_id:token``, the columns that occur, ``image:token`` if any item has a picture.

    Columns are ``token_seq``, but those beside ``TEXT_COLUMNS`` with nothing but numbers, which are ``float``.
    The rows are spooled beside ``path``, because only the end tells which columns occur; memory holds ids alone.

    Args:
        path: File to write.
        items: The catalogue, each item once.
        used: Items of the interactions.
        missing_text: What to do with an item of ``used`` that has no row.
        keep_cold: Whether items that are not in ``used`` are written.

    Raises:
        DataError: If ``missing_text`` is ``error`` and an item has no row.
        OSError: If a file cannot be written.
    """
    report, filled, words = ItemReport(), Counter[str](), set(TEXT_COLUMNS)
    with tempfile.TemporaryFile("w+", dir=path.parent, encoding="utf-8") as spool:
        known: set[str] = set()
        for item in items:
            if item.token in used:
                known.add(item.token)
            elif keep_cold:
                report.n_cold += 1
            else:
                continue
            _spool(spool, item, report, filled)
            words.update(column for column, text in item.texts.items() if column not in words and not is_number(text))
        absent = [token for token in used if token not in known]
        _check_absent(absent, missing_text)
        report.n_no_row = len(absent)
        for token in absent:
            _spool(spool, CatalogueItem(token), report, filled)
        columns = [column for column in TEXT_COLUMNS if column in filled]
        columns += [column for column in filled if column not in TEXT_COLUMNS]
        report.missing = {column: report.n_items - filled[column] for column in columns}
        report.numbers = tuple(column for column in columns if column not in words)
        spool.seek(0)
        _write_rows(path, spool, report)
    return report


def _spool(spool: IO[str], item: CatalogueItem, report: ItemReport, filled: Counter[str]) -> None:
    """Write an item as a line of JSON and count it."""
    json.dump((item.token, item.texts, item.image), spool)  # ASCII: a lone surrogate survives until it is replaced
    spool.write("\n")
    report.n_items += 1
    report.n_images += item.image != ""
    filled.update(item.texts.keys())


def _check_absent(absent: list[str], missing_text: MissingText) -> None:
    """Refuse or report items of the interactions without a row."""
    if absent and missing_text == "error":
        raise DataError(
            f"item {absent[0]!r} of the interactions has no row in the item texts ({len(absent)} such items): "
            "add the rows or set missing_text to 'empty'"
        )
    if absent:
        logger.warning("%d items have no row in the item texts and get empty texts, first %r", len(absent), absent[0])


def is_number(text: str) -> bool:
    """Tell whether a cell is a finite number."""
    try:
        return math.isfinite(float(text)) and "_" not in text  # a digit separator of Python alone
    except ValueError:
        return False


def _write_rows(path: Path, spool: IO[str], report: ItemReport) -> None:
    """Write the spooled rows with the columns that occur."""
    columns, with_image = list(report.missing), report.n_images > 0
    kinds = ("float" if column in report.numbers else "token_seq" for column in columns)
    header = ["item_id:token", *(f"{column}:{kind}" for column, kind in zip(columns, kinds, strict=True))]
    header += [f"{IMAGE_COLUMN}:token"] if with_image else []
    with path.open("w", encoding="utf-8", errors="replace", newline="\n") as file:
        file.write("\t".join(header) + "\n")
        for line in spool:
            token, texts, image = json.loads(line)
            cells = [token, *(texts.get(column, "") for column in columns), *([image] if with_image else [])]
            file.write("\t".join(cells) + "\n")
