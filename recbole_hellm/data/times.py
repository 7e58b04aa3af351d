"""Times of any source as seconds, and the integers RecBole sorts by."""

from logging import getLogger
from typing import Literal, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recbole_hellm.data.records import MAX_EXACT_TIME

logger = getLogger(__name__)

TimeUnit = Literal["auto", "s", "ms", "us", "ns", "row"]
TIME_UNITS: tuple[str, ...] = get_args(TimeUnit)
SECONDS_A_DAY = 86_400
_PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
# Seconds reach 1e11 in the year 5138; milliseconds passed it in 1973.
_LARGEST = (("s", 1e11), ("ms", 1e14), ("us", 1e17), ("ns", float("inf")))
_FORMATS = (
    "%Y-%m-%dT%H:%M:%S%.f%#z",
    "%Y-%m-%d %H:%M:%S%.f%#z",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%d",
)


def as_numbers(column: pl.Series) -> pl.Series:
    """Return times as float64; dates and date strings (ISO 8601) become seconds, UTC where no zone is given.

    A value that is no time becomes null, as a missing one.
    """
    if column.dtype.is_temporal() and column.dtype not in (pl.Time, pl.Duration):
        # Dates have no zone, and microseconds of the years 1..9999 are exact in float64 but for their last places.
        return column.cast(pl.Datetime("us")).dt.epoch("us").cast(pl.Float64) / 1e6
    if column.dtype.is_numeric() or column.dtype == pl.Null:
        return column.cast(pl.Float64).fill_nan(None)
    if column.dtype != pl.String:
        return pl.Series(column.name, [None] * len(column), dtype=pl.Float64)
    text = column.str.strip_chars()
    numbers = text.cast(pl.Float64, strict=False).fill_nan(None)
    rest = numbers.is_null() & text.is_not_null() & (text != "")
    if not rest.any():
        return numbers
    # A trailing Z is a zone that the formats below would not take.
    dates = text.set(~rest, None).str.replace(r"Z$", "+00:00")
    parsed = pl.select(pl.coalesce(_parsed(dates, form) for form in _FORMATS)).to_series()
    return pl.select(pl.coalesce(numbers, parsed)).to_series()


def _parsed(dates: pl.Series, form: str) -> pl.Series:
    moments = dates.str.to_datetime(form, time_unit="us", strict=False)
    return moments.dt.epoch("us").cast(pl.Float64) / 1e6


def unit_of(largest: float) -> str:
    """Return the unit in which ``largest`` is a time of our days: ``s``, ``ms``, ``us`` or ``ns``."""
    return next(unit for unit, limit in _LARGEST if largest < limit)


def in_seconds(times: NDArray[np.float64], unit: str) -> NDArray[np.float64]:
    """Return ``times`` of a unit other than ``auto`` and ``row`` in seconds."""
    return times if unit == "s" else times / _PER_SECOND[unit]


def exact_times(
    starts: NDArray[np.int64], seconds: NDArray[np.float64], comparable: bool
) -> tuple[NDArray[np.int32], str]:
    """Return integers below 2**24 that grow strictly within each user, and in words what they are.

    Args:
        starts: First row of each user in ``seconds``, shape ``[n_users]``; a user's rows stand together.
        seconds: Times in the order of each user, shape ``[n]``.
        comparable: Whether times of different users share a calendar.

    Returns:
        Shape ``[n]``: the place (from 1) of the interaction among all in the order of time where that fits, else the
        place among the user's own.
    """
    n = len(seconds)
    if comparable and n < MAX_EXACT_TIME:
        places = np.empty(n, dtype=np.int32)
        # Stable: rows of one user that tie keep their order.
        places[np.argsort(seconds, kind="stable")] = np.arange(1, n + 1, dtype=np.int32)
        return places, "place among all interactions in the order of time"
    lengths = np.diff(np.append(starts, n))
    places = (np.arange(1, n + 1) - np.repeat(starts, lengths)).astype(np.int32)
    return places, "place among the interactions of the user"


def day_gaps(starts: NDArray[np.int64], seconds: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the days since the user's interaction before, 0 for a user's first one, shape ``[n]``."""
    gaps = np.diff(seconds, prepend=seconds[:1])
    # The smallest gap there is must not become the 0 of a tie.
    days = np.where(gaps > 0, np.maximum(gaps / SECONDS_A_DAY, np.finfo(np.float32).tiny), 0).astype(np.float32)
    days[starts] = 0.0
    return days
