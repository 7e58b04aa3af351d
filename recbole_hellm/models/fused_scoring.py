"""Scoring of a sequential model, by itself or summed with what counts and features say, on RecBole's rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from logging import getLogger
from typing import Any

import torch
from torch import Tensor

from recbole_hellm import distributed
from recbole_hellm.config.specs import FusionSpec, TransitionSpec
from recbole_hellm.models.base import StagedRecommender
from recbole_hellm.models.hellm_core import HeLLMCore
from recbole_hellm.models.residual import Residual, training_examples
from recbole_hellm.models.score_fusion import LLM_MEAN, Case, ScoreFusion
from recbole_hellm.models.transitions import Transitions
from recbole_hellm.nn.batching import spread_evenly
from recbole_hellm.views import train_view

logger = getLogger(__name__)
ROWS = 128
"""Histories of like length scored in one pass: enough for the matrix products, few enough to need little padding."""
MEAN_ROWS = 1024
"""Training histories whose mean logits are taken for those of all."""


class FusedScoring(StagedRecommender):
    """Mixin in front of a RecBole sequential model: scores by head and last hidden state, and their fusion.

    The model has ``core.head``, which is linear, ``_last_hidden`` and ``_inputs``, and calls :meth:`fuse`,
    :meth:`leave_to_model` if it is trained on what the other parts leave, and :meth:`attach_fusion`.

    Attributes:
        fusion: The sum of the scores; ``None`` with ``fusion=off`` and inside :meth:`without_fusion`.
        residual: The other parts' scores in training; ``None`` where the model is trained by itself.
    """

    core: HeLLMCore
    n_items: int
    device: torch.device
    ITEM_ID: str
    ITEM_SEQ_LEN: str
    POS_ITEM_ID: str
    fusion: ScoreFusion | None
    residual: Residual | None

    def _inputs(self, interaction: Any) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def _last_hidden(self, interaction: Any) -> Tensor:
        raise NotImplementedError

    def fuse(self, settings: Mapping[str, Any], dataset: Any, modalities: Sequence[str]) -> None:
        """Build the fusion, if the settings ask for one, and need what it needs.

        Args:
            settings: Flat settings.
            dataset: The dataset of RecBole's training loader: counts are fitted on it and no other.
            modalities: Names of the item features.
        """
        self.fused, self.list_length = FusionSpec.from_config(settings), _cutoff(settings)
        self.fusion, self.residual = None, None
        if not self.fused.learned:
            return
        counts = None
        if "transitions" in self.fused.fusion_parts:
            counts = Transitions(TransitionSpec.from_config(settings), train_view(dataset))
        parts, decay = self.fused.fusion_parts, self.fused.fusion_decay
        self.fusion = ScoreFusion(parts, modalities, counts, self.n_items, decay)
        if not self.fused.uses_llm:
            self.learns, self.needs = False, ()  # what the language model reads reaches no score
        if self.fusion.modalities:
            self.needs = ("features", *self.needs)
        if "graph" in self.fusion.cosines and "graph" not in self.needs:
            self.needs = (*self.needs, "graph")

    def attach_fusion(self, results: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Take the item vectors of the stages ``features`` and ``graph``."""
        if self.fusion is not None and self.fusion.cosines:
            self.fusion.attach(results.get("features", {}), results.get("graph", {}).get("item"))

    def leave_to_model(self, dataset: Any, seed: int, half: bool) -> None:
        """Train the language model on what the other parts of the fusion leave, if there are both.

        Args:
            dataset: The dataset of RecBole's training loader.
            seed: Of the training histories the parts' scales are fitted on.
            half: Multiply in bf16.
        """
        if self.fusion is None or not self.learns:
            return
        train, fusion = train_view(dataset), self.fusion
        counts = torch.bincount(train.item, minlength=self.n_items)
        residual = Residual(fusion.parts, fusion.transitions, counts, fusion.decay)
        if len(residual.parts) > 1:
            self.residual, self._half = residual, half
            if self.fused.fusion_llm_mean:
                fusion.add_llm_mean()
                self._training_set = dataset
            self._examples = training_examples(train, int(dataset.config["MAX_ITEM_LIST_LENGTH"]), seed)

    def before_training(self) -> None:
        """Fit the scales of what is added to the language model's logits, and let the sum start from them."""
        if self.residual is None or self.fusion is None:
            return
        vectors = {name: self.fusion.vectors(name) for name in self.residual.cosines}
        histories, targets = (tensor.to(self.device) for tensor in self._examples)
        with torch.no_grad():
            self.residual.fit(vectors, histories, targets, self._half)
        distributed.spread([self.residual.scales])
        self.fusion.start_from(dict(zip(self.residual.parts, self.residual.scales.tolist(), strict=True)))
        logger.info("added to the logits in training: %s", self.residual.in_words())

    def fusion_departures(self) -> Iterator[tuple[bool, str]]:
        """Yield how the fusion departs from a paper that has none."""
        parts = ", ".join(self.fusion.parts) if self.fusion is not None else ""
        trained = "finetune_residual=True: the language model is trained on what counts and features leave"
        yield self.residual is not None, trained
        untrained = "" if self.learns else "; the language model has no say, and nothing is trained"
        text = f"fusion=learned: scores are a sum of {parts}, with weights chosen on validation{untrained}"
        yield self.fused.learned, text

    def full_sort_predict(self, interaction: Any) -> Tensor:
        """Return the scores of the whole catalogue, shape ``[B, n_items]``; column 0 belongs to the padding id."""
        if self.fusion is None:
            return self.core.head(self._last_hidden(interaction))
        logits = self.core.head(self._last_hidden(interaction)) if self.fusion.uses_llm else None
        return self.fusion(logits, self._inputs(interaction)[0])

    def predict(self, interaction: Any) -> Tensor:
        """Return the score of the item named in each row, shape ``[B]``."""
        items, fusion = interaction[self.ITEM_ID], self.fusion
        if fusion is None:
            return self.core.head.of_items(self._last_hidden(interaction), items)
        llm = self.core.head.of_items(self._last_hidden(interaction), items) if fusion.uses_llm else None
        return fusion.of_items(llm, self._inputs(interaction)[0], items)

    def after_epoch(self) -> None:
        """Take each item's mean logit over evenly spread training rows, if the sum has a part for it."""
        if self.fusion is None or LLM_MEAN not in self.fusion.parts:
            return
        rows = self._training_set.inter_feat
        some = rows[spread_evenly(len(rows), MEAN_ROWS)].to(self.device)
        self.eval()
        with torch.no_grad(), self.ranking():
            state = self._last_hidden(some).mean(0, keepdim=True)  # the head is linear
            self.fusion.llm_mean.copy_(self.core.head(state)[0])
        distributed.spread([self.fusion.llm_mean])

    def ranking(self) -> AbstractContextManager[None]:
        """Inside, no weight changes: see :meth:`HeLLMCore.ranking`."""
        return self.core.ranking() if self.fused.uses_llm else nullcontext()

    @contextmanager
    def without_fusion(self) -> Iterator[None]:
        """Let the language model score alone inside."""
        fusion, self.fusion = self.fusion, None
        try:
            yield
        finally:
            self.fusion = fusion

    def before_validation(self, valid_data: Any) -> None:
        """Choose the weights of the fusion on evenly spread validation histories."""
        if self.fusion is None or not valid_data:
            return
        self.after_epoch()  # also within an epoch
        rows = valid_data._dataset.inter_feat
        some = rows[spread_evenly(len(rows), self.fused.fusion_users)]
        self.eval()
        with torch.no_grad(), self.ranking():
            self.fusion.choose(self._cases(some), self.list_length)
        distributed.spread([self.fusion.weights, self.fusion.worth])

    def _cases(self, rows: Any) -> Iterator[Case]:
        """Yield logits, histories and targets of RecBole's rows, a batch of like length at a time."""
        assert self.fusion is not None
        order = torch.argsort(rows[self.ITEM_SEQ_LEN], stable=True)
        for index in order.split(ROWS):
            batch = rows[index].to(self.device)
            logits = self.core.head(self._last_hidden(batch)) if self.learns else None
            yield logits, self._inputs(batch)[0], batch[self.POS_ITEM_ID]

    def keep_choices(self, other: Any) -> None:
        """Take the weights ``other`` chose: here the validation events are training events."""
        if self.fusion is not None and other.fusion is not None:
            self.fusion.weights.copy_(other.fusion.weights)
            self.fusion.worth.copy_(other.fusion.worth)


def _cutoff(settings: Mapping[str, Any]) -> int:
    """Return the list length of ``valid_metric=NAME@k``, 10 for a metric without one."""
    place = str(settings.get("valid_metric")).rpartition("@")[2]
    return int(place) if place.isdecimal() else 10
