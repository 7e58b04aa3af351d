"""RecBole's evaluation, which also keeps the rank of every user's target and can mask the history."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from recbole.data.dataloader.general_dataloader import FullSortEvalDataLoader
from recbole.trainer import Trainer
from torch import Tensor

from recbole_hellm.config.specs import RunSpec
from recbole_hellm.trainer.collector import RankCollector
from recbole_hellm.trainer.epochs import EpochsMixin
from recbole_hellm.trainer.known_items import KnownItems, known_items
from recbole_hellm.trainer.memory import MemoryMixin
from recbole_hellm.trainer.resume import ResumeMixin
from recbole_hellm.trainer.saving import SavingMixin

Columns = dict[str, np.ndarray]


class EvaluationMixin:
    """Goes in front of a RecBole trainer class; metrics stay RecBole's own.

    Attributes:
        ranks: Of the last full-ranking evaluation: arrays ``user``, ``item`` (tokens), ``rank`` (1 = first).
        users_per_second: Speed of the last evaluation.
    """

    ranks: Columns
    users_per_second: float = 0.0
    _known: tuple[Any, KnownItems, KnownItems] | None = None

    def __init__(self, config: Any, model: Any) -> None:
        super().__init__(config, model)  # type: ignore[call-arg]
        self.eval_collector = RankCollector(config)

    def fit(self, train_data: Any, valid_data: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Train as RecBole does; notes what is known of each user, for ``mask_history``."""
        if RunSpec.from_config(self.config.final_config_dict).mask_history == "yes":  # type: ignore[attr-defined]
            self._known = valid_data, known_items(train_data), known_items(train_data, valid_data)
        return super().fit(train_data, valid_data, *args, **kwargs)  # type: ignore[misc]

    def evaluate(self, eval_data: Any, *args: Any, **kwargs: Any) -> Any:
        """Evaluate as RecBole does; fills :attr:`ranks`."""
        self.eval_collector.start(ranks_all=isinstance(eval_data, FullSortEvalDataLoader))
        self._mask = RunSpec.from_config(self.config.final_config_dict).mask_history  # type: ignore[attr-defined]
        self._known_now = None
        if self._known is not None:
            self._known_now = self._known[1] if eval_data is self._known[0] else self._known[2]
        started = time.perf_counter()
        result = super().evaluate(eval_data, *args, **kwargs)  # type: ignore[misc]
        kept = self.eval_collector.rows
        users, items, ranks = (
            torch.cat(list(column)).cpu().numpy() if column else np.zeros(0, np.int64)
            for column in (zip(*kept, strict=True) if kept else ([], [], []))
        )
        self.users_per_second = len(users) / (time.perf_counter() - started)
        dataset = eval_data._dataset if eval_data else None
        self.ranks = {"user": users, "item": items, "rank": ranks}
        if dataset is not None:
            for name, field in (("user", dataset.uid_field), ("item", dataset.iid_field)):
                self.ranks[name] = np.asarray(dataset.field2id_token[field]).astype(str)[self.ranks[name]]
        return result

    def _full_sort_batch_eval(self, batched_data: Any) -> Any:
        interaction, history, positive_row, positive_item = batched_data
        if self._mask == "no":
            batched_data = (interaction, None, positive_row, positive_item)
        out = super()._full_sort_batch_eval(batched_data)  # type: ignore[misc]
        interaction, scores, positive_row, positive_item = out
        if self._mask == "yes":
            self._mask_known(scores, interaction, positive_row, positive_item)
        return out

    def _mask_known(self, scores: Tensor, interaction: Any, rows: Tensor, items: Tensor) -> None:
        """Leave every item known of a user before the target out of the ranking, except the targets.

        After training this is the same for every kind of model. RecBole hands over less: a sequential row holds the
        newest ``MAX_ITEM_LIST_LENGTH`` items, and with ``repeatable`` a general model's history is empty.
        """
        config = self.config  # type: ignore[attr-defined]
        history = config["ITEM_ID_FIELD"] + config["LIST_SUFFIX"]
        kept = scores[rows, items].clone()
        if history in interaction:
            scores.scatter_(1, interaction[history], -torch.inf)
        if self._known_now is not None:
            known_rows, known = self._known_now.cells(interaction[config["USER_ID_FIELD"]])
            scores[known_rows.to(scores.device), known.to(scores.device)] = -torch.inf
        scores[rows, items] = kept


def with_ranks(trainer_class: type) -> type:
    """Return ``trainer_class`` with the mixins of memory, evaluation, epochs and safe saving in front."""
    if issubclass(trainer_class, EvaluationMixin):
        return trainer_class
    # RecBole's trainers of decision trees are no ``Trainer``: their libraries save the models.
    saving = (ResumeMixin, EpochsMixin, SavingMixin) if issubclass(trainer_class, Trainer) else (EpochsMixin,)
    parts = (MemoryMixin, EvaluationMixin, *saving, trainer_class)
    return type(trainer_class.__name__, parts, {"__module__": trainer_class.__module__})
