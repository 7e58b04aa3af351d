"""A model on the toy data set with its data and trainer, for tests that look inside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from recbole.data import create_dataset, data_preparation
from recbole.data.interaction import Interaction
from recbole.utils import init_seed
from torch import Tensor

from recbole_hellm.config.recbole_config import HellmConfig
from recbole_hellm.testing.toys import CHECKERBOARD, checkerboard_settings, tiny_llm
from recbole_hellm.trainer.registration import trainer_for


@dataclass
class Built:
    """A model with its data and its trainer; its stages have run."""

    config: Any
    model: Any
    trainer: Any
    train: Any
    valid: Any
    test: Any


def build(model: str, settings: Mapping[str, Any], dataset: str = CHECKERBOARD) -> Built:
    """Build a registered model on a data set and run its stages, without training it."""
    config = HellmConfig(model, dataset, config_dict=settings)
    init_seed(config["seed"], config["reproducibility"])
    data = data_preparation(config, create_dataset(config))
    init_seed(config["seed"], config["reproducibility"])
    net = config.model_class(config, data[0]._dataset).to(config["device"])
    trainer = trainer_for(model)(config, net)
    if hasattr(trainer, "run_stages"):
        trainer.run_stages(data[0])
    return Built(config, net, trainer, *data)


def scores(built: Built, rows: Interaction) -> Tensor:
    """Return the scores ``[B, n_items]`` of rows of RecBole's data."""
    built.model.eval()
    with torch.no_grad():
        out = built.model.full_sort_predict(rows.to(built.config["device"]))
    return out.view(len(rows), -1).cpu()


def ranked_scores(trainer: Any, batch: Any) -> Tensor:
    """Return the scores ``[B, n_items]`` of a batch of RecBole's loader as its metrics get them, masked as they are."""
    collected: list[Tensor] = []
    collector = trainer.eval_collector
    trainer.eval_collector = _Kept(collector, collected)
    try:
        with torch.no_grad():
            trainer._full_sort_batch_eval(batch)
    finally:
        trainer.eval_collector = collector
    return torch.cat(collected)


class _Kept:
    """A collector that keeps the scores it is given and collects nothing."""

    def __init__(self, collector: Any, scores: list[Tensor]) -> None:
        self.data_struct, self.rows, self._scores = collector.data_struct, collector.rows, scores
        self.seen = self.place = 0

    def eval_batch_collect(self, scores: Tensor, *others: Any) -> None:
        self._scores.append(scores)


class ToySettings:
    """Where a contract takes its settings from; yours may come from anywhere."""

    @classmethod
    def settings(cls, folder: Path, **changes: Any) -> dict[str, Any]:
        """Return settings of a quick run on the checkerboard that writes only below ``folder``; may be overridden."""
        llm = folder / "llm"
        return checkerboard_settings(folder, llm if llm.is_dir() else tiny_llm(llm), **changes)
