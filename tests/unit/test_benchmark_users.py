"""What is known of each test user, from hand-made events."""

import numpy as np
import pytest

from recbole_hellm.benchmark.users import user_columns
from recbole_hellm.testing import CHECKERBOARD
from recbole_hellm.testing.building import build

EVENTS = {  # user -> (item, day gap to the event before)
    "a": [("x", 0), ("y", 1), ("z", 0), ("w", 2)],
    "b": [("y", 0), ("x", 3), ("w", 0), ("z", 0)],
    "c": [("w", 0), ("z", 5), ("x", 1), ("y", 1), ("v", 0)],
    "d": [("x", 0), ("w", 0), ("y", 0)],
}


@pytest.fixture
def built(toy, tmp_path):
    def make(time_of, columns="user_id:token\titem_id:token\ttimestamp:float\tday_gap:float", **changes):
        settings = toy(topk=[2], valid_metric="NDCG@2", item_features=[], **changes)
        rows = [columns]
        for user, events in EVENTS.items():
            day = 0
            for place, (item, gap) in enumerate(events):
                day += gap
                rows.append("\t".join(map(str, (user, item, time_of(day, place), gap)[: columns.count("\t") + 1])))
        folder = tmp_path / "data" / CHECKERBOARD
        (folder / f"{CHECKERBOARD}.inter").write_text("\n".join(rows) + "\n")
        (folder / f"{CHECKERBOARD}.item").unlink()
        return build("TransitionCounts", settings), folder / f"{CHECKERBOARD}.inter"

    return make


def columns_of(made):
    built, path = made
    built.trainer.evaluate(built.test, load_best_model=False)
    return user_columns(built.trainer.ranks, (built.train, built.valid, built.test), path, built.config)


def test_history_popularity_and_ties_by_hand(built):
    found = columns_of(built(lambda day, place: day + place))
    assert found["user"].tolist() == ["a", "b", "c", "d"]
    assert found["history"].tolist() == [3, 3, 4, 2]
    # training events: a: x y, b: y x, c: w z x, d: x w (RecBole validates no user with three events); targets w z v y
    assert found["popularity"].tolist() == [2, 1, 0, 2]
    assert found["tied"].tolist() == [0, 1, 1, 1]
    assert found["rank"].dtype == np.int32
    assert found["rank"].min() >= 1


def test_without_day_gaps_equal_times_are_ties(built):
    found = columns_of(built(lambda day, place: day, columns="user_id:token\titem_id:token\ttimestamp:float"))
    assert found["tied"].tolist() == [0, 1, 1, 1]


def test_a_first_event_at_gap_zero_is_no_tie(built):
    made, path = built(lambda day, place: day + place)
    ranks = {"user": np.array(["a", "d"]), "item": np.array(["x", "x"]), "rank": np.array([1, 1])}
    found = user_columns(ranks, (made.train, made.valid, made.test), path, made.config)
    assert found["tied"].tolist() == [0, 0]


def test_an_unknown_event_and_a_file_without_time_are_unknown(built):
    made, path = built(lambda day, place: day + place)
    ranks = {"user": np.array(["a"]), "item": np.array(["v"]), "rank": np.array([1])}
    loaders = (made.train, made.valid, made.test)
    assert user_columns(ranks, loaders, path, made.config)["tied"].tolist() == [-1]
    path.write_text("user_id:token\titem_id:token\na\tv\n")
    assert user_columns(ranks, loaders, path, made.config)["tied"].tolist() == [-1]


def test_the_columns_hold_no_item_tokens(built):
    assert set(columns_of(built(lambda day, place: day + place))) == {"user", "rank", "history", "popularity", "tied"}
