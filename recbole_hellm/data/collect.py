"""Reads the interactions of a source batch by batch: checks, units, filters."""

from collections.abc import Callable, Iterable
from logging import getLogger
from typing import Literal, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from tqdm import tqdm

from recbole_hellm.data.event_table import Batch, EventTable, order_events
from recbole_hellm.data.filters import Filters, k_core, kept_pairs, long_enough
from recbole_hellm.data.times import as_numbers, in_seconds, unit_of
from recbole_hellm.data.tokens import MAX_TOKEN_LENGTH
from recbole_hellm.errors import DataError

logger = getLogger(__name__)

BadTimes = Literal["error", "drop"]
MAX_EVENTS = 2**31 - 1


def collect_events(
    batches: Iterable[Batch], filters: Filters, time_unit: str, bad_times: BadTimes, comparable: bool = True
) -> EventTable:
    """Read all batches, check every id and time, filter, and put the rows into order.

    Memory grows with the number of interactions (about 100 bytes each) and of ids, not with the size of the files.

    Args:
        batches: The source.
        filters: What is kept.
        time_unit: Unit of the times; ``auto`` takes it from their size, ``row`` takes the order of the rows instead.
        bad_times: ``error`` or ``drop`` for interactions without a time from 1970 on.
        comparable: Whether times of different users share a calendar.

    Raises:
        DataError: Naming file and record, if an id, time or rating is missing or wrong, or nothing is left.
    """
    collector = _Collector(filters.min_rating, time_unit, bad_times)
    with tqdm(desc="interactions", unit=" rows", disable=None) as progress:
        for batch in batches:
            collector.add(batch)
            progress.update(len(batch.frame))
    return collector.finish(filters, comparable)


class _Tokens:
    """Codes for the ids of many batches."""

    def __init__(self) -> None:
        self._categories = pl.Categories.random()
        # polars forgets categories that no column holds any more.
        self._held = pl.Series([], dtype=pl.Categorical(self._categories))

    def codes(self, column: pl.Series) -> NDArray[np.uint32]:
        """Return one code for each id."""
        self._held = column.cast(pl.Categorical(self._categories))
        codes: NDArray[np.uint32] = self._held.to_physical().to_numpy().astype(np.uint32)
        return codes

    def tokens(self) -> pl.Series:
        """Return the id of every code."""
        return self._held.cat.get_categories()


class _Collector:
    """Gathers batches as codes and numbers."""

    def __init__(self, min_rating: float | None, time_unit: str, bad_times: BadTimes) -> None:
        self.min_rating, self.time_unit, self.bad_times = min_rating, time_unit, bad_times
        self.users, self.items = _Tokens(), _Tokens()
        self.parts: list[tuple[NDArray[np.uint32], NDArray[np.uint32], NDArray[np.float64]]] = []
        self.n_read = self.n_bad_times = self.n_low_rating = 0
        self.largest: tuple[float, str] = (0.0, "")
        self.smallest: tuple[float, str] = (np.inf, "")

    def add(self, batch: Batch) -> None:
        """Check and keep the rows of ``batch``."""
        frame = batch.frame
        if not len(frame):
            return
        for column, option in (("user", "user"), ("item", "item")):
            _check_ids(frame[column], option, batch.place)
        times = self._times(batch)
        kept = times.is_not_null() & (times >= 0)
        self.n_bad_times += len(frame) - int(kept.sum())
        if self.min_rating is not None:
            high = _ratings(batch) >= self.min_rating
            self.n_low_rating += int((kept & ~high).sum())
            kept = kept & high
        self.n_read += len(frame)
        if self.n_read > MAX_EVENTS:
            raise DataError(f"{batch.place(0)}: more than {MAX_EVENTS} interactions, the limit: split the source")
        frame, times = frame.filter(kept), times.filter(kept)
        self.parts.append((self.users.codes(frame["user"]), self.items.codes(frame["item"]), times.to_numpy()))

    def _times(self, batch: Batch) -> pl.Series:
        """Return the times of a batch in the unit of the source; null where missing and that is allowed."""
        if self.time_unit == "row":
            start = self.n_read
            return pl.Series(np.arange(start, start + len(batch.frame), dtype=np.float64))
        if "time" not in batch.frame.columns:
            raise DataError(
                f"{batch.place(0)}: no time: map its column (--columns time=NAME), or take the order of the rows "
                "(--time-unit row)"
            )
        times = as_numbers(batch.frame["time"])
        bad = times.is_null() | (times < 0) | times.is_infinite()
        if bad.any():
            if self.bad_times == "error":
                row = int(bad.arg_max() or 0)
                raise DataError(
                    f"{batch.place(row)}: time is {batch.frame['time'][row]!r}: seconds or milliseconds since 1970 or "
                    "a date from then on is needed; --bad-times drop leaves such rows out"
                )
            times = times.set(bad, None)
        self._note_extremes(times, batch.place)
        return times

    def _note_extremes(self, times: pl.Series, place: Callable[[int], str]) -> None:
        positive = times.set(times <= 0, None)
        largest, smallest = positive.arg_max(), positive.arg_min()
        if largest is not None and positive[largest] is not None and positive[largest] > self.largest[0]:
            self.largest = (positive[largest], place(largest))
        if smallest is not None and positive[smallest] is not None and positive[smallest] < self.smallest[0]:
            self.smallest = (positive[smallest], place(smallest))

    def _unit(self) -> str:
        """Return the unit of the times.

        Raises:
            DataError: If some are of another size than others: a column of seconds and milliseconds.
        """
        if self.time_unit == "row":
            return "s"
        unit = self.time_unit if self.time_unit != "auto" else unit_of(self.largest[0])
        if self.time_unit == "auto" and unit != "s":
            if unit_of(self.smallest[0]) != unit and self.smallest[0] > 1e8:  # 1e8 ms: the second day of 1970
                raise DataError(
                    f"{self.smallest[1]}: time {self.smallest[0]:.0f} and {self.largest[1]}: time "
                    f"{self.largest[0]:.0f} cannot have one unit: correct the source or give --time-unit"
                )
            logger.info("times up to %.0f are taken as %s; --time-unit says otherwise", self.largest[0], unit)
        return unit

    def finish(self, filters: Filters, comparable: bool) -> EventTable:
        """Filter and order all that was added."""
        if self.n_read == 0:
            raise DataError("the source has no interaction: give --source the file or folder that has them")
        unit, timed = self._unit(), self.time_unit != "row"
        rows = _Rows(*(np.concatenate(part) for part in zip(*self.parts, strict=True)))
        self.parts.clear()
        counts = {"read": self.n_read, "bad_time": self.n_bad_times, "low_rating": self.n_low_rating}
        # One column of ten million rows is a lot: none is held longer than it is needed.
        rows = rows.kept(kept_pairs(*rows, filters.duplicates), counts, "duplicates")
        rows = rows.kept(k_core(rows.user, rows.item, filters.min_user, filters.min_item), counts, "k_core")
        rows = rows.kept(long_enough(rows.user, filters.min_length), counts, "short_users")
        if not len(rows.user):
            raise DataError(
                f"no interaction is left of {self.n_read} (dropped: {_words(counts)}): loosen the filters, "
                "for example --min-user 0 --min-item 0"
            )
        user, item, seconds = rows.user, rows.item, in_seconds(rows.time, unit)
        del rows
        events = order_events(user, item, seconds, self.users.tokens(), self.items.tokens(), comparable, timed)
        events.report.update(rows=counts, time_unit=unit if timed else "row")
        logger.info("interactions: %d read, %d kept; dropped: %s", self.n_read, len(events), _words(counts))
        return events


class _Rows(NamedTuple):
    """Columns of the interactions, in the order of the source."""

    user: NDArray[np.uint32]
    item: NDArray[np.uint32]
    time: NDArray[np.float64]

    def kept(self, mask: NDArray[np.bool_], counts: dict[str, int], name: str) -> "_Rows":
        """Return the rows of ``mask`` and count the others."""
        counts[name] = len(mask) - int(mask.sum())
        return _Rows(self.user[mask], self.item[mask], self.time[mask]) if counts[name] else self


def _check_ids(column: pl.Series, name: str, place: Callable[[int], str]) -> None:
    """Refuse a missing, empty or absurdly long id."""
    missing = column.is_null() | (column == "")
    if missing.any():
        raise DataError(f"{place(int(missing.arg_max() or 0))}: the {name} id is missing: complete or delete the row")
    too_long = column.str.len_bytes() > MAX_TOKEN_LENGTH
    if too_long.any():
        row = int(too_long.arg_max() or 0)
        raise DataError(
            f"{place(row)}: the {name} id {column[row][:40]!r}... is longer than {MAX_TOKEN_LENGTH} bytes: is it the "
            "right column?"
        )


def _ratings(batch: Batch) -> pl.Series:
    """Return the ratings as numbers.

    Raises:
        DataError: If there are none, or one is no number.
    """
    if "rating" not in batch.frame.columns:
        raise DataError(
            f"{batch.place(0)}: no rating, but --min-rating is given: map its column (--columns rating=NAME)"
        )
    given = batch.frame["rating"]
    text = given.str.strip_chars() if given.dtype == pl.String else given
    ratings = text.cast(pl.Float64, strict=False).fill_nan(None)
    if ratings.null_count():
        row = int(ratings.is_null().arg_max() or 0)
        raise DataError(f"{batch.place(row)}: rating is {given[row]!r}, a number is needed where --min-rating is given")
    return ratings


def _words(counts: dict[str, int]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {n}" for name, n in counts.items() if name != "read")
