"""What a training keeps on the disk to be continued, and how it is found again."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Mapping, Sequence
from logging import getLogger
from pathlib import Path
from secrets import token_hex
from typing import Any

import torch

from recbole_hellm import distributed
from recbole_hellm.checkpoints.folders import read_manifest, write_folder
from recbole_hellm.checkpoints.migration import FORMAT
from recbole_hellm.checkpoints.model_folder import read_model, read_packed, write_packed
from recbole_hellm.checkpoints.parts import Parts, check_finite
from recbole_hellm.checkpoints.steps import StepLoop
from recbole_hellm.config.specs import RunSpec
from recbole_hellm.errors import ArtifactError, HellmError
from recbole_hellm.trainer.epochs import EpochRecord
from recbole_hellm.trainer.run_folder import BEST, DONE, LAST, why_nothing

logger = getLogger(__name__)
STATE = "training"
"""Stem of the files with the state of a training."""


class KeepingMixin:
    """Part of :class:`~recbole_hellm.trainer.resume.ResumeMixin`: the files of a run's folder."""

    config: Any
    model: Any
    start_epoch: int
    learning_rate: float
    best_valid_score: float
    best_valid_result: Any
    cur_step: int
    train_loss_dict: dict[int, Any]
    epoch_records: list[EpochRecord]
    step_records: Sequence[dict[str, Any]]
    validates_epochs: bool
    records_before: tuple[list[EpochRecord], float]
    begun_epoch: tuple[int, float]
    _run: RunSpec
    _train_data: Any
    _training_set: Any
    _loop: StepLoop | None = None
    _folder: Path | None = None
    _validated: int = -1
    """Step after which the model was validated last."""
    _saved_at: tuple[int, int, float] = (-1, 0, 0.0)
    """Step, finished epochs and time of the last save."""
    _skipped: int = 0

    def _last_good(self) -> str:
        folder = self._folder
        kept = [name for name in (LAST, BEST) if folder is not None and (folder / name).is_dir()]
        return f"the last good state is {folder / kept[0]}" if folder and kept else "no state was saved before"

    def _parts(self) -> Parts:
        """Return what a step changes: the model, and every optimiser, schedule and generator of this trainer."""
        mine = vars(self)
        schedulers = {k: v for k, v in mine.items() if isinstance(v, torch.optim.lr_scheduler.LRScheduler)}
        generators = {k: v for k, v in mine.items() if isinstance(v, torch.Generator)}
        loader = getattr(self._train_data, "generator", None)
        if isinstance(loader, torch.Generator):
            generators["train_data"] = loader
        optimizers = {k: v for k, v in mine.items() if isinstance(v, torch.optim.Optimizer)}
        return Parts({"model": self.model}, optimizers, schedulers, generators)

    def _numbers(self) -> dict[str, Any]:
        """Return what the trainer counts: early stopping, the best so far, records, times."""
        used = self._seconds_used() - self.seconds_before  # type: ignore[attr-defined]
        return {
            "cur_step": self.cur_step,
            "best_valid_score": float(self.best_valid_score),
            "best_valid_result": None if self.best_valid_result is None else dict(self.best_valid_result),
            "train_loss_dict": dict(self.train_loss_dict),
            "epoch_records": [vars(record) for record in self.epoch_records],
            "step_records": list(self.step_records),
            "validated": self._validated,
            "skipped": self._skipped,
            "seconds": used,
        }

    def _save_state(self, folder: Path) -> None:
        loop = self._loop
        assert loop is not None
        broken = check_finite(loop.parts())
        if broken is not None:
            raise HellmError(
                f"{broken} became NaN or infinite at step {loop.step}; {self._last_good()}; lower setting "
                f"'learning_rate', now {self.learning_rate}"
            )
        if not distributed.is_main():
            self._saved_at = (loop.step, loop.epoch, time.monotonic())
            return
        numbers = self._numbers()
        # In its validation the epoch has a record already, and gets it anew when it is entered again.
        numbers["epoch_records"] = [record for record in numbers["epoch_records"] if record["epoch"] <= loop.epoch]
        numbers["train_loss_dict"] = {epoch: x for epoch, x in numbers["train_loss_dict"].items() if epoch < loop.epoch}
        state = {"loop": loop.state(), "trainer": numbers}
        inside = self.model.state_dict()  # is in the model's own file already
        kept = state["loop"]["parts"]["modules"]["model"]
        state["loop"]["parts"]["modules"]["model"] = {key: t for key, t in kept.items() if key not in inside}
        about = {"epoch": loop.epoch + 1, "step": loop.step, "best_valid_score": float(self.best_valid_score)}
        self.write(folder / LAST, about, {STATE: state})  # type: ignore[attr-defined]
        self._saved_at = (loop.step, loop.epoch, time.monotonic())
        logger.info("state after step %d saved to %s", loop.step, folder / LAST)

    def _keep_at_stop(self) -> str:
        """Save the last place that was noted, and say so."""
        loop, folder = self._loop, self._folder
        if loop is None or folder is None or loop.mark is None or loop.dirty or not distributed.is_main():
            return ""
        self._save_state(folder)
        return f"epoch {loop.epoch + 1}, step {loop.step} is kept in {folder / LAST}"

    def _write_done(self, folder: Path) -> None:
        if self._loop is None or not distributed.is_main():
            return
        numbers = {**self._numbers(), "has_best": (folder / BEST).is_dir(), "step": self._loop.step}
        about = {"format": FORMAT, "about": {}}
        write_folder(folder / DONE, about, lambda scratch: write_packed(scratch, STATE, numbers),
                     "free space there, or set checkpoint_dir to another folder")  # fmt: skip
        _remove(folder / LAST)

    def _found(self, folder: Path, root: Path, stem: str) -> dict[str, Any] | None:
        """Return what there is to go on from, prepared; without ``resume`` older states are removed."""
        if self._loop is None:
            return None
        if self._run.resume == "no":
            for name in (LAST, DONE) if distributed.is_main() else ():
                _remove(folder / name)
            return None
        if (folder / DONE).is_dir():
            return self._found_done(folder)
        if not (folder / LAST).is_dir():
            if self._run.resume == "yes" and not self._begins_after_stages(root, stem):
                why = why_nothing(root, stem, self.config.final_config_dict)
                raise ArtifactError(f"setting 'resume' = 'yes', but {why}; set resume=auto to begin anew")
            return None
        stored = read_model(folder / LAST, extra=(STATE,))
        if STATE not in stored.extra:
            raise ArtifactError(f"{folder / LAST} has no {STATE}.json; delete it, or set resume=no")
        self.identity(self._training_set).check(str(folder / LAST), stored.identity, stored.items)  # type: ignore[attr-defined]
        state = stored.extra[STATE]
        self._take(state["trainer"])
        modules = state["loop"]["parts"]["modules"]
        modules["model"] = {**stored.state, **modules["model"]}
        self._loop.resume(state["loop"])
        self.start_epoch = self._loop.epoch
        if self._loop.batch > 0:
            self.begun_epoch = self._loop.epoch, float(state["loop"]["seconds"])
        self._check_best(folder, math.isfinite(self.best_valid_score))
        logger.info("going on after step %d (epoch %d) of %s", self._loop.step, self._loop.epoch + 1, folder / LAST)
        return {"done": False}

    def _begins_after_stages(self, root: Path, stem: str) -> bool:
        """Return whether an interrupted run had come no further than its stages."""
        return bool(getattr(self, "stage_records", [])) and not any(root.glob(f"{stem}-*/{LAST}"))

    def _found_done(self, folder: Path) -> dict[str, Any]:
        read_manifest(folder / DONE)
        numbers = read_packed(folder / DONE, STATE)
        self._check_best(folder, numbers["has_best"])
        return {**numbers, "done": True}

    @staticmethod
    def _check_best(folder: Path, saved: bool) -> None:
        if saved and not (folder / BEST).is_dir():
            raise ArtifactError(f"{folder / BEST} is missing, which training had saved; set resume=no to train again")

    def _take(self, numbers: Mapping[str, Any]) -> None:
        """Put back what :meth:`_numbers` gave."""
        self.cur_step, self.best_valid_score = numbers["cur_step"], numbers["best_valid_score"]
        self.best_valid_result = numbers["best_valid_result"]
        self.train_loss_dict = dict(numbers["train_loss_dict"])
        self.step_records = list(numbers["step_records"])
        self._validated, self._skipped = numbers["validated"], numbers["skipped"]
        records = [EpochRecord(**record) for record in numbers["epoch_records"]]
        self.records_before = (records, float(numbers["seconds"]))
        self.epoch_records = list(records)


def _remove(folder: Path) -> None:
    """Delete a checkpoint so that it is gone at once, whatever happens during the deletion."""
    if folder.is_dir():
        doomed = folder.with_name(f".{folder.name}-{token_hex(8)}")
        folder.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)
