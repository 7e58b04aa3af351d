"""A step and an evaluation of one run on several processes; RecBole's own distribution is never used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from recbole_hellm import distributed
from recbole_hellm.artifacts import fingerprint
from recbole_hellm.checkpoints import random_state
from recbole_hellm.checkpoints.identity import frozen_digest
from recbole_hellm.checkpoints.steps import StepLoop
from recbole_hellm.config.specs import BackboneSpec, RunSpec
from recbole_hellm.errors import ConfigError
from recbole_hellm.trainer.halving import Halving
from recbole_hellm.trainer.memory import BadLoss, add_gradients, set_gradients


class RanksMixin:
    """Goes in front of :class:`~recbole_hellm.trainer.memory.MemoryMixin`; alone, it changes nothing.

    Every process goes through the same batches of ``train_batch_size`` rows and works on every ``n``-th row of them.
    The mean loss of its rows counts with the number of its targets, so the sum of the gradients is that of the whole
    batch's mean loss, however the targets are spread. All generators stand the same on every process between two steps;
    dropout inside a step is drawn from a generator made of seed, place and process.
    """

    splits_batches: bool = False
    """Whether the training loop makes its steps by :meth:`backward` and :meth:`sum_gradients`."""
    config: Any
    model: Any
    evaluator: Any
    device: torch.device
    in_step: bool
    frozen: str | None
    ranked: Halving
    trained: Halving
    _loop: StepLoop | None

    def __init__(self, config: Any, model: Any) -> None:
        super().__init__(config, model)  # type: ignore[call-arg]
        if distributed.world_size() > 1:
            self.evaluator = _OnMain(self.evaluator)
            self._shard()

    def fit(self, *args: Any, **kwargs: Any) -> Any:
        """Train as the trainer does, from the same weights on every process."""
        distributed.spread(self._trained())
        return super().fit(*args, **kwargs)  # type: ignore[misc]

    def _shard(self) -> None:
        """Split the frozen language model over the processes, if the settings ask for it."""
        settings = self.config.final_config_dict
        backbone = getattr(getattr(self.model, "core", None), "backbone", None)
        if backbone is None or not BackboneSpec.from_config(settings).sharded:
            return
        if RunSpec.from_config(settings).train_rows_at_once:
            raise ConfigError(
                "setting 'llm_sharded' = True excludes 'train_rows_at_once' on several processes, which must make the "
                "same calls: set train_rows_at_once=0 and a smaller train_batch_size"
            )
        self.frozen = frozen_digest(self.model)  # while its matrices are whole
        backbone.shard(distributed.mesh())
        self.in_step = self.trained.fixed = self.ranked.fixed = True

    def _trained(self) -> list[Any]:
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def _valid_epoch(self, *args: Any, **kwargs: Any) -> Any:
        distributed.check_equal(self._trained(), "trained tensors")
        return super()._valid_epoch(*args, **kwargs)  # type: ignore[misc]

    def backward(self, interaction: Any, steps: int = 1) -> float | None:
        """Add this process's share of the gradient of a batch's mean loss; return that loss, of all processes.

        Args:
            interaction: The whole batch, the same on every process.
            steps: Batches whose gradients make up one step; :meth:`sum_gradients` comes after the last of them.
        """
        if distributed.world_size() == 1:
            return super().backward(interaction, steps)  # type: ignore[misc]
        batch, trained = self.model.drawn(interaction), self._trained()
        earlier = [parameter.grad for parameter in trained]
        set_gradients(trained, [None] * len(trained))
        loss, targets, bad = self._of_own_rows(batch)
        total, all_targets, all_bad = distributed.sums([loss * targets, targets, bad])
        if all_bad:
            set_gradients(trained, earlier)
            self._bad(f"training loss is NaN or infinite on {int(all_bad)} of {distributed.world_size()} processes")  # type: ignore[attr-defined]
            return None
        for parameter in trained:
            if parameter.grad is not None:
                parameter.grad.mul_(targets / (all_targets * steps))
        add_gradients(trained, earlier)
        return total / all_targets

    def _of_own_rows(self, batch: Any) -> tuple[float, int, bool]:
        """Fill the gradients; return mean loss, targets and whether the loss is NaN or infinite, of this process."""
        rows = torch.arange(len(batch), device=self.device)[distributed.rank() :: distributed.world_size()]
        some = len(rows) > 0
        if self.in_step and not some:
            rows = rows.new_zeros(1)  # goes along with the others, and counts nothing
        if not len(rows):
            return 0.0, 0, False
        with self._own_random():
            try:
                loss, targets = self.gradients(batch[rows], 1)  # type: ignore[attr-defined]
            except BadLoss:
                return 0.0, 0, True
        return loss, targets if some else 0, False

    def sum_gradients(self) -> None:
        """Add up the gradients of all processes, before the optimiser's step."""
        distributed.sum_gradients(self._trained())

    @contextmanager
    def _own_random(self) -> Iterator[None]:
        """Inside, draw what no other process draws; afterwards the generators stand as before, as everywhere."""
        before = random_state.capture({})
        place = (self._loop.epoch, self._loop.place) if self._loop is not None else (0, 0)
        digest = fingerprint(seed=int(self.config["seed"]), place=place, process=distributed.rank())
        torch.manual_seed(int(digest[:15], 16))
        try:
            yield
        finally:
            random_state.restore(before, {})


class _OnMain:
    """RecBole's evaluator, where the main process has what it needs; all get the metrics."""

    def __init__(self, evaluator: Any) -> None:
        self._evaluator = evaluator

    def evaluate(self, struct: Any) -> Any:
        return distributed.of_main(self._evaluator.evaluate(struct) if distributed.is_main() else None)
