"""What a history says of every item of the catalogue without a model, added to scores in place.

Letters: B batch, L history, I items with the padding item 0, D width of an item feature. Histories are item ids
``[B, L]`` with 0 on padding, on whichever side it stands.
"""

from __future__ import annotations

import torch
from scipy.sparse import csr_matrix
from torch import Tensor
from torch.nn import functional


def recency_weights(item_seq: Tensor, decay: float) -> Tensor:
    """Weigh the items of each history by age (0 = newest): ``decay ** age``, made to sum to 1.

    Args:
        item_seq: Item ids, shape ``[B, L]``.
        decay: Weight of an item, per item newer than it.

    Returns:
        float32 ``[B, L]``, 0 on padding; an empty history has zeros.
    """
    real = item_seq > 0
    age = real.flip(1).cumsum(1).flip(1) - 1
    weights = torch.where(real, decay ** age.clamp(min=0).float(), 0.0)
    return weights / weights.sum(1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)


def unit_rows(vectors: Tensor) -> Tensor:
    """Return ``[I, D]`` vectors scaled to length 1; rows of zeros stay, and so does row 0, the padding item."""
    rows = functional.normalize(vectors.float(), dim=1)
    rows[0] = 0
    return rows


def profiles(item_seq: Tensor, vectors: Tensor, decay: float) -> Tensor:
    """Average the feature vectors of each history, newer items counting more; nothing ``[B, L, D]`` is made.

    Args:
        item_seq: Item ids, shape ``[B, L]``.
        vectors: Shape ``[I, D]``, as from ``unit_rows``; an item without the feature has zeros.
        decay: As for ``recency_weights``.

    Returns:
        Shape ``[B, D]``.
    """
    return functional.embedding_bag(item_seq, vectors, per_sample_weights=recency_weights(item_seq, decay), mode="sum")


def add_neighbours(scores: Tensor, item_seq: Tensor, vectors: Tensor, decay: float, weight: float) -> Tensor:
    """Add ``weight`` times the mean cosine of every item with the history: dense item-hypergraph neighbours.

    Args:
        scores: Changed in place, shape ``[B, I]``.
        item_seq: As for ``profiles``.
        vectors: As for ``profiles``.
        decay: As for ``profiles``.
        weight: Factor.

    Returns:
        ``scores``.
    """
    return scores.addmm_(profiles(item_seq, vectors, decay), vectors.T, alpha=weight)


def add_sparse(scores: Tensor, rows: csr_matrix, weight: float) -> Tensor:
    """Add ``weight`` times a sparse matrix to ``scores`` ``[B, I]``, in place; nothing dense is made of it."""
    counts = torch.from_numpy(rows.indptr).diff().long()
    row = torch.repeat_interleave(torch.arange(len(counts)), counts)
    place = row * scores.size(1) + torch.from_numpy(rows.indices).long()
    values = torch.from_numpy(rows.data).to(scores.dtype) * weight
    scores.view(-1).index_add_(0, place.to(scores.device), values.to(scores.device))
    return scores


def add_repeats(scores: Tensor, item_seq: Tensor, weight: float) -> Tensor:
    """Add ``weight`` once to every item of the history, in place: a penalty where it is negative."""
    # Read before anything is written: an item that stands twice in a history gets the weight once.
    return scores.scatter_(1, item_seq, scores.gather(1, item_seq) + weight)
