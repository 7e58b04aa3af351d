import datetime

import numpy as np
import polars as pl
import pytest

from recbole_hellm.data import times
from recbole_hellm.data.times import as_numbers, day_gaps, exact_times, in_seconds, unit_of

MARCH = 1393632000.0  # 2014-03-01


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1.5", 1.5),
        (" 2 ", 2.0),
        ("2014-03-01", MARCH),
        ("2014-03-01T00:00:10Z", MARCH + 10),
        ("2014-03-01 00:00:10.5", MARCH + 10.5),
        ("2014-03-01 00:10", MARCH + 600),
        ("2014-03-01T02:00:00+02:00", MARCH),
        ("soon", None),
        ("", None),
        (None, None),
        ("nan", None),
    ],
)
def test_texts(text, seconds):
    assert as_numbers(pl.Series([text], dtype=pl.String)).to_list() == [seconds]


def test_dates_and_other_types():
    day = datetime.date(2014, 3, 1)
    zone = datetime.timezone(datetime.timedelta(hours=2))
    assert as_numbers(pl.Series([day, None])).to_list() == [MARCH, None]
    assert as_numbers(pl.Series([datetime.datetime(2014, 3, 1, 2, tzinfo=zone)])).to_list() == [MARCH]
    assert as_numbers(pl.Series([1, None])).to_list() == [1.0, None]
    assert as_numbers(pl.Series([True])).to_list() == [None]
    assert as_numbers(pl.Series([[1]])).to_list() == [None]


@pytest.mark.parametrize(("unit", "factor"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
def test_units_by_size(unit, factor):
    assert unit_of(MARCH * factor) == unit
    assert in_seconds(np.array([MARCH * factor]), unit).tolist() == [MARCH]


def test_places_grow_within_a_user_and_compare_between_users():
    seconds = np.array([5.0, 5.0, 9.0, 1.0, 5.0])
    places, meaning = exact_times(np.array([0, 3]), seconds, comparable=True)
    assert places.tolist() == [2, 3, 5, 1, 4]
    assert meaning.startswith("place among all")
    assert day_gaps(np.array([0, 3]), seconds * 86_400).tolist() == [0, 0, 4, 0, 4]


@pytest.mark.parametrize("comparable", [True, False])
def test_places_within_the_user_where_all_would_not_be_exact(monkeypatch, comparable):
    monkeypatch.setattr(times, "MAX_EXACT_TIME", 4 if comparable else 2**24)
    places, meaning = exact_times(np.array([0, 3]), np.array([5.0, 5.0, 9.0, 1.0, 5.0]), comparable)
    assert (places.tolist(), meaning) == ([1, 2, 3, 1, 2], "place among the interactions of the user")
