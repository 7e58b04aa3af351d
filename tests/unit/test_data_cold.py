import numpy as np
import pytest

from recbole_hellm.data import cold
from recbole_hellm.data.cold import by_content
from recbole_hellm.errors import DataError

KNOWN, COLD = ("[PAD]", "a", "b", "c"), ("x", "y", "z")
#            [PAD]   a       b       c        x       y       z
VECTORS = [[9, 9], [1, 0], [0, 2], [-1, 0], [3, 4], [1, 0], [0, 0]]


def modality(rows, absent=()):
    vectors = np.array(rows, dtype=np.float32)
    present = vectors.any(axis=1)
    present[list(absent)] = False
    return vectors, present


def test_known_answer():
    found = by_content([modality(VECTORS)], KNOWN, COLD, k=2)
    assert (found.tokens, found.left_out) == (("x", "y"), ("z",))
    # x has cosine .6 to a and .8 to b; y is a itself, b is at a right angle and c opposite
    expected = [[0, 0.6 / 1.4, 0.8 / 1.4, 0], [0, 1, 0, 0]]
    np.testing.assert_allclose(found.weights.toarray(), expected, rtol=1e-6)
    scores = np.array([[-np.inf, 7, 14, 100], [np.nan, 1, 0, 0]])
    np.testing.assert_allclose(found.scores(scores), [[11, 7], [0.6 / 1.4, 1]], rtol=1e-6)


def test_modalities_count_alike_and_a_missing_one_does_not():
    other = [[0], [0], [1], [0], [1], [0], [1]]  # there x and z are like b
    found = by_content([modality(VECTORS), modality(other)], KNOWN, COLD, k=2)
    assert found.tokens == COLD
    np.testing.assert_allclose(found.weights.toarray()[0], [0, 0.3 / 1.4, 0.5 + 0.4 / 1.4, 0], rtol=1e-6)
    np.testing.assert_allclose(found.weights.toarray()[1:], [[0, 1, 0, 0], [0, 0, 1, 0]], rtol=1e-6)


def test_it_is_the_score_of_the_mean_vector_for_any_linear_head():
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(40, 6)).astype(np.float32)
    found = by_content([modality(vectors)], [f"i{n}" for n in range(30)], [f"c{n}" for n in range(10)], k=5)
    states, head = generator.normal(size=(7, 9)), generator.normal(size=(30, 9))
    np.testing.assert_allclose(found.scores(states @ head.T), states @ (found.weights @ head).T, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.weights.sum(axis=1), 1, rtol=1e-6)
    assert (np.diff(found.weights.indptr) <= 5).all()
    assert found.weights[:, 0].nnz == 0


def test_blocks_do_not_matter(monkeypatch):
    vectors = np.random.default_rng(2).normal(size=(50, 4)).astype(np.float32)
    names = [f"i{n}" for n in range(50)]
    whole = by_content([modality(vectors)], names[:30], names[30:])
    monkeypatch.setattr(cold, "_BLOCK_CELLS", 70)
    assert (by_content([modality(vectors)], names[:30], names[30:]).weights != whole.weights).nnz == 0


def test_a_copy_of_a_known_item_has_its_scores():
    generator = np.random.default_rng(1)
    vectors = np.abs(generator.normal(size=(20, 6))).astype(np.float32)
    vectors = np.concatenate([vectors, vectors[[7]] * 3])
    found = by_content([modality(vectors)], [f"i{n}" for n in range(20)], ["copy"], k=1)
    scores = generator.normal(size=(4, 20))
    np.testing.assert_allclose(found.scores(scores)[:, 0], scores[:, 7], rtol=1e-6)


def test_wrong_input_is_named():
    with pytest.raises(DataError, match="none of 3 items without interactions has a feature"):
        by_content([modality(VECTORS, absent=(4, 5))], KNOWN, COLD)
    with pytest.raises(ValueError, match="k must be >= 1, got 0"):
        by_content([modality(VECTORS)], KNOWN, COLD, k=0)
    with pytest.raises(ValueError, match="expected 7 rows, got 6"):
        by_content([modality(VECTORS[:-1])], KNOWN, COLD)
    found = by_content([modality(VECTORS)], KNOWN, COLD)
    with pytest.raises(ValueError, match=r"shape \[B, 4\], got \[2, 5\]"):
        found.scores(np.zeros((2, 5)))
