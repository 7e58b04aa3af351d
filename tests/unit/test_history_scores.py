"""What histories say of items, by hand and against dense products."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

from recbole_hellm.nn.history_scores import (
    add_neighbours,
    add_repeats,
    add_sparse,
    profiles,
    recency_weights,
    unit_rows,
)

HISTORIES = torch.tensor([[1, 2, 0], [3, 0, 0], [2, 2, 1], [0, 0, 0]])


def test_newer_items_weigh_more_and_all_weigh_one():
    want = torch.tensor([[1 / 3, 2 / 3, 0], [1, 0, 0], [1 / 7, 2 / 7, 4 / 7], [0, 0, 0]])
    torch.testing.assert_close(recency_weights(HISTORIES, 0.5), want)
    left = torch.tensor([[0, 1, 2], [0, 0, 3]])
    torch.testing.assert_close(recency_weights(left, 0.5), torch.tensor([[0, 1 / 3, 2 / 3], [0, 0, 1]]))


def test_unit_rows_keep_what_is_missing():
    rows = unit_rows(torch.tensor([[5.0, 5.0], [3.0, 4.0], [0.0, 0.0]]))
    torch.testing.assert_close(rows, torch.tensor([[0.0, 0.0], [0.6, 0.8], [0.0, 0.0]]))


def test_a_profile_is_the_weighted_mean_of_the_history():
    vectors = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    want = torch.tensor([[1 / 3, 2 / 3], [0, 0], [4 / 7, 3 / 7], [0, 0]])
    torch.testing.assert_close(profiles(HISTORIES, vectors, 0.5), want)


def test_neighbours_are_mean_cosines_added_in_place():
    vectors = unit_rows(torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 3.0], [1.0, 1.0]]))
    scores = torch.ones(4, 4)
    returned = add_neighbours(scores, HISTORIES, vectors, 0.5, 2.0)
    assert returned is scores
    root = 0.5**0.5
    want = torch.tensor([
        [0, 1 / 3, 2 / 3, root],
        [0, root, root, 1],
        [0, 4 / 7, 3 / 7, root],
        [0, 0, 0, 0],
    ])  # fmt: skip
    torch.testing.assert_close(scores, 1 + 2 * want)


def test_an_item_without_the_feature_gets_and_gives_nothing():
    vectors = unit_rows(torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 0.0], [1.0, 1.0]]))
    scores = add_neighbours(torch.zeros(4, 4), HISTORIES, vectors, 0.5, 1.0)
    assert (scores[:, 2] == 0).all()
    assert scores[0, 1] == pytest.approx(1 / 3)  # item 2 takes its share of the weight and says nothing


@pytest.mark.parametrize("density", [0.0, 0.3])
def test_sparse_rows_are_added_as_if_dense(density):
    drawn = np.random.default_rng(0)
    dense = (drawn.random((5, 7)) * (drawn.random((5, 7)) < density)).astype(np.float32)
    start = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    scores = add_sparse(start.clone(), csr_matrix(dense), 3.0)
    torch.testing.assert_close(scores, start + 3 * torch.from_numpy(dense))


def test_an_item_that_stands_twice_is_penalised_once():
    scores = add_repeats(torch.ones(4, 4), HISTORIES, -5.0)
    want = torch.tensor([[-4, -4, 1], [1, 1, -4], [-4, -4, 1], [1, 1, 1]])
    assert torch.equal(scores[:, 1:], want.float())
