"""Scores of items that nobody took yet, from the scores of items that look alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recbole_hellm.errors import DataError

_BLOCK_CELLS = 2**24
"""Cosines in memory at once."""


@dataclass(frozen=True)
class ColdItems:
    """Items without a training event, each a weighted mean of known items.

    For a model whose score is a product with a vector of the item (HeLLM's head, SASRec's item table, ...), the mean of
    the neighbours' scores *is* the score of the mean of their vectors: the k-nearest-neighbour mapping from attributes
    to item factors of Gantner et al. (ICDM 2010, https://doi.org/10.1109/ICDM.2010.129). It needs nothing of the model
    but its scores.

    **Limits:** a mean is never larger than the largest of its neighbours, so against known items a new one is placed
    with care; among each other new items are ranked by content and the model alike.
    """

    tokens: tuple[str, ...]
    """Item token of each."""
    weights: sp.csr_matrix
    """Shape ``[n_cold, n_items]``, each row sums to 1; column 0, the padding item, is empty."""
    left_out: tuple[str, ...] = ()
    """Items without any feature, or without a neighbour of positive similarity: nothing can be said of them."""

    def scores(self, known: NDArray[Any]) -> NDArray[np.float32]:
        """Return the scores of the cold items.

        Args:
            known: Scores of a model over its item ids, shape ``[B, n_items]``, such as ``full_sort_predict`` gives;
                column 0 may hold anything.

        Returns:
            Shape ``[B, n_cold]``.

        Raises:
            ValueError: If the width is not that of the item ids.
        """
        if known.ndim != 2 or known.shape[1] != self.weights.shape[1]:
            raise ValueError(f"known must have shape [B, {self.weights.shape[1]}], got {list(known.shape)}")
        clean = np.array(known, dtype=np.float32)
        clean[:, 0] = 0  # often -inf, and 0 * -inf is no number
        return np.asarray((self.weights @ clean.T).T, dtype=np.float32)


def by_content(
    modalities: Sequence[tuple[NDArray[np.float32], NDArray[np.bool_]]],
    known: Sequence[str],
    cold: Sequence[str],
    k: int = 30,
) -> ColdItems:
    """Find for each cold item its nearest known ones in every modality.

    The weight of a neighbour is its positive cosine, divided by the sum of those of the ``k`` nearest; the modalities
    that an item has count alike. These are the neighbours of HeLLM's item hypergraph (arXiv 2504.16576).

    Args:
        modalities: Vectors ``[n_known + n_cold, d]`` and which rows have one, padding first, known before cold items.
        known: Item tokens by id, the padding token first.
        cold: Item tokens after them.
        k: Neighbours in each modality, >= 1.

    Raises:
        DataError: If no cold item has a neighbour.
        ValueError: If ``k`` or a shape is wrong.
    """
    if k < 1:
        raise ValueError(f"k must be >= 1, got {k}")
    n_known, total = len(known), sp.csr_matrix((len(cold), len(known)), dtype=np.float32)
    for vectors, present in modalities:
        if vectors.shape[0] != n_known + len(cold) or present.shape != (vectors.shape[0],):
            raise ValueError(f"expected {n_known + len(cold)} rows, got {vectors.shape[0]} and {present.shape}")
        total = total + _neighbours(vectors, present, n_known, k)
    sums = np.asarray(total.sum(axis=1)).ravel()
    found = sums > 0
    if not found.any():
        raise DataError(f"none of {len(cold)} items without interactions has a feature that a known item is like")
    weights = sp.diags(1 / sums[found]) @ total[np.flatnonzero(found)]
    tokens = np.array(cold, dtype=object)
    return ColdItems(tuple(tokens[found]), sp.csr_matrix(weights, dtype=np.float32), tuple(tokens[~found]))


def _neighbours(vectors: NDArray[np.float32], present: NDArray[np.bool_], n_known: int, k: int) -> sp.csr_matrix:
    """Return the weights of one modality, shape ``[n_cold, n_known]``; each row sums to 1 or is empty."""
    usable = present.copy()
    usable[0] = False
    warm, rows = np.flatnonzero(usable[:n_known]), np.flatnonzero(usable[n_known:])
    shape = (len(vectors) - n_known, n_known)
    if not len(warm) or not len(rows):
        return sp.csr_matrix(shape, dtype=np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    k = min(k, len(warm))
    parts = []
    n_rows = max(1, _BLOCK_CELLS // len(warm))
    for start in range(0, len(rows), n_rows):
        block = rows[start : start + n_rows]
        cosine = unit[n_known + block] @ unit[warm].T
        places = np.argsort(-cosine, axis=1, kind="stable")[:, :k]  # of equal ones the smaller id
        near = np.maximum(np.take_along_axis(cosine, places, axis=1), 0)
        sums = near.sum(axis=1, keepdims=True)
        near = np.divide(near, sums, out=np.zeros_like(near), where=sums > 0)
        parts.append((np.repeat(block, k), warm[places].ravel(), near.ravel()))
    row, column, value = (np.concatenate(part) for part in zip(*parts, strict=True))
    matrix = sp.csr_matrix((value, (row, column)), shape=shape, dtype=np.float32)
    matrix.eliminate_zeros()
    return matrix
