"""Validation between two steps of an epoch (``eval_every``)."""

from __future__ import annotations

from collections.abc import Sequence
from logging import getLogger
from typing import Any

from recbole_hellm import signals
from recbole_hellm.checkpoints.steps import StepLoop
from recbole_hellm.config.every import Every

logger = getLogger(__name__)


class Enough(Exception):
    """Validation between two steps says that training is over."""


class StepValidationMixin:
    """Part of :class:`~recbole_hellm.trainer.resume.ResumeMixin`: the model validated between two steps."""

    config: Any
    model: Any
    best_valid_score: float
    best_valid_result: Any
    step_records: Sequence[dict[str, Any]]
    _loop: StepLoop | None
    _validated: int
    _valid_set: Any
    _eval_every: Every | None

    def _validate_if_due(self, loop: StepLoop) -> None:
        """Validate where ``eval_every`` counts steps and it is time, once a step.

        Raises:
            Enough: If training is over by RecBole's rule.
        """
        every = self._eval_every
        if (
            every is not None
            and every.unit == "step"
            and self._valid_set
            and self._validated != loop.step
            and every.due(loop.step, None, 0.0)
        ):
            self._validate(loop)

    def _validate(self, loop: StepLoop) -> None:
        """Validate between two steps, and end training if RecBole's rule says so."""
        stop = self._validate_last(loop.epoch)  # type: ignore[attr-defined]
        self._validated = loop.step
        self.model.train()
        loop.mark_again()
        logger.info("step %d: %s %.6f, best %.6f", loop.step, self.config["valid_metric"],
                    self.step_records[-1]["score"], self.best_valid_score)  # fmt: skip
        if stop:
            raise Enough

    def _validate_end(self, valid_data: Any) -> Any:
        """Validate the last weights of a training that is validated by steps; returns the result of fit()."""
        loop, every = self._loop, self._eval_every
        if loop is None or every is None or every.unit != "step" or not valid_data or self._validated == loop.step:
            return None
        self._validate_last(loop.epoch)  # type: ignore[attr-defined]
        self._validated = loop.step
        return self.best_valid_score, self.best_valid_result

    def _valid_epoch(self, valid_data: Any, *args: Any, **kwargs: Any) -> Any:
        # An evaluation changes nothing: a request to stop need not wait for its end.
        with signals.at_once():
            score, result = super()._valid_epoch(valid_data, *args, **kwargs)  # type: ignore[misc]
        if self._eval_every is not None and self._eval_every.unit == "step" and self._loop is not None:
            valid = {name: float(value) for name, value in result.items()}
            place = {"step": self._loop.step, "epoch": self._loop.epoch + 1, "score": float(score)}
            self.step_records = [*self.step_records, {**place, "valid": valid}]
        return score, result
