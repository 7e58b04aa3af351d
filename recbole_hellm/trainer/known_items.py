"""Which items a user is known to have taken before a phase of evaluation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from recbole_hellm.views import train_view


class KnownItems:
    """Items by user, for masking them in a ranking.

    Args:
        users: User of each event, shape ``[N]``.
        items: Item of each event, shape ``[N]``.
        n_users: Number of user ids, the padding id included.
    """

    def __init__(self, users: Tensor, items: Tensor, n_users: int) -> None:
        order = torch.argsort(users, stable=True)
        self.items = items[order]
        self.counts = torch.bincount(users, minlength=n_users)
        self.starts = torch.cumsum(self.counts, 0) - self.counts

    def cells(self, users: Tensor) -> tuple[Tensor, Tensor]:
        """Return the places of the known items in a score matrix whose rows are ``users``.

        Args:
            users: User ids, shape ``[B]``.

        Returns:
            Row and item of each place, both ``[M]``.
        """
        users = users.to(self.items.device)
        counts, starts = self.counts[users], self.starts[users]
        rows = torch.repeat_interleave(torch.arange(len(users), device=users.device), counts)
        within = torch.arange(len(rows), device=users.device) - (torch.cumsum(counts, 0) - counts)[rows]
        return rows, self.items[starts[rows] + within]


def known_items(train_data: Any, valid_data: Any = None) -> KnownItems:
    """Return what is known at validation (training events), or with ``valid_data`` what is known at the test.

    Args:
        train_data: RecBole's training loader.
        valid_data: RecBole's validation loader, or ``None``.
    """
    view = train_view(train_data._dataset)
    users, items = view.user, view.item
    if valid_data is not None and len(valid_data._dataset):
        feat, dataset = valid_data._dataset.inter_feat, valid_data._dataset
        users = torch.cat([users, feat[dataset.uid_field]])
        items = torch.cat([items, feat[dataset.iid_field]])
    return KnownItems(users, items, view.n_users)
