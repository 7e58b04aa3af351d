"""A transition table fitted on training interactions, and what it says of a history."""

from __future__ import annotations

from typing import Any

import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from recbole_hellm.config.specs import TransitionSpec
from recbole_hellm.models import pctm
from recbole_hellm.views import TrainView


class Transitions:
    """The counts of :mod:`recbole_hellm.models.pctm` under the settings ``transition_*``.

    Args:
        spec: How pairs are counted and added up.
        train: The training interactions, all it is fitted on.

    Attributes:
        table: Sparse ``[I, I]``.
        offset: What each item's score gets for its popularity, shape ``[I]``.
    """

    def __init__(self, spec: TransitionSpec, train: TrainView) -> None:
        user, item = train.user.cpu().numpy(), train.item.cpu().numpy()
        weights = pctm.gap_weights(spec.gap_kernel, spec.gap_decay, spec.max_gap)
        self.spec = spec
        self.table = pctm.fit(user, item, train.n_items, weights, spec.tau)
        self.offset = pctm.popularity_offset(item, train.n_items, spec.popularity_penalty)

    def weigh(self, item_seq: Tensor, item_seq_len: Tensor) -> tuple[Any, Any]:
        """Return right-padded histories ``[B, L]`` and the weights of their items, as ``pctm.score`` takes them."""
        history, lengths, spec = item_seq.cpu().numpy(), item_seq_len.cpu().numpy(), self.spec
        return history, pctm.history_weights(
            lengths, history.shape[1], spec.recency_decay, spec.recency_window, spec.tail_mass
        )

    def mix(self, item_seq: Tensor, item_seq_len: Tensor) -> csr_matrix:
        """Return the weighted sum of the table's rows over each history, sparse ``[B, I]``, without the offset."""
        return pctm.mix(*self.weigh(item_seq, item_seq_len), self.table)

    def own_share(self, item_seq: Tensor, item_seq_len: Tensor, target: Tensor) -> Tensor:
        """Return what the pairs of training histories with the item after each add to its score, shape ``[B]``."""
        spec = self.spec
        gaps = pctm.gap_weights(spec.gap_kernel, spec.gap_decay, spec.max_gap)
        history, weights = self.weigh(item_seq, item_seq_len)
        # A copy: scipy refuses an index whose memory is torch's.
        own = pctm.own_share(history.copy(), weights, target.cpu().numpy().copy(), self.table, gaps, spec.tau)
        return torch.from_numpy(own).to(item_seq.device)
