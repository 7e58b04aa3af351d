"""A history as one vector without a language model."""

from __future__ import annotations

from torch import Tensor


def running_mean(vectors: Tensor, mask: Tensor) -> Tensor:
    """Average, at every position, the vectors up to and including it.

    The last position holds the mean of the whole history, and no position depends on a later one.

    Args:
        vectors: Shape ``[B, L, D]``.
        mask: True for the vectors that count, shape ``[B, L]``; on whichever side the padding stands.

    Returns:
        Shape ``[B, L, D]``; zeros before the first vector that counts.
    """
    counts = mask.cumsum(1).clamp(min=1).unsqueeze(-1)
    return (vectors * mask.unsqueeze(-1)).cumsum(1) / counts
