"""Reads the interactions of any RecBole data set as columns, the way RecBole reads them."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recbole_hellm.data.inter import check_inter_file
from recbole_hellm.data.reading import read_lines
from recbole_hellm.errors import DataError

USER, ITEM, TIME, DAY_GAP = "user_id", "item_id", "timestamp", "day_gap"
_SEPARATOR = "\t"


@dataclass(frozen=True)
class Events:
    """The interactions of a data set, sorted by user, each user's by time; in the file's order where times tie."""

    user: NDArray[np.int32]
    """Index into ``user_tokens``, ascending, shape ``[N]``."""
    item: NDArray[np.int32]
    """Index into ``item_tokens``, shape ``[N]``."""
    user_tokens: NDArray[np.object_]
    """Users in the order of their tokens."""
    item_tokens: NDArray[np.object_]
    """Items in the order of their tokens."""
    time: NDArray[np.float64] | None
    """Time of each event as it stands in the file, shape ``[N]``; ``None`` without such a column."""
    day_gap: NDArray[np.float32] | None
    """Days since the user's event before, 0 for a tie; ``None`` without such a column."""
    columns: tuple[str, ...]
    """Cells of the file's header."""
    n_unnamed: int
    """Rows left out because user or item is empty, or a word that pandas takes for a missing value."""

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Events of each user, shape ``[n_users]``."""
        return np.bincount(self.user, minlength=len(self.user_tokens))

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """Events of each item, shape ``[n_items]``."""
        return np.bincount(self.item, minlength=len(self.item_tokens))

    @cached_property
    def ends(self) -> NDArray[np.int64]:
        """Row after the last one of each user, shape ``[n_users]``."""
        return np.cumsum(self.lengths)


def read_events(path: Path) -> Events:
    """Read ``user_id``, ``item_id`` and, where they are, ``timestamp`` and ``day_gap`` of an ``.inter`` file.

    Memory is a few numbers a row, whatever the tokens look like.

    Raises:
        DataError: Naming file, row and rule.
    """
    header: list[str] = []
    for _, line in read_lines(path):
        header = line.split(_SEPARATOR)
        break
    cells = _wanted(path, header)
    _check_widths(path, len(header) - 1)
    frame = _read(path, cells)
    if frame.empty:
        check_inter_file(path, [USER, ITEM])  # names the rule
    missing = frame[cells[USER]].isna() | frame[cells[ITEM]].isna()
    if missing.any():
        frame = frame[~missing]
    if frame.empty:
        raise DataError(f"{path}: no row has a user and an item")
    user, user_tokens = _sorted_codes(frame[cells[USER]])
    item, item_tokens = _sorted_codes(frame[cells[ITEM]])
    time = frame[cells[TIME]].to_numpy() if TIME in cells else None
    gap = frame[cells[DAY_GAP]].to_numpy() if DAY_GAP in cells else None
    # RecBole keeps times as float32 and sorts them stably
    order = np.lexsort([*([] if time is None else [time.astype(np.float32)]), user])
    return Events(
        user=user[order],
        item=item[order],
        user_tokens=user_tokens,
        item_tokens=item_tokens,
        time=None if time is None else time[order],
        day_gap=None if gap is None else gap[order],
        columns=tuple(header),
        n_unnamed=int(missing.sum()),
    )


def _wanted(path: Path, header: list[str]) -> dict[str, str]:
    """Return the header cell of each column that is read."""
    cells = {cell.split(":")[0]: cell for cell in header}
    for name in (USER, ITEM):
        if name not in cells:
            raise DataError(f"{path}:1: no column {name}:token; the header has: {', '.join(header)}"[:400])
    for name in (TIME, DAY_GAP):
        if name in cells and not cells[name].endswith(":float"):
            raise DataError(f"{path}:1: {name} must be of type float, got {cells[name]!r}")
    return {name: cells[name] for name in (USER, ITEM, TIME, DAY_GAP) if name in cells}


def _check_widths(path: Path, n_separators: int) -> None:
    """Refuse a row that is longer or shorter than the header; pandas would shift or cut it without a word."""
    separator = _SEPARATOR.encode()
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.count(separator) != n_separators and line.strip(b"\r\n"):
                    found = line.count(separator) + 1
                    raise DataError(f"{path}:{number}: expected {n_separators + 1} cells, got {found}")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def _read(path: Path, cells: dict[str, str]) -> pd.DataFrame:
    types: dict[str, Any] = {cells[USER]: "category", cells[ITEM]: "category"}
    types |= {cells[name]: kind for name, kind in ((TIME, np.float64), (DAY_GAP, np.float32)) if name in cells}
    try:
        frame = pd.read_csv(path, sep=_SEPARATOR, usecols=list(types), dtype=types, encoding="utf-8")
    except (ValueError, pd.errors.ParserError, OSError) as error:
        check_inter_file(path, cells)  # names row and rule where it can
        raise DataError(f"{path}: cannot be read ({' '.join(str(error).split())}), by RecBole neither") from error
    if TIME in cells and not np.isfinite(frame[cells[TIME]].to_numpy()).all():
        check_inter_file(path, cells)
        raise DataError(f"{path}: {TIME} must be a finite number in every row")
    return frame


def _sorted_codes(column: pd.Series) -> tuple[NDArray[np.int32], NDArray[np.object_]]:
    """Number the tokens of a categorical column in the order of the tokens, those without a row left out."""
    tokens = column.cat.categories.to_numpy(dtype=object)
    codes = column.cat.codes.to_numpy()
    used = np.bincount(codes, minlength=len(tokens)) > 0
    order = np.array(sorted(np.flatnonzero(used), key=lambda code: tokens[code]), dtype=np.int64)
    place = np.empty(len(tokens), dtype=np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    return place[codes], tokens[order]
