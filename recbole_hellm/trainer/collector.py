"""What RecBole's metrics are made from, and the rank of every target, from one sort of a batch's scores."""

from __future__ import annotations

from typing import Any

import torch
from recbole.evaluator import Collector
from torch import Tensor

from recbole_hellm import distributed

BLOCK = 128
"""Targets compared with the whole catalogue at a time."""
ROW_PLACE, TARGET_PLACE = "rec.row_place", "rec.target_place"
"""Of each row and target kept: the place of its row among all, where several processes share them."""
COLLECTED = ("rec.topk", "rec.meanrank", "rec.score", "rec.items", "data.label")
"""What RecBole's metrics read of each row."""


class RankCollector(Collector):
    """RecBole's collector without its ``[B, n_items]`` matrix of hits and its sort for each metric; equal results.

    Attributes:
        rows: By batch of the full ranking since :meth:`start`: user ids, item ids and ranks (1 = first) of the targets.
        seen: Rows of the batches before, those of other processes included.
        place: Place of the next part's first row among all rows.
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
        self.seen = self.place = 0

    def eval_batch_collect(
        self, scores_tensor: Tensor | None, interaction: Any, positive_u: Tensor, positive_i: Tensor
    ) -> None:
        """Keep what the metrics need of a batch.

        Args:
            scores_tensor: Scores, shape ``[B, n_items]``; of sampled or value evaluation as RecBole has them. ``None``:
                the batch was collected part by part already.
            interaction: RecBole's rows, B of them.
            positive_u: Row of each target.
            positive_i: Item id of each target.
        """
        if scores_tensor is None:
            return
        if not self.ranks_all:
            super().eval_batch_collect(scores_tensor, interaction, positive_u, positive_i)
            return
        rows, items = positive_u.to(scores_tensor.device), positive_i.to(scores_tensor.device)
        best = torch.topk(scores_tensor, min(max(self.topk), scores_tensor.size(1)), dim=-1).indices  # (B, K)
        hit = best[rows] == items.unsqueeze(1)  # (targets, K)
        self._keep_ranks(scores_tensor, interaction, rows, items, hit)
        if distributed.world_size() > 1:
            self.data_struct.update_tensor(ROW_PLACE, self.place + torch.arange(len(scores_tensor)))
            self.data_struct.update_tensor(TARGET_PLACE, self.place + rows.cpu())
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
        one_each = torch.equal(rows, torch.arange(len(scores), device=rows.device))  # then no row need be copied
        parts = scores.split(BLOCK) if one_each else (scores[some] for some in rows.split(BLOCK))
        own = scores[rows, items].unsqueeze(1).split(BLOCK)
        above = torch.cat([(part > score).sum(1) for part, score in zip(parts, own, strict=True)])
        rank = torch.where(hit.any(1), hit.int().argmax(1), above.clamp(min=hit.size(1))) + 1
        users = interaction[self.config["USER_ID_FIELD"]].to(scores.device)[rows]
        self.rows.append((users, items, rank))

    def get_data_struct(self) -> Any:
        """Return what was collected, of all processes and in the order of one, on the main process."""
        if self.ranks_all and distributed.world_size() > 1:
            self._gather()
        return super().get_data_struct()

    def _gather(self) -> None:
        kept = self.data_struct._data_dict
        mine = {key: kept.pop(key).cpu() for key in (*COLLECTED, ROW_PLACE, TARGET_PLACE) if key in kept}
        columns = [torch.cat(column).cpu() for column in zip(*self.rows, strict=True)]
        there = [part for part in distributed.gather((mine, columns)) if part[1]]
        self.rows = []
        if not there:
            return
        whole = {key: torch.cat([parts[key] for parts, _ in there]) for key in there[0][0]}
        order = torch.argsort(whole.pop(ROW_PLACE), stable=True)
        targets = torch.argsort(whole.pop(TARGET_PLACE), stable=True)
        kept.update({key: tensor[order] for key, tensor in whole.items()})
        joined = zip(*(found for _, found in there), strict=True)
        users, items, ranks = (torch.cat(list(column))[targets] for column in joined)
        self.rows = [(users, items, ranks)]
