"""Losses of a training loop: noted by batch, and what happens to one that is NaN or infinite."""

from __future__ import annotations

import math
from collections.abc import Iterable
from logging import getLogger
from typing import Any

import torch

from recbole_hellm.checkpoints.steps import StepLoop
from recbole_hellm.config.specs import RunSpec
from recbole_hellm.errors import HellmError

logger = getLogger(__name__)


class LossMixin:
    """Part of :class:`~recbole_hellm.trainer.resume.ResumeMixin`: the loss of a batch, checked and noted."""

    model: Any
    optimizer: Any
    learning_rate: float
    _last_good: Any
    _loop: StepLoop | None = None
    _run: RunSpec = RunSpec()
    _alone: list[Any]
    _skipped: int = 0

    def loss_of(self, interaction: Any) -> Any:
        """Return the loss (or losses) of a batch, noted; one that is NaN or infinite ends the run or is left out.

        Raises:
            HellmError: Naming batch, step, last good state and the settings to change.
        """
        losses = self.model.calculate_loss(interaction)
        loss: Any = sum(losses) if isinstance(losses, tuple) else losses
        if not bool(torch.isfinite(loss)):
            self._bad(f"training loss is {loss.item()}")
            # Of no parameter: the batch gives no gradient, and the optimiser leaves what has none as it is.
            nothing = torch.zeros((), device=loss.device, requires_grad=True)
            return tuple(nothing for _ in losses) if isinstance(losses, tuple) else nothing
        self._losses.append(tuple(part.item() for part in losses) if isinstance(losses, tuple) else loss.item())
        return losses

    def note(self, loss: float | None) -> None:
        """Note the mean loss of a batch; ``None``: it was left out."""
        if loss is not None:
            self._losses.append(loss)

    @property
    def _losses(self) -> list[Any]:
        return self._loop.losses if self._loop is not None else self._alone

    def mean_loss(self) -> float:
        """Return the mean loss of the epoch's batches so far, NaN if all were left out."""
        losses = self._losses
        return sum(losses) / len(losses) if losses else math.nan

    def _bad(self, what: str) -> None:
        """Leave a batch out, or stop."""
        loop, where = self._loop, ""
        if loop is not None:
            where = f" at batch {loop.place + 1} of epoch {loop.epoch + 1} (step {loop.step + 1})"
        if self._run.skip_bad_batches:
            self._skipped += 1
            logger.warning("%s%s: the batch is left out (skip_bad_batches), the %d. so far", what, where, self._skipped)
            return
        raise HellmError(
            f"{what}{where}; {self._last_good()}; lower setting 'learning_rate', now {self.learning_rate}, or set "
            "llm_precision=fp32, or skip_bad_batches=yes"
        )

    def _drop_bad_gradients(self, *_: Any) -> None:
        """With ``skip_bad_batches``: take a NaN or infinite gradient away before the optimiser sees it."""
        if not self._run.skip_bad_batches:
            return
        weights = [p for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        if all(bool(torch.isfinite(p.grad).all()) for p in weights):
            return
        self._bad("a gradient is NaN or infinite")
        for weight in weights:
            weight.grad = None


def added(losses: Iterable[Any]) -> Any:
    """Return the losses of an epoch added up as RecBole's loop does: one by one, tuples by place."""
    total: Any = None
    for loss in losses:
        if total is None:
            total = loss
        else:
            total = tuple(map(sum, zip(total, loss, strict=True))) if isinstance(loss, tuple) else total + loss
    return math.nan if total is None else total
