import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from recbole_hellm.data.interactions import read_events
from recbole_hellm.data.signal import Histories, by_chance, histories, most_popular, nearest_items, shuffled
from recbole_hellm.errors import DataError


@pytest.fixture
def events(tmp_path):
    """u0: a b c d, u1: b c d, u2: a b (too short)."""
    rows = ["u0\ta\t1", "u0\tb\t2", "u0\tc\t3", "u0\td\t4", "u1\tb\t1", "u1\tc\t2", "u1\td\t3", "u2\ta\t1", "u2\tb\t2"]
    path = tmp_path / "x.inter"
    path.write_text("\n".join(["user_id:token\titem_id:token\ttimestamp:float", *rows]) + "\n")
    return read_events(path)


def test_targets_and_histories(events):
    test, valid = histories(events, "test"), histories(events, "valid")
    assert (test.target.tolist(), valid.target.tolist()) == ([3, 3], [2, 2])
    assert (test.items.tolist(), test.starts.tolist()) == ([2, 1, 0, 2, 1], [0, 3, 5])
    assert (valid.items.tolist(), valid.starts.tolist()) == ([1, 0, 1], [0, 2, 3])
    # u0: a b, u1: b, u2: a b; nothing held out counts
    assert test.seen.tolist() == valid.seen.tolist() == [2, 3, 0, 0]
    assert histories(events, "test", max_users=1).n_users == 1
    with pytest.raises(ValueError, match="split must be one of valid, test"):
        histories(events, "train")


def test_nobody_is_long_enough(tmp_path):
    (tmp_path / "x.inter").write_text("user_id:token\titem_id:token\nu\ta\nu\tb\n")
    with pytest.raises(DataError, match="no user has 3 interactions"):
        histories(read_events(tmp_path / "x.inter"), "test")


def one(items, target, n_items=6):
    """One user, newest item first."""
    return Histories(np.array(items), np.array([0, len(items)]), np.array([target]), np.arange(n_items))


ROWS = np.array([[1, 0], [0.9, 0.1], [0.5, 0.5], [0.1, 0.9], [0, 1], [0, 0]], dtype=np.float32)


@pytest.mark.parametrize("sparse", [False, True])
def test_known_ranks(sparse):
    vectors = sp.csr_matrix(ROWS) if sparse else ROWS
    near, far = one([0], 1), one([0], 4)
    assert nearest_items(vectors, near, (1.0,), k=1).recall == 1  # item 0 itself is in the history
    assert nearest_items(vectors, far, (1.0,), k=3).recall == 0
    # items 4 and 5 share score 0 and with it rank 4.5
    assert nearest_items(vectors, far, (1.0,), k=5).ndcg == pytest.approx(1 / np.log2(5.5))
    # newest 0, then 4: with equal weights item 2, in between, comes first
    assert nearest_items(vectors, one([0, 4], 2), (1.0, 1.0), k=1).recall == 1
    assert nearest_items(vectors, one([0, 4], 2), (1.0, 0.1), k=1).recall == 0
    # a target that was taken before is to be found as well
    assert nearest_items(vectors, one([0, 1], 1), (1.0,), k=1).recall == 1


def test_an_item_without_a_vector_finds_nothing():
    assert nearest_items(np.zeros((6, 2), dtype=np.float32), one([0], 1), (1.0,), k=2).recall == 0


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 999), st.integers(1, 3))
def test_ranks_equal_the_slow_definition(seed, n_weights):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(8, 3)).astype(np.float32)
    items, target, weights = rng.permutation(7)[:3], 7, tuple(rng.random(n_weights))
    lengths = np.linalg.norm(vectors, axis=1)
    unit = vectors / np.where(lengths > 0, lengths, 1)[:, None]
    scores = [float(sum(w * unit[i] @ unit[j] for w, i in zip(weights, items, strict=False))) for j in range(8)]
    gaps = [scores[j] - scores[target] for j in range(8) if j != target and j not in items]
    assume(all(abs(gap) > 1e-4 for gap in gaps))  # float32 may break ties of the slow sum either way
    rank = 1 + sum(gap > 0 for gap in gaps)
    for k in (1, 2, 3):
        assert nearest_items(vectors, one(items, target, 8), weights, k).recall == (rank <= k)


def test_popularity_and_shuffling():
    assert most_popular(one([5], 4), k=1).recall == 1
    assert most_popular(one([5], 0), k=4).recall == 0
    chance = by_chance(one([5, 2], 4), k=2)
    assert (chance.recall, chance.ndcg) == (2 / 4, pytest.approx((1 + 1 / np.log2(3)) / 4))
    assert by_chance(one([5, 2], 4), k=10).recall == 1
    mixed = shuffled(ROWS, seed=0)
    assert sorted(map(tuple, mixed)) == sorted(map(tuple, ROWS))
    assert not mixed[5].any()  # only among the items that have one
    assert not np.array_equal(mixed, ROWS)
