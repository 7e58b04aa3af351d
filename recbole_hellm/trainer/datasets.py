"""RecBole's data sets with ids that do not depend on held-out events, and without lost users."""

from __future__ import annotations

from logging import getLogger
from typing import Any

import numpy as np
import pandas as pd
import torch
from recbole.data.dataset import Dataset, SequentialDataset
from recbole.utils import FeatureType

logger = getLogger(__name__)


class SortedIds:
    """Mixin: ids in the order of the tokens instead of their first appearance.

    RecBole numbers tokens as they appear, validation and test events included, so a changed test event renumbers the
    items and with them every trained table. Sorted tokens depend on the catalogue alone.
    """

    def _remap(self, remap_list: Any) -> None:
        if not remap_list:
            return
        tokens, split_point = self._concat_remaped_tokens(remap_list)  # type: ignore[attr-defined]
        ids, found = pd.factorize(tokens, sort=True)
        tokens_by_id = np.array(["[PAD]", *found])
        token_to_id = {token: index for index, token in enumerate(tokens_by_id)}
        for (feat, field, ftype), new in zip(remap_list, np.split(ids + 1, split_point), strict=True):
            if field not in self.field2id_token:  # type: ignore[attr-defined]
                self.field2id_token[field] = tokens_by_id  # type: ignore[attr-defined]
                self.field2token_id[field] = token_to_id  # type: ignore[attr-defined]
            if ftype == FeatureType.TOKEN:
                feat[field] = new
            elif ftype == FeatureType.TOKEN_SEQ:
                feat[field] = np.split(new, np.cumsum(feat[field].map(len))[:-1])


class HellmDataset(SortedIds, Dataset):
    """RecBole's ``Dataset`` with sorted ids."""


class HellmSequentialDataset(SortedIds, SequentialDataset):
    """RecBole's ``SequentialDataset`` with sorted ids, which keeps the users augmentation would lose.

    Attributes:
        single_interactions: (user, item) of users with one interaction, which give no (history, target) row but do
            belong to the training graph, shape ``[n, 2]``.
    """

    single_interactions: torch.Tensor

    def data_augmentation(self) -> None:
        """Note the users with a single interaction, report short ones, then augment as RecBole does."""
        users, items = self.inter_feat[self.uid_field], self.inter_feat[self.iid_field]
        counts = torch.bincount(users, minlength=self.user_num)
        alone = counts[users] == 1
        self.single_interactions = torch.stack([users[alone], items[alone]], dim=1)
        short = int(((counts > 0) & (counts < 3)).sum())
        if short:
            logger.warning(
                "%d users have fewer than 3 interactions: they are kept in training and not evaluated", short
            )
        super().data_augmentation()
