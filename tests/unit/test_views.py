"""The training view holds every training event once and nothing else; rows cut from it cover every target once."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recbole.data import create_dataset, data_preparation

from recbole_hellm.config.recbole_config import HellmConfig
from recbole_hellm.pipeline.graph import negative_sampler
from recbole_hellm.trainer.staged import covering_rows
from recbole_hellm.views import TrainView, train_view

LENGTHS = {"one": 1, "two": 2, "three": 3, "four": 4, "long": 15}
HELD_OUT = {"general": {"one": 0, "two": 1, "three": 2}, "sequential": {"one": 0, "two": 0, "three": 1}}
"""RecBole leaves out the last two, but never a user's only row; a sequential row is a pair (history, next item)."""


@pytest.fixture
def histories(tmp_path):
    """A data set of users with few and many interactions; the file is in no order."""
    rng = np.random.default_rng(0)
    histories = {user: [f"i{item}" for item in rng.permutation(20)[:n]] for user, n in LENGTHS.items()}
    rows = [f"{user}\t{item}\t{time}" for user, items in histories.items() for time, item in enumerate(items)]
    folder = tmp_path / "data" / "uneven"
    folder.mkdir(parents=True)
    shuffled = [rows[index] for index in rng.permutation(len(rows))]
    text = "\n".join(["user_id:token\titem_id:token\ttimestamp:float", *shuffled])
    (folder / "uneven.inter").write_text(text + "\n")
    return histories


def splits(tmp_path, model, **changes):
    given = {
        "data_path": str(tmp_path / "data"),
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "MAX_ITEM_LIST_LENGTH": 4,
        "state": "ERROR",
        **changes,
    }
    config = HellmConfig(model, "uneven", config_dict=given)
    return data_preparation(config, create_dataset(config))


@pytest.mark.parametrize(("model", "kind"), [("HeLLM", "sequential"), ("TransitionCounts", "sequential"),
                                              ("MMHCL", "general")])  # fmt: skip
def test_train_view_is_the_exact_edge_set(histories, tmp_path, monkeypatch, model, kind):
    monkeypatch.chdir(tmp_path)
    view = train_view(splits(tmp_path, model)[0]._dataset)
    wanted = []
    for user, items in histories.items():
        kept = len(items) - HELD_OUT[kind].get(user, 2)
        wanted += [(user, item) for item in items[:kept]]
    found = [(view.user_tokens[user], view.item_tokens[item]) for user, item in zip(view.user, view.item, strict=True)]
    assert len(found) == len(set(found)) == len(wanted)
    assert set(found) == set(wanted)
    if kind == "sequential":  # in time order within a user, users ascending
        assert [pair for name in view.user_tokens for pair in wanted if pair[0] == name] == found
    assert view.lengths().tolist()[0] == 0
    assert view.n_users == len(LENGTHS) + 1


def test_first_item_of_every_user_is_there(histories, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    view = train_view(splits(tmp_path, "HeLLM")[0]._dataset)
    starts = torch.cumsum(view.lengths(), 0) - view.lengths()
    for user in range(1, view.n_users):
        assert view.item_tokens[view.item[starts[user]]] == histories[view.user_tokens[user]][0]


def test_ids_do_not_depend_on_the_order_of_the_file(histories, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one = train_view(splits(tmp_path, "HeLLM")[0]._dataset)
    file = tmp_path / "data" / "uneven" / "uneven.inter"
    head, *rows = file.read_text().splitlines()
    file.write_text("\n".join([head, *reversed(rows)]) + "\n")
    two = train_view(splits(tmp_path, "HeLLM")[0]._dataset)
    assert one.item_tokens == two.item_tokens
    assert torch.equal(one.item, two.item)


def view_of(sequences):
    users = torch.tensor([user for user, items in enumerate(sequences, 1) for _ in items], dtype=torch.long)
    items = torch.tensor([item for items in sequences for item in items], dtype=torch.long)
    tokens = tuple(f"u{index}" for index in range(len(sequences) + 1))
    return TrainView(users, items, tokens, tuple(f"i{index}" for index in range(51)))


sequences = st.lists(st.lists(st.integers(1, 50), max_size=14), min_size=1, max_size=6)


@settings(max_examples=80, deadline=None)
@given(sequences, st.integers(1, 6))
def test_windows_make_every_later_item_a_target_once(histories_, max_len):
    rows, lengths = view_of(histories_).windows(max_len)
    assert rows.shape == (len(lengths), max_len + 1)
    triples = []  # (history so far in the row, target)
    for row, length in zip(rows.tolist(), lengths.tolist(), strict=True):
        assert 2 <= length <= max_len + 1
        assert not any(row[length:])
        triples += [(tuple(row[index - 1 : index]), row[index]) for index in range(1, length)]
    wanted = [((items[i - 1],), items[i]) for items in histories_ for i in range(1, len(items))]
    assert sorted(triples) == sorted(wanted)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(1, 6), st.randoms())
def test_covering_rows_make_every_target_one_once(n_rows, max_len, random):
    """Rows as RecBole augments them: row k of a user has target k and the (at most max_len) items before it."""
    rows = [(user, target) for user, n in enumerate(n_rows, 1) for target in range(1, n + 1)]
    users = torch.tensor([user for user, _ in rows])
    lengths = torch.tensor([min(target, max_len) for _, target in rows])
    chosen = covering_rows(users, lengths).tolist()
    assert chosen == sorted(chosen)
    covered = [(rows[row][0], target) for row in chosen for target in range(rows[row][1] - lengths[row] + 1,
                                                                            rows[row][1] + 1)]  # fmt: skip
    assert sorted(covered) == rows


def test_covering_rows_keep_users_apart_when_rows_are_mixed():
    users, lengths = torch.tensor([2, 1, 2, 1, 2]), torch.tensor([1, 1, 2, 2, 2])
    # user 2 has targets 1..3 in rows 0, 2, 4; user 1 targets 1, 2 in rows 1, 3
    assert covering_rows(users, lengths).tolist() == [0, 3, 4]


def test_negatives_are_never_training_positives():
    view = view_of([[1, 2, 3, 4, 5, 6], list(range(1, 50)), [50]])
    sampler = negative_sampler(view)
    users = torch.tensor([1, 2, 3]).repeat(400)
    negative = sampler.sample_by_user_ids(users.numpy(), torch.ones(1200).long().numpy(), 1)
    seen = {(user, item) for user, item in zip(view.user.tolist(), view.item.tolist(), strict=True)}
    pairs = set(zip(users.tolist(), negative.tolist(), strict=True))
    assert not pairs & seen
    assert all(1 <= item <= 50 for _, item in pairs)
    assert (2, 50) in pairs  # the only item user 2 lacks
    assert len(pairs) > 80


def test_histories_of_one_item_hold_every_event_once(histories, tmp_path, monkeypatch):
    """With MAX_ITEM_LIST_LENGTH=1 every row has the length of a user's first."""
    monkeypatch.chdir(tmp_path)
    of = splits(tmp_path, "HeLLM", MAX_ITEM_LIST_LENGTH=1)
    view = train_view(of[0]._dataset)
    for user, items in histories.items():
        own = view.item[view.user == view.user_tokens.index(user)]
        kept = items[: len(items) - min(2, HELD_OUT["sequential"].get(user, 2))]
        assert [view.item_tokens[item] for item in own] == kept, user
