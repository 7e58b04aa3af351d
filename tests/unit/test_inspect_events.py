from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_hellm.data.inspect.events import event_facts, spread
from recbole_hellm.data.interactions import read_events
from recbole_hellm.testing import CHECKERBOARD

HEAD = "user_id:token\titem_id:token\ttimestamp:float"


def facts_of(path, rows, head=HEAD):
    path.write_text("\n".join([head, *("\t".join(map(str, row)) for row in rows)]) + "\n")
    return event_facts(read_events(path))


def test_known_answer(tmp_path):
    rows = [
        ("a", "x", 1), ("a", "y", 1), ("a", "x", 2), ("a", "x", 2),  # ties at steps 1 and 3, x three times
        ("b", "x", 1), ("b", "z", 16777216), ("b", "y", 16777217),  # another time, but one float32
        ("c", "x", 1), ("c", "w", -5),
        ("d", "x", 7),
    ]  # fmt: skip
    facts = facts_of(tmp_path / "a.inter", rows)
    assert (facts.n_users, facts.n_items, facts.n_events) == (4, 4, 10)
    assert facts.density == 8 / 16
    assert (facts.n_repeating_users, facts.n_repeats, facts.n_doubles) == (1, 2, 1)
    assert facts.n_rare_items == 3
    assert facts.popularity.quantiles[0] == 1
    assert facts.popularity.quantiles[-1] == 6
    assert facts.lengths.mean == 2.5
    time = facts.time
    assert (time.n_steps, time.n_tied, time.n_tied_tests, time.n_tied_in_float32) == (6, 2, 1, 1)
    assert (time.first, time.last, time.by_gap) == (-5, 16777217, False)
    split = facts.split
    assert (split.n_train, split.n_valid, split.n_test, split.n_short) == (7, 1, 2, 2)
    assert (split.n_unseen, split.n_repeated) == (0, 1)  # test targets: x of a, y of b; y of a is left in training


def test_day_gaps_say_what_ties(tmp_path):
    rows = [("a", "x", 1, 0), ("a", "y", 2, 0), ("a", "z", 3, 4), ("b", "x", 1, 0), ("b", "y", 2, 1), ("b", "z", 3, 0)]
    time = facts_of(tmp_path / "a.inter", rows, HEAD + "\tday_gap:float").time
    assert (time.n_steps, time.n_tied, time.n_tied_tests, time.by_gap) == (4, 2, 1, True)


def test_without_times(tmp_path):
    facts = facts_of(tmp_path / "a.inter", [("a", "x")], "user_id:token\titem_id:token")
    assert facts.time is None
    assert facts.split.n_short == 1
    assert facts.density == 1


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 3)), min_size=1, max_size=60))
def test_numbers_equal_a_slow_count(tmp_path_factory, rows):
    facts = facts_of(tmp_path_factory.mktemp("e") / "a.inter", rows)
    users = {}
    for user, item, time in sorted(rows, key=lambda row: (str(row[0]), row[2])):
        users.setdefault(user, []).append((item, time))
    assert facts.n_repeats == sum(len(events) - len({item for item, _ in events}) for events in users.values())
    steps = [(one, two) for events in users.values() for one, two in zip(events, events[1:], strict=False)]
    assert facts.time.n_steps == len(steps)
    assert facts.time.n_tied == sum(one[1] == two[1] for one, two in steps)
    assert facts.n_doubles == sum(one == two for one, two in steps)
    tested = [events for events in users.values() if len(events) >= 3]
    training = [
        e[0] for events in users.values() for e in events[: len(events) - (len(events) > 2) - (len(events) > 3)]
    ]
    assert facts.split.n_train == len(training)
    assert facts.split.n_unseen == sum(events[-1][0] not in training for events in tested)
    assert facts.split.n_repeated == sum(events[-1][0] in [e[0] for e in events[:-1]] for events in tested)
    assert facts.time.n_tied_tests == sum(events[-1][1] == events[-2][1] for events in tested)
    counts = sorted(Counter(item for _, item, _ in rows).values(), reverse=True)
    pairs = [abs(a - b) for a in counts for b in counts]
    assert facts.gini == pytest.approx(sum(pairs) / (2 * len(counts) * sum(counts)), abs=1e-9)
    assert facts.lorenz[0] == (0, 0)
    assert facts.lorenz[-1] == (1, 1)
    assert facts.head[0.2] == pytest.approx(
        np.interp(0.2 * len(counts), range(len(counts) + 1), [0, *np.cumsum(counts)]) / sum(counts)
    )


@settings(deadline=None)
@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=80), st.integers(2, 20))
def test_every_value_is_in_one_bar(values, n_bins):
    found = spread(np.array(values), n_bins)
    assert sum(n for _, n in found.histogram) == len(values)
    assert 1 <= len(found.histogram) <= n_bins
    for label, n in found.histogram:
        low, _, high = label.partition("-")
        assert n == sum(int(low) <= value <= int(high or low) for value in values)
    assert found.quantiles[0] == min(values)
    assert found.quantiles[-1] == max(values)


@pytest.mark.parametrize("model", ["SASRec", "HeLLM"])
def test_the_split_is_the_one_that_models_get(toy, tmp_path, model):
    """Users of 1 to 8 events."""
    from recbole.data import create_dataset, data_preparation

    from recbole_hellm.config.recbole_config import HellmConfig

    settings = toy()
    file = tmp_path / "data" / CHECKERBOARD / f"{CHECKERBOARD}.inter"
    head, *rows = file.read_text().splitlines()
    rows = [row for row in rows if int(row.split("\t")[2]) <= int(row.split("\t")[0][1:]) % 8]
    file.write_text("\n".join([head, *rows]) + "\n")
    split = event_facts(read_events(file)).split
    config = HellmConfig(model, CHECKERBOARD, config_dict=settings)
    train, valid, test = (loader._dataset for loader in data_preparation(config, create_dataset(config)))
    assert split.n_valid == len(valid.inter_feat) == 25
    assert split.n_test == len(test.inter_feat) == 30
    assert split.n_train == len(train.inter_feat) + 40  # RecBole has no row for the first event of a user
    assert split.n_short == 10
