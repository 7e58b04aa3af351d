"""A HeLLM with its data and trainer, without its stages: random item vectors cost a step as much as trained ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from recbole.utils import init_logger, init_seed
from torch import Tensor


@dataclass
class Model:
    """What a measurement of stage 2 needs."""

    config: Any
    model: Any
    trainer: Any
    train: Any
    valid: Any
    test: Any

    @property
    def n_items(self) -> int:
        """Items, padding included."""
        return int(self.train._dataset.item_num)


def build_hellm(dataset: str, settings: Mapping[str, Any], seed: int, stages: bool = False) -> Model:
    """Return a HeLLM, its stages run or its item vectors random."""
    from recbole_hellm.config.recbole_config import HellmConfig
    from recbole_hellm.trainer.loading import load_data
    from recbole_hellm.trainer.registration import trainer_for

    # The plain side has no fusion; what ours costs shows in the users per second of the whole run on Toys.
    config = HellmConfig("HeLLM", dataset, config_dict={"fusion": "off", **settings})
    init_seed(config["seed"], config["reproducibility"])
    init_logger(config)
    loaders = load_data(config)[1]
    init_seed(config["seed"], config["reproducibility"])
    model = config.model_class(config, loaders[0]._dataset).to(config["device"])
    trainer = trainer_for("HeLLM")(config, model)
    if stages:
        trainer.run_stages(loaders[0])
    else:
        random_vectors(model.core, seed)
    return Model(config, model, trainer, *loaders)


def random_vectors(core: Any, seed: int) -> None:
    """Fill the vectors the stages would hand over, row 0 zero."""
    generator = torch.Generator().manual_seed(seed)
    for vectors in (core.graph_vectors, core.sequence_vectors):
        vectors.copy_(torch.randn(vectors.shape, generator=generator))
        vectors[0] = 0


def only_users(loader: Any, n_users: int, seed: int) -> Any:
    """Return a loader like ``loader`` over the rows of randomly chosen users; catalogue and ids stay as they are."""
    dataset = loader._dataset
    users = dataset.inter_feat[dataset.uid_field]
    known = torch.unique(users)
    order = torch.randperm(len(known), generator=torch.Generator().manual_seed(seed))
    rows = torch.isin(users, known[order[:n_users]]).nonzero().flatten()
    return type(loader)(loader.config, dataset.copy(dataset.inter_feat[rows]), loader._sampler, shuffle=False)


def sequences(loader: Any) -> list[Tensor]:
    """Return the training items of every user in time order, from RecBole's rows (history, next item)."""
    from recbole_hellm.views import train_view

    view = train_view(loader._dataset)
    return [part for part in view.item.split(view.lengths().tolist()) if len(part)]


class CountedTargets:
    """Counts the training targets that enter the loss of a core while it is entered."""

    def __init__(self, core: Any) -> None:
        self.core, self.count, self._loss = core, 0, core.loss

    def __enter__(self) -> CountedTargets:
        def loss(states: Tensor, targets: Tensor, *rest: Any, **named: Any) -> Tensor:
            self.count += targets.numel()
            return self._loss(states, targets, *rest, **named)

        self.core.loss = loss
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        del self.core.loss
        if kind is None and self.count == 0:
            raise RuntimeError("no training target went through HeLLMCore.loss, so none was counted")
