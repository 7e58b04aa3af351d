"""A line per epoch, and an end when the training time is over."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from logging import getLogger
from typing import Any

from recbole.utils import early_stopping

from recbole_hellm import distributed
from recbole_hellm.config.specs import RunSpec

logger = getLogger(__name__)


@dataclass
class EpochRecord:
    """What one pass over the training data gave."""

    epoch: int
    """From 1."""
    loss: float
    seconds: float
    """Of the training pass alone."""
    valid: dict[str, float] | None = None
    """RecBole's metrics on the validation split, if it was read after this epoch."""


class _Over(Exception):
    """No further epoch is to start; the text says why."""


class EpochsMixin:
    """Goes in front of a RecBole trainer class; its training loop stays RecBole's own.

    RecBole ends training by epochs or by patience. With the setting ``train_minutes`` no epoch starts that, at the pace
    so far, would end later; the first epoch always runs, and the last one is always validated.

    Attributes:
        epoch_records: A record per finished epoch.
        step_records: What each validation within an epoch gave: ``step``, ``epoch``, ``score``, ``valid``.
        validates_epochs: Whether it is finished epochs that are validated, not steps.
        seconds_before: What counts as used when training starts (the stages).
        planned_epochs: Epochs that a learning-rate schedule spans where training is to end before them; ``None``: all.
        records_before: Records and seconds of the training before it was interrupted.
        begun_epoch: The epoch in which it was interrupted (from 0), and its seconds before.
        after_validation: Gets the record of every validated epoch; where it returns true, no further epoch starts.
        best_epoch: The epoch whose weights were kept (from 1); ``None`` if nothing was validated.
    """

    config: Any
    valid_metric: str
    valid_metric_bigger: bool
    eval_step: int
    stopping_step: int
    cur_step: int
    best_valid_score: float
    best_valid_result: Any
    _train_epoch: Any
    epoch_records: list[EpochRecord]
    step_records: Sequence[dict[str, Any]] = ()
    validates_epochs: bool = True
    seconds_before: float = 0.0
    planned_epochs: int | None = None
    records_before: tuple[list[EpochRecord], float] = ([], 0.0)
    begun_epoch: tuple[int, float] = (-1, 0.0)
    after_validation: Callable[[EpochRecord], bool] | None = None
    _is_enough: bool = False
    _minutes: float = 0.0
    _started: float | None = None
    _valid_data: Any = None
    _saves: bool = True

    def fit(self, train_data: Any, valid_data: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Train as RecBole does; same arguments and result."""
        self.epoch_records = list(self.records_before[0])
        self._minutes = RunSpec.from_config(self.config.final_config_dict).train_minutes
        self._started = time.perf_counter() - self.records_before[1]
        self._valid_data, self._saves = valid_data, kwargs.get("saved", True)
        with instead(self, "_train_epoch", functools.partial(self._recorded_epoch, self._train_epoch)):
            try:
                return super().fit(train_data, valid_data, *args, **kwargs)  # type: ignore[misc]
            except _Over as over:
                logger.info("%s after %d epochs", over, len(self.epoch_records))
                return self.best_valid_score, self.best_valid_result

    @property
    def best_epoch(self) -> int | None:
        """Return the epoch whose weights were kept, by RecBole's rule: of equal ones the last."""
        best, score = None, None
        read = [(record.epoch, record.valid) for record in getattr(self, "epoch_records", [])]
        read += [(record["epoch"], record["valid"]) for record in self.step_records]
        for epoch, valid in read:
            if valid is not None:
                value = valid[self.valid_metric]
                if score is None or (value >= score if self.valid_metric_bigger else value <= score):
                    best, score = epoch, value
        return best

    @property
    def time_share(self) -> float | None:
        """Return the used share of the training time, ``None`` if it has no limit."""
        used = self._seconds_used() / (60 * self._minutes) if self._minutes else None
        return None if used is None else float(distributed.of_main(used))

    def _seconds_used(self) -> float:
        return self.seconds_before + (time.perf_counter() - self._started if self._started is not None else 0.0)

    def _recorded_epoch(self, train_epoch: Any, train_data: Any, epoch_idx: int, *args: Any, **kwargs: Any) -> Any:
        """Run an epoch of the trainer if there is time for it, and keep its record."""
        begun, before = self.begun_epoch
        if epoch_idx != begun:  # one that was interrupted is finished
            self._end_in_time()
            before = 0.0
        started = time.perf_counter() - before
        loss = train_epoch(train_data, epoch_idx, *args, **kwargs)
        total = float(sum(loss) if isinstance(loss, tuple) else loss)
        self.epoch_records.append(EpochRecord(epoch_idx + 1, total, time.perf_counter() - started))
        return loss

    def _valid_epoch(self, valid_data: Any, *args: Any, **kwargs: Any) -> Any:
        score, result = super()._valid_epoch(valid_data, *args, **kwargs)  # type: ignore[misc]
        if self.validates_epochs and getattr(self, "epoch_records", None):
            self.epoch_records[-1].valid = {name: float(value) for name, value in result.items()}
            if self.after_validation is not None:
                self._is_enough = bool(distributed.of_main(self.after_validation(self.epoch_records[-1])))
        return score, result

    def _end_in_time(self) -> None:
        """End training if that was asked for, or one more epoch, as long as those before, would end after the limit."""
        records = getattr(self, "epoch_records", [])
        if self._is_enough and records:  # not what a training before this one was told
            raise _Over("training is ended by its caller")
        if not self._minutes or not records or self._started is None:
            return
        pace = (time.perf_counter() - self._started) / len(records)
        if distributed.of_main(self._seconds_used() + pace <= 60 * self._minutes):
            return
        if self.validates_epochs and records[-1].valid is None and self._valid_data and self.eval_step > 0:
            self._validate_last(records[-1].epoch - 1)
        raise _Over("training time is over")

    def _validate_last(self, epoch_idx: int) -> bool:
        """Validate out of turn, keep the model if it is the best; returns whether training should stop."""
        score, result = self._valid_epoch(self._valid_data)
        self.best_valid_score, self.cur_step, stop, better = early_stopping(
            score,
            self.best_valid_score,
            self.cur_step,
            max_step=self.stopping_step,
            bigger=self.valid_metric_bigger,
        )
        if better:
            self.best_valid_result = result
            if self._saves:
                self._save_checkpoint(epoch_idx)  # type: ignore[attr-defined]
        return bool(stop)


@contextmanager
def instead(owner: Any, name: str, method: Callable[..., Any]) -> Iterator[None]:
    """Inside, a method of one object is another one: a trainer with an epoch of its own may stand in front."""
    before = owner.__dict__.get(name)
    owner.__dict__[name] = method
    try:
        yield
    finally:
        if before is None:
            del owner.__dict__[name]
        else:
            owner.__dict__[name] = before


def as_curve(records: list[EpochRecord]) -> list[dict[str, Any]]:
    """Return records as plain values, for the result file."""
    return [asdict(record) for record in records]
