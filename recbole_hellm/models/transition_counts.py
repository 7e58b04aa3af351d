"""TransitionCounts: a sequential recommender that only counts which item followed which."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.utils import InputType
from torch import Tensor, nn

from recbole_hellm.config.specs import TransitionSpec
from recbole_hellm.models import pctm
from recbole_hellm.models.transitions import Transitions
from recbole_hellm.views import train_view


class TransitionCounts(SequentialRecommender):
    """Scores the next item by how often it followed the items of the history; nothing is learned.

    With ``n(i, j)`` the gap-weighted count of training pairs "``i``, later ``j``" over ``I`` items and ``w(a)`` the
    weight of the history item of age ``a``::

        score(j) = sum_a w(a) * log(1 + n(i_a, j) * I / tau) - penalty * log(count(j))

    The counts are a function of the training split, so a checkpoint holds none: the model is fitted when it is built,
    one epoch does nothing, and ``evaluate(load_best_model=True)`` works as for any model. It is the line every trained
    model has to beat. The idea, co-occurrence with a weight for distance and order, is that of the sequential rules
    (SR) of "Evaluation of Session-based Recommendation Algorithms" (https://arxiv.org/abs/1803.09587), Malte Ludewig
    and Dietmar Jannach, 2018.

    **Differences:** SR weighs a pair ``1 / gap``, takes the newest item only and neither damps the counts nor offsets
    popularity; here both are settings.

    Args:
        config: RecBole's settings; those of ``TransitionSpec`` are read.
        dataset: The dataset of RecBole's training loader.

    Raises:
        ConfigError: If a ``transition_`` setting breaks a rule.
    """

    input_type = InputType.POINTWISE

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.transitions = Transitions(TransitionSpec.from_config(config), train_view(dataset))
        self.table, self.offset = self.transitions.table, self.transitions.offset
        # RecBole's trainer wants an optimiser, and an optimiser wants a parameter.
        self.unused = nn.Parameter(torch.zeros(1))

    def calculate_loss(self, interaction: Any) -> Tensor:
        """Return 0, with a zero gradient, for RecBole's training loop."""
        return 0.0 * self.unused.sum()

    def score_items(self, item_seq: Tensor, item_seq_len: Tensor) -> Tensor:
        """Score every item as the next of each history.

        Args:
            item_seq: Item ids, right-padded with 0, shape ``[B, L]``.
            item_seq_len: Their lengths, shape ``[B]``.

        Returns:
            Shape ``[B, n_items]``, on the model's device; column 0 has ``-inf``.
        """
        scores = pctm.score(*self.transitions.weigh(item_seq, item_seq_len), self.table, self.offset)
        return torch.from_numpy(scores).to(self.device)

    def full_sort_predict(self, interaction: Any) -> Tensor:
        """Return the scores of every item, shape ``[B, n_items]``."""
        return self.score_items(interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN])

    def predict(self, interaction: Any) -> Tensor:
        """Return the score of each row's own candidate item, shape ``[B]``."""
        item = interaction[self.ITEM_ID].cpu().numpy().copy()  # scipy refuses an index whose memory is torch's
        mixed = self.transitions.mix(interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN])
        mixed = mixed[np.arange(len(item)), item]  # sampled candidates: never [B, I]
        return torch.from_numpy(np.asarray(mixed).ravel() + self.offset[item]).to(self.device)
