"""Which trainer runs which model."""

from __future__ import annotations

from typing import Any

from recbole.trainer import Trainer

from recbole_hellm import registry
from recbole_hellm.models.base import StagedRecommender
from recbole_hellm.trainer.evaluation import with_ranks
from recbole_hellm.trainer.staged import FinetuneTrainer, StagedTrainer

BUILT_IN: dict[str, type] = {"HeLLM": FinetuneTrainer, "MMHCL": StagedTrainer, "TransitionCounts": with_ranks(Trainer)}


def trainer_for(name: str) -> Any:
    """Return the trainer class of a registered model: by name, else by what kind of model it is."""
    if name in BUILT_IN:
        return BUILT_IN[name]
    model = registry.models.get(name)
    if not issubclass(model, StagedRecommender):
        return with_ranks(Trainer)
    from recbole_hellm.models.hellm import HeLLM

    return FinetuneTrainer if issubclass(model, HeLLM) else StagedTrainer
