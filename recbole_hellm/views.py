"""What a stage may see of a RecBole training split: training interactions in order, sizes, ids. Nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recbole_hellm.artifacts import fingerprint


@dataclass(frozen=True)
class TrainView:
    """Every training interaction once, users ascending, each user's in time order.

    Attributes:
        user: User ids, shape ``[N]``; 0 is padding and never occurs.
        item: Item ids, shape ``[N]``; 0 is padding and never occurs.
        user_tokens: Raw user token by id, ``[PAD]`` first.
        item_tokens: Raw item token by id, ``[PAD]`` first.
    """

    user: Tensor
    item: Tensor
    user_tokens: tuple[str, ...]
    item_tokens: tuple[str, ...]

    @property
    def n_users(self) -> int:
        """Number of user ids, the padding id included."""
        return len(self.user_tokens)

    @property
    def n_items(self) -> int:
        """Number of item ids, the padding id included."""
        return len(self.item_tokens)

    @cached_property
    def ids(self) -> str:
        """Digest of the user and item ids."""
        return fingerprint(users=list(self.user_tokens), items=list(self.item_tokens))

    def lengths(self) -> Tensor:
        """Return the number of training interactions of every user id, shape ``[n_users]``."""
        return torch.bincount(self.user, minlength=self.n_users)

    def windows(self, max_len: int) -> tuple[Tensor, Tensor]:
        """Cut every user's training sequence into rows in which each item but the user's first is a target once.

        Args:
            max_len: Longest history of a row.

        Returns:
            Item ids, right-padded with 0, shape ``[W, max_len + 1]``, and the row lengths, shape ``[W]``. Consecutive
            rows of a long sequence share one item: the last target of one is the first input of the next.
        """
        counts = self.lengths()
        starts = torch.cumsum(counts, 0) - counts
        n_rows = torch.where(counts > 1, (counts - 2) // max_len + 1, 0)  # of each user
        user = torch.repeat_interleave(torch.arange(self.n_users), n_rows)
        before = torch.cumsum(n_rows, 0) - n_rows
        # A user's rows from the newest back: each ends where the one after it has its first input.
        end = counts[user] - (torch.arange(len(user)) - before[user]) * max_len
        start = (end - max_len - 1).clamp(min=0)
        place = torch.arange(max_len + 1)
        inside = place < (end - start).unsqueeze(1)
        index = (starts[user] + start).unsqueeze(1) + place
        padded = torch.where(inside, self.item[index.clamp(max=len(self.item) - 1)], 0)
        return padded, end - start


def train_view(dataset: Any) -> TrainView:
    """Return the training interactions of RecBole's training dataset, sequential or general.

    RecBole cuts a user's history into rows (history, next item), so a user's first item is the target of no row; it
    stands only in the history of the row whose length is 1. A user with a single interaction has no row at all; the
    plugin's datasets keep those in ``single_interactions``.

    Args:
        dataset: The dataset of RecBole's training loader.
    """
    feat, uid, iid = dataset.inter_feat, dataset.uid_field, dataset.iid_field
    users, items = feat[uid], feat[iid]
    list_field = iid + dataset.config["LIST_SUFFIX"]
    if list_field in feat.interaction:
        first = first_rows(users, feat[dataset.item_list_length_field])
        users, items = torch.cat([users[first], users]), torch.cat([feat[list_field][first, 0], items])
        single = getattr(dataset, "single_interactions", None)
        if single is not None:
            users, items = torch.cat([users, single[:, 0]]), torch.cat([items, single[:, 1]])
    order = torch.argsort(users, stable=True)
    return TrainView(users[order], items[order], _tokens(dataset, uid), _tokens(dataset, iid))


def first_rows(users: Tensor, lengths: Tensor) -> Tensor:
    """Return the row of every user whose history is the user's first item alone.

    Args:
        users: User of each row (history, next item), each user's rows in time order, shape ``[N]``.
        lengths: History length of each row, shape ``[N]``; with ``MAX_ITEM_LIST_LENGTH=1`` all are 1.
    """
    short = torch.nonzero(lengths == 1).flatten()
    _, place = np.unique(users[short].cpu().numpy(), return_index=True)
    return short[torch.from_numpy(place).to(short.device)]


def _tokens(dataset: Any, field: str) -> tuple[str, ...]:
    table: Sequence[Any] = dataset.field2id_token[field]
    return tuple(str(token) for token in table)
