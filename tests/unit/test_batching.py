import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_hellm.nn.batching import length_batches, spread_evenly


def batches(lengths, size, seed=0):
    return length_batches(torch.as_tensor(lengths), size, torch.Generator().manual_seed(seed))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 50), max_size=300), st.integers(1, 40), st.integers(0, 3))
def test_every_row_comes_once_and_no_batch_is_too_large(lengths, size, seed):
    found = batches(torch.tensor(lengths, dtype=torch.long), size, seed)
    assert sorted(torch.cat(found).tolist() if found else []) == list(range(len(lengths)))
    assert all(1 <= len(batch) <= size for batch in found)
    assert len(found) == -(-len(lengths) // size) or len(lengths) > 50 * size


def padding(lengths, found):
    return sum(int(lengths[batch].max()) * len(batch) for batch in found) / int(lengths.sum())


def test_little_is_padding():
    lengths = torch.randint(1, 51, (2000,), generator=torch.Generator().manual_seed(0))
    sorted_in = batches(lengths, 32)
    plain = torch.randperm(2000, generator=torch.Generator().manual_seed(0)).split(32)
    assert padding(lengths, sorted_in) < 1.1
    assert padding(lengths, plain) > 1.8


def test_the_order_of_lengths_is_no_curriculum():
    lengths = torch.arange(1, 1001)
    means = torch.tensor([lengths[batch].float().mean() for batch in batches(lengths, 20)])
    rank = torch.arange(len(means), dtype=torch.float)
    assert abs(torch.corrcoef(torch.stack([rank, means]))[0, 1]) < 0.4


def test_equal_seeds_agree_and_others_do_not():
    lengths = torch.randint(1, 9, (100,), generator=torch.Generator().manual_seed(0))
    one, two, other = (torch.cat(batches(lengths, 8, seed)) for seed in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_a_generator_that_goes_on_gives_a_new_order_every_epoch():
    lengths, generator = torch.full((64,), 5), torch.Generator().manual_seed(0)
    first, second = ({frozenset(b.tolist()) for b in length_batches(lengths, 8, generator)} for _ in range(2))
    assert len(first & second) == 0


def test_the_global_random_state_plays_no_part():
    torch.manual_seed(1)
    one = torch.cat(batches([3, 1, 2] * 30, 4))
    before = torch.get_rng_state()
    two = torch.cat(batches([3, 1, 2] * 30, 4))
    assert torch.equal(one, two)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("n_rows", [1, 5])
def test_fewer_rows_than_a_batch(n_rows):
    assert [len(batch) for batch in batches(torch.ones(n_rows), 8)] == [n_rows]


def test_rows_are_spread_evenly():
    assert spread_evenly(10, 4).tolist() == [0, 2, 5, 7]
    assert spread_evenly(3, 4).tolist() == [0, 1, 2]
    assert spread_evenly(0, 4).tolist() == []
