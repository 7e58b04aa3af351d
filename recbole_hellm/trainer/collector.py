"""What RecBole's metrics are made from, and the rank of every target, from one sort of a batch's scores."""

from __future__ import annotations

from typing import Any

import torch
from recbole.evaluator import Collector
from torch import Tensor

BLOCK = 128
"""Targets compared with the whole catalogue at a time."""


class RankCollector(Collector):
    """RecBole's collector without its ``[B, n_items]`` matrix of hits and its sort for each metric; equal results.

    Attributes:
        rows: By batch of the full ranking since :meth:`start`: user ids, item ids and ranks (1 = first) of the targets.
    """

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.start(ranks_all=False)

    def start(self, ranks_all: bool) -> None:
        """Forget the ranks kept so far.

        Args:
            ranks_all: Whether the batches to come rank the whole catalogue.
        """
        self.ranks_all = ranks_all
        self.rows: list[tuple[Tensor, Tensor, Tensor]] = []

    def eval_batch_collect(
        self, scores_tensor: Tensor, interaction: Any, positive_u: Tensor, positive_i: Tensor
    ) -> None:
        """Keep what the metrics need of a batch.

        Args:
            scores_tensor: Scores, shape ``[B, n_items]``; of sampled or value evaluation as RecBole has them.
            interaction: RecBole's rows, B of them.
            positive_u: Row of each target.
            positive_i: Item id of each target.
        """
        if not self.ranks_all:
            super().eval_batch_collect(scores_tensor, interaction, positive_u, positive_i)
            return
        rows, items = positive_u.to(scores_tensor.device), positive_i.to(scores_tensor.device)
        best = torch.topk(scores_tensor, min(max(self.topk), scores_tensor.size(1)), dim=-1).indices  # (B, K)
        hit = best[rows] == items.unsqueeze(1)  # (targets, K)
        self._keep_ranks(scores_tensor, interaction, rows, items, hit)
        if any(self.register.need(name) for name in ("rec.meanrank", "rec.score", "data.label")):
            super().eval_batch_collect(scores_tensor, interaction, positive_u, positive_i)
            return
        if self.register.need("rec.items"):
            self.data_struct.update_tensor("rec.items", best)
        if self.register.need("rec.topk"):
            hits = torch.zeros(best.shape, dtype=torch.int, device=best.device).index_add_(0, rows, hit.int())
            counts = torch.bincount(rows, minlength=len(best)).int().unsqueeze(1)
            self.data_struct.update_tensor("rec.topk", torch.cat([hits, counts], dim=1))

    def _keep_ranks(self, scores: Tensor, interaction: Any, rows: Tensor, items: Tensor, hit: Tensor) -> None:
        """Keep each target's place in the order ``torch.topk`` gives, which RecBole's metrics are made from."""
        # Behind the list only the number of better items is known; equal scores beyond it count as worse.
        blocks = zip(rows.split(BLOCK), items.split(BLOCK), strict=True)
        above = torch.cat([(scores[row] > scores[row, item].unsqueeze(1)).sum(1) for row, item in blocks])
        rank = torch.where(hit.any(1), hit.int().argmax(1), above.clamp(min=hit.size(1))) + 1
        users = interaction[self.config["USER_ID_FIELD"]].to(scores.device)[rows]
        self.rows.append((users, items, rank))
