"""A step and an evaluation of one run on several processes; RecBole's own distribution is never used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from recbole_hellm import distributed
from recbole_hellm.artifacts import fingerprint
from recbole_hellm.checkpoints import random_state
from recbole_hellm.checkpoints.steps import StepLoop
from recbole_hellm.trainer.memory import BadLoss


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
    _loop: StepLoop | None

    def __init__(self, config: Any, model: Any) -> None:
        super().__init__(config, model)  # type: ignore[call-arg]
        if distributed.world_size() > 1:
            self.evaluator = _OnMain(self.evaluator)

    def fit(self, *args: Any, **kwargs: Any) -> Any:
        """Train as the trainer does, from the same weights on every process."""
        distributed.spread(self._trained())
        return super().fit(*args, **kwargs)  # type: ignore[misc]

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
        rows = torch.arange(distributed.rank(), len(batch), distributed.world_size(), device=self.device)
        earlier = [parameter.grad for parameter in trained]
        for parameter in trained:
            parameter.grad = None
        loss, targets, bad = 0.0, 0, 0.0
        if len(rows):
            with self._own_random():
                try:
                    loss, targets = self.gradients(batch[rows], 1)  # type: ignore[attr-defined]
                except BadLoss:
                    bad = 1.0
        total, all_targets, all_bad = distributed.sums([loss * targets, targets, bad])
        if all_bad:
            for parameter, gradient in zip(trained, earlier, strict=True):
                parameter.grad = gradient
            self._bad(f"training loss is NaN or infinite on {int(all_bad)} of {distributed.world_size()} processes")  # type: ignore[attr-defined]
            return None
        for parameter, gradient in zip(trained, earlier, strict=True):
            if parameter.grad is not None:
                parameter.grad.mul_(targets / (all_targets * steps))
            if gradient is not None:
                parameter.grad = gradient if parameter.grad is None else gradient.add_(parameter.grad)
        return total / all_targets

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
