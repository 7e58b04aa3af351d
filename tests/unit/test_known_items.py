"""What a user is known to have taken, as places in a score matrix."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from recbole_hellm.testing.building import build
from recbole_hellm.trainer.known_items import KnownItems, known_items


def test_cells_are_the_events_of_the_rows_users():
    known = KnownItems(torch.tensor([3, 1, 3, 2]), torch.tensor([7, 5, 9, 6]), n_users=5)
    rows, items = known.cells(torch.tensor([3, 4, 1, 3]))
    assert list(zip(rows.tolist(), items.tolist(), strict=True)) == [(0, 7), (0, 9), (2, 5), (3, 7), (3, 9)]


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 9)), max_size=30), st.lists(st.integers(1, 6), max_size=8))
def test_cells_are_those_of_a_plain_loop(events, users):
    pairs = torch.tensor(events, dtype=torch.long).reshape(-1, 2)
    known = KnownItems(pairs[:, 0], pairs[:, 1], n_users=7)
    rows, items = known.cells(torch.tensor(users, dtype=torch.long))
    expected = [(row, item) for row, user in enumerate(users) for u, item in events if u == user]
    assert sorted(zip(rows.tolist(), items.tolist(), strict=True)) == sorted(expected)


def test_the_validation_item_is_known_at_the_test_only(toy):
    built = build("TransitionCounts", toy())
    counts = [known_items(built.train).counts, known_items(built.train, built.valid).counts]
    assert set(counts[0][1:].tolist()) == {6}
    assert set(counts[1][1:].tolist()) == {7}
