"""Arithmetic of the transition-count model on plain arrays: fit a sparse item-to-item table, score histories.

Letters: T training interactions, G gaps counted, B batch, L history, I items with the padding item 0.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

IntArray = NDArray[np.integer]
FloatArray = NDArray[np.floating]


def gap_weights(kernel: Literal["power", "exponential"], decay: float, max_gap: int) -> FloatArray:
    """Give the weight of a pair by the number ``o`` of items between its two.

    Args:
        kernel: ``power``: ``1 / (o + 1) ** decay``; ``exponential``: ``decay ** o``.
        decay: Exponent, or factor per item between.
        max_gap: Gaps counted: ``o = 0 .. max_gap - 1``.

    Returns:
        Shape ``[max_gap]``; the first is 1.

    Raises:
        ValueError: If ``kernel`` is neither.
    """
    between = np.arange(max_gap, dtype=np.float64)
    if kernel == "power":
        return (between + 1) ** -decay
    if kernel == "exponential":
        return decay**between
    raise ValueError(f"kernel must be 'power' or 'exponential', got {kernel!r}")


def pair_counts(user: IntArray, item: IntArray, n_items: int, weights: FloatArray) -> csr_matrix:
    """Count the ordered pairs of each user's sequence, weighted by gap.

    Args:
        user: Owner of each interaction, shape ``[T]``; a user's interactions stand together, in time order.
        item: Item of each interaction, shape ``[T]``.
        n_items: Item ids, the padding id included.
        weights: Weight by number of items between, shape ``[G]``.

    Returns:
        Sparse float64 ``[I, I]``: entry ``(i, j)`` sums the weights of every ``i`` followed by ``j``.

    Raises:
        ValueError: If ``user`` and ``item`` differ in shape, or a user's interactions are apart.
    """
    if user.shape != item.shape:
        raise ValueError(f"user and item must have the same shape, got {user.shape} and {item.shape}")
    if len(user) and 1 + np.count_nonzero(user[1:] != user[:-1]) != len(np.unique(user)):
        raise ValueError("the interactions of a user must stand together; sort them by user and time")
    counts = csr_matrix((n_items, n_items), dtype=np.float64)
    for between, weight in enumerate(weights):
        earlier, later = slice(None, -1 - between), slice(1 + between, None)
        same = user[earlier] == user[later]
        pairs = (item[earlier][same], item[later][same])
        # one gap at a time: memory stays at one pair an interaction
        counts = counts + csr_matrix((np.full(len(pairs[0]), weight), pairs), shape=(n_items, n_items))
    return counts


def fit(user: IntArray, item: IntArray, n_items: int, weights: FloatArray, tau: float) -> csr_matrix:
    """Fit the transition table ``log(1 + count * (n_items - 1) / tau)``.

    Args:
        user: As for ``pair_counts``.
        item: As for ``pair_counts``.
        n_items: As for ``pair_counts``.
        weights: As for ``pair_counts``.
        tau: Smoothing: larger makes the score more linear in the counts.

    Returns:
        Sparse float32 ``[I, I]``, row = earlier item, column = later item; pairs never seen hold nothing.
    """
    table = pair_counts(user, item, n_items, weights)
    table.data = np.log1p(table.data * (n_items - 1) / tau)
    return table.astype(np.float32)


def popularity_offset(item: IntArray, n_items: int, penalty: float) -> FloatArray:
    """Give what every item's score gets for its popularity: ``-penalty * log(max(count, 1))``.

    Returns:
        float32 ``[I]``; zeros where ``penalty`` is 0.
    """
    count = np.bincount(item, minlength=n_items)
    return (-penalty * np.log(np.maximum(count, 1))).astype(np.float32)


def history_weights(
    lengths: IntArray, max_len: int, decay: float, window: int = 0, tail_mass: float = 0.0
) -> FloatArray:
    """Weigh the positions of right-padded histories by age ``a`` (0 = newest).

    Args:
        lengths: Items of each history, shape ``[B]``.
        max_len: L.
        decay: The weight is ``decay ** a`` inside the window.
        window: Newest items weighed so; 0: all.
        tail_mass: Share of the whole weight that the items older than the window have together, spread evenly; a
            history without older items keeps its weights.

    Returns:
        float32 ``[B, L]``, 0 on padding.
    """
    age = lengths[:, None] - 1 - np.arange(max_len)[None, :]  # (B, L), negative on padding
    window = window or max_len
    recent = (age >= 0) & (age < window)
    weights = np.where(recent, decay ** np.maximum(age, 0).astype(np.float64), 0.0)
    n_older = np.maximum(lengths - window, 0)
    each = weights.sum(axis=1) * tail_mass / (1 - tail_mass) / np.maximum(n_older, 1)
    return np.where(age >= window, each[:, None], weights).astype(np.float32)


def mix(history: IntArray, weights: FloatArray, table: csr_matrix) -> csr_matrix:
    """Sum the table's rows over each history.

    Args:
        history: Item ids, shape ``[B, L]``, 0 on padding.
        weights: Shape ``[B, L]``, as from ``history_weights``.
        table: Shape ``[I, I]``, as from ``fit``.

    Returns:
        Sparse ``[B, I]``.
    """
    used = (history > 0) & (weights > 0)
    row, _ = np.nonzero(used)
    chosen = csr_matrix((weights[used], (row, history[used])), shape=(len(history), table.shape[0]))
    return chosen @ table


def own_share(
    history: IntArray, weights: FloatArray, target: IntArray, table: csr_matrix, gaps: FloatArray, tau: float
) -> FloatArray:
    """Give what a training history's own pairs with its target add to the target's mixed score.

    The pairs of a history and the item that came after it have been counted: the score of that item knows the answer.
    Taken off, it is the score of a table fitted on all other pairs. (Scores of other items keep the history's pairs.)

    Args:
        history: As for ``mix``, right-padded.
        weights: As for ``mix``.
        target: The item that follows each history in the training data, shape ``[B]``.
        table: As from ``fit``.
        gaps: Weights by gap the table was fitted with, shape ``[G]``.
        tau: As for ``fit``.

    Returns:
        float32 ``[B]``.
    """
    if not history.size:
        return np.zeros(len(history), dtype=np.float32)
    length = (history > 0).sum(axis=1)
    between = length[:, None] - 1 - np.arange(history.shape[1])  # (B, L)
    counted = (between >= 0) & (between < len(gaps))
    pair = np.where(counted, gaps[np.clip(between, 0, len(gaps) - 1)], 0.0)
    # An item that stands twice in the history was counted with both of its gaps.
    own = ((history[:, :, None] == history[:, None, :]) * pair[:, None, :]).sum(axis=2)
    places = np.repeat(target[:, None], history.shape[1], axis=1)
    known = np.asarray(table[history.ravel(), places.ravel()]).reshape(history.shape).astype(np.float64)
    scale = (table.shape[0] - 1) / tau
    others = np.log1p(np.maximum(np.expm1(known) - own * scale, 0.0))
    return ((known - others) * weights * (history > 0)).sum(axis=1).astype(np.float32)


def score(history: IntArray, weights: FloatArray, table: csr_matrix, offset: FloatArray) -> FloatArray:
    """Score every item as the next of each history.

    Args:
        history: As for ``mix``.
        weights: As for ``mix``.
        table: As for ``mix``.
        offset: Added to every item's score, shape ``[I]``, as from ``popularity_offset``.

    Returns:
        float32 ``[B, I]``; the padding item (column 0) has ``-inf``.
    """
    scores = mix(history, weights, table).toarray() + offset
    scores[:, 0] = -np.inf
    return scores
