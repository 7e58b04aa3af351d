"""Full ranking, one user per forward pass."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks.naive.stage2 import NaiveHeLLM


def rank_of(scores: Tensor, target: int) -> int:
    """Return the place of the target among all items, 1 = first; padding (column 0) takes no part."""
    scores = scores.clone()
    scores[0] = -torch.inf
    return int((scores > scores[target]).sum()) + 1


@torch.no_grad()
def rank_users(model: NaiveHeLLM, histories: Sequence[Tensor], targets: Sequence[int]) -> list[int]:
    """Return the rank of every user's target; one forward pass each, no padding."""
    model.eval()
    return [rank_of(model(history[None])[0], target) for history, target in zip(histories, targets, strict=True)]


def metrics(ranks: Sequence[int], k: int) -> dict[str, float]:
    """Return recall and NDCG of one target per user."""
    hits = [rank <= k for rank in ranks]
    gains = [1 / math.log2(rank + 1) if hit else 0.0 for rank, hit in zip(ranks, hits, strict=True)]
    return {f"recall@{k}": sum(hits) / len(ranks), f"ndcg@{k}": sum(gains) / len(ranks)}
