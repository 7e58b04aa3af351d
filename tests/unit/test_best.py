"""The best items of a row, and sorted ids, against a plain sort."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from recbole_hellm.nn.best import n_best, sorted_ids


@given(
    arrays("float32", (3, 40), elements=st.sampled_from([-2.0, 0.0, 0.5, 1.0, 7.0]) | st.floats(-3, 3, width=32)),
    st.integers(0, 60),
)
def test_the_best_are_those_a_sort_puts_first(values, n):
    scores = torch.from_numpy(values)
    found = n_best(scores[:, 1:], n)  # of a view too
    assert found.shape == (3, min(n, 39))
    for row, columns in zip(scores[:, 1:], found.long(), strict=True):
        assert len(set(columns.tolist())) == len(columns)  # each once
        assert row[columns].sort(descending=True).values.tolist() == row.sort(descending=True).values[:n].tolist()


@pytest.mark.parametrize("n_rows", [0, 4])
def test_nothing_is_best_of_no_rows_and_scores_stay(n_rows):
    scores = torch.randn(n_rows, 9)
    before = scores.clone()
    assert n_best(scores, 3).shape == (n_rows, 3)
    assert torch.equal(scores, before)


@given(arrays("int32", (4, 11), elements=st.integers(0, 9)))
def test_ids_rise_in_every_row(values):
    ids = torch.from_numpy(values)
    assert torch.equal(sorted_ids(ids), ids.sort(dim=1).values)
