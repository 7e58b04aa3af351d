"""The processes of a run that are not the main one: they work, and write nothing."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from recbole.trainer import trainer as recbole_trainer

from recbole_hellm import distributed, registry
from recbole_hellm.errors import ConfigError
from recbole_hellm.trainer.registration import trainer_for


@contextmanager
def quiet_ranks(config: Any) -> Iterator[None]:
    """Inside, a process that is not the main one logs warnings alone and writes no curves for TensorBoard or W&B.

    Args:
        config: Settings of the run, which are changed for that.

    Raises:
        ConfigError: If the model cannot be trained by several processes.
    """
    if distributed.world_size() > 1:
        _check_model(config["model"])
    if distributed.is_main():
        yield
        return
    for key in ("show_progress", "log_wandb"):
        config.final_config_dict[key] = config.external_config_dict[key] = False
    logging.getLogger().setLevel(logging.WARNING)
    before = recbole_trainer.get_tensorboard
    recbole_trainer.get_tensorboard = lambda _: _Unwritten()
    try:
        yield
    finally:
        recbole_trainer.get_tensorboard = before


def _check_model(name: str) -> None:
    if name not in registry.models or not getattr(trainer_for(name), "splits_batches", False):
        raise ConfigError(
            f"model {name!r} cannot be trained by {distributed.world_size()} processes, only HeLLM and models made "
            "from it can: start it without --nproc or torchrun"
        )


class _Unwritten:
    """Stands for a TensorBoard writer."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None
