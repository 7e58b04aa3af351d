"""Interactions of any size as arrays: ordered, counted and written."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recbole_hellm.data.records import FEW_INTERACTIONS, Counts
from recbole_hellm.data.times import day_gaps, exact_times
from recbole_hellm.data.tokens import SUSPECT, escaped

_WRITE_ROWS = 1_000_000


@dataclass(frozen=True)
class Batch:
    """Some interactions of a source, in its order."""

    frame: pl.DataFrame
    """Columns ``user`` and ``item`` (strings), ``time`` (any type, or absent), ``rating`` (any type, or absent)."""
    place: Callable[[int], str]
    """Row of ``frame`` to where it stands in the source (``file:line``)."""


@dataclass(frozen=True)
class EventTable:
    """Interactions ordered by user (as they first appear) and time."""

    user_tokens: tuple[str, ...]
    """Id of each user code."""
    item_tokens: tuple[str, ...]
    """Id of each item code."""
    user: NDArray[np.uint32]
    """User codes, shape ``[n]``; those of a user stand together."""
    item: NDArray[np.uint32]
    """Item codes, shape ``[n]``."""
    timestamp: NDArray[np.int32]
    """Integers below 2**24 that grow strictly within a user, shape ``[n]``."""
    day_gap: NDArray[np.float32]
    """Days since the user's interaction before, 0 where both have one time, shape ``[n]``."""
    report: dict[str, Any]
    """What was read, dropped and decided, for the manifest."""

    def __len__(self) -> int:
        return len(self.user)

    def write(self, path: Path) -> None:
        """Write the rows as a RecBole ``.inter`` file.

        Raises:
            OSError: If the file cannot be written.
        """
        users, items = pl.Series(self.user_tokens, dtype=pl.String), pl.Series(self.item_tokens, dtype=pl.String)
        with path.open("wb") as file:
            file.write(b"user_id:token\titem_id:token\ttimestamp:float\tday_gap:float\n")
            for start in range(0, len(self), _WRITE_ROWS):
                rows = slice(start, start + _WRITE_ROWS)
                frame = pl.DataFrame(
                    {
                        "user": users.gather(self.user[rows]),
                        "item": items.gather(self.item[rows]),
                        "time": self.timestamp[rows],
                        "gap": self.day_gap[rows],
                    }
                )
                file.write(frame.write_csv(separator="\t", include_header=False, quote_style="never").encode())

    def counts(self) -> Counts:
        """Return the sizes."""
        return Counts(len(self.user_tokens), len(self.item_tokens), len(self))

    def n_tied(self) -> int:
        """Return how many interactions have the time of the user's interaction before."""
        return int((self.day_gap == 0).sum()) - len(self.user_tokens)

    def n_short(self) -> int:
        """Return how many users have no training row after leave-one-out."""
        return int((np.bincount(self.user) < FEW_INTERACTIONS).sum())


def order_events(
    user: NDArray[np.uint32],
    item: NDArray[np.uint32],
    seconds: NDArray[np.float64],
    user_tokens: pl.Series,
    item_tokens: pl.Series,
    comparable: bool,
    timed: bool,
) -> EventTable:
    """Order rows by user and time; of equal times the order of the rows stays.

    Args:
        user: User codes in the order of the source, shape ``[n]``, ``n > 0``.
        item: Item codes, shape ``[n]``.
        seconds: Times, shape ``[n]``.
        user_tokens: Id of each user code, also of codes that do not occur.
        item_tokens: Id of each item code.
        comparable: Whether times of different users share a calendar.
        timed: Whether differences of times mean anything; else every day gap is 0.
    """
    user, user_names = _renumbered(user, user_tokens)
    item, item_names = _renumbered(item, item_tokens)
    order = np.lexsort((seconds, user))
    user, item, seconds = user[order], item[order], seconds[order]
    del order
    starts = np.flatnonzero(np.diff(user, prepend=np.int64(-1)))
    timestamp, meaning = exact_times(starts, seconds, comparable)
    gaps = day_gaps(starts, seconds) if timed else np.zeros(len(user), dtype=np.float32)
    return EventTable(user_names, item_names, user, item, timestamp, gaps, {"timestamps": meaning})


def _renumbered(codes: NDArray[np.uint32], tokens: pl.Series) -> tuple[NDArray[np.uint32], tuple[str, ...]]:
    """Number the codes that occur by their first appearance; return them and their escaped ids."""
    first = np.full(len(tokens), len(codes), dtype=np.int64)
    first[codes[::-1]] = np.arange(len(codes))[::-1]  # the last assignment, that of the first row, stays
    order = np.argsort(first, kind="stable")[: int((first < len(codes)).sum())]
    number = np.empty(len(tokens), dtype=np.uint32)
    number[order] = np.arange(len(order), dtype=np.uint32)
    return number[codes], tuple(safe_tokens(tokens.gather(order)))


def safe_tokens(tokens: pl.Series) -> list[str]:
    """Return ids as cells of RecBole's files; only the few that may need it are looked at one by one."""
    names: list[str] = tokens.to_list()
    for row in tokens.str.contains(SUSPECT).arg_true():
        names[row] = escaped(names[row])
    return names
