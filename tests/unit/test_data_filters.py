import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_hellm.data.filters import Filters, first_of_pairs, k_core, kept_pairs, long_enough
from recbole_hellm.errors import ConfigError

ROWS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 3)), min_size=1, max_size=40)


def columns(rows):
    user, item, time = (np.array(column) for column in zip(*rows, strict=True))
    return user.astype(np.uint32), item.astype(np.uint32), time.astype(np.float64)


def slow_core(rows, min_user, min_item):
    """Drop one user or item at a time until none has too few rows."""
    kept = set(range(len(rows)))
    while True:
        for place, least in ((0, min_user), (1, min_item)):
            for value in {rows[r][place] for r in kept}:
                of_value = {r for r in kept if rows[r][place] == value}
                if len(of_value) < least:
                    kept -= of_value
                    break
            else:
                continue
            break
        else:
            return kept


@given(ROWS, st.integers(0, 4), st.integers(0, 4))
def test_k_core_is_the_slow_definition(rows, min_user, min_item):
    user, item, _ = columns(rows)
    assert set(np.flatnonzero(k_core(user, item, min_user, min_item))) == slow_core(rows, min_user, min_item)


@given(ROWS, st.sampled_from(["first", "last"]))
def test_one_interaction_a_pair_stays(rows, which):
    user, item, time = columns(rows)
    kept = np.flatnonzero(kept_pairs(user, item, time, which))
    best = {}
    for row, (u, i, t) in enumerate(rows):
        key = (t, row)
        best.setdefault((u, i), []).append(key)
    choose = min if which == "first" else max
    assert sorted(choose(keys)[1] for keys in best.values()) == kept.tolist()


def test_all_duplicates_stay():
    user = np.zeros(3, dtype=np.uint32)
    assert kept_pairs(user, user, np.zeros(3), "all").tolist() == [True] * 3
    assert first_of_pairs(user, user).tolist() == [True, False, False]


def test_long_enough():
    user = np.array([0, 0, 1], dtype=np.uint32)
    assert long_enough(user, 2).tolist() == [True, True, False]
    assert long_enough(user, 0).all()


def test_a_core_that_takes_several_rounds():
    """A chain: each round takes one end off, until nothing is left."""
    user = np.array([0, 0, 1, 1, 2, 2], dtype=np.uint32)
    item = np.array([0, 1, 1, 2, 2, 3], dtype=np.uint32)
    assert not k_core(user, item, 2, 2).any()
    assert k_core(user, item, 2, 1).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"duplicates": "fist"},
            r"'duplicates' must be one of first, last, all, got 'fist' \(did you mean 'first'\?\)",
        ),
        ({"min_user": -1}, "'min_user' must be an integer >= 0, got -1"),
        ({"min_length": 1.5}, "'min_length' must be an integer >= 0, got 1.5"),
        ({"min_rating": float("nan")}, "'min_rating' must be a number"),
    ],
)
def test_wrong_values(settings, message):
    with pytest.raises(ConfigError, match=message):
        Filters(**settings)
