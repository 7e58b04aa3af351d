"""Training that is saved between steps, stops on a signal, and goes on where it was left, bit for bit."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from logging import getLogger
from pathlib import Path
from typing import Any

import torch
from recbole.trainer import Trainer
from torch import Tensor

from recbole_hellm import signals
from recbole_hellm.checkpoints.folders import write_folder
from recbole_hellm.checkpoints.migration import FORMAT
from recbole_hellm.checkpoints.model_folder import read_model, read_packed, write_packed
from recbole_hellm.checkpoints.steps import Parts, StepLoop, check_finite
from recbole_hellm.config.every import Every
from recbole_hellm.config.specs import RunSpec
from recbole_hellm.errors import ArtifactError, ConfigError, HellmError
from recbole_hellm.trainer.epochs import EpochRecord, instead
from recbole_hellm.trainer.run_folder import BEST, DONE, LAST, run_folder, run_key, run_stem, why_nothing
from recbole_hellm.trainer.saving import SavingMixin, events_of

logger = getLogger(__name__)
STATE = "training"
"""Stem of the files with the state of a training."""


class _Enough(Exception):
    """Validation between two steps says that training is over."""


class ResumeMixin:
    """Goes in front of a RecBole trainer class; keeps the state between steps in the run's folder.

    Two kinds of training loop can be left and entered again: RecBole's plain one, and one that takes its batches from
    :meth:`batches_left` and its losses from :meth:`loss_of` (``steps_are_named``). Other trainers of RecBole
    (alternating losses, several optimisers, pre-training) train as ever and are refused with ``resume=yes``.
    """

    config: Any
    model: Any
    optimizer: Any
    epochs: int
    start_epoch: int
    eval_step: int
    best_valid_score: float
    best_valid_result: Any
    cur_step: int
    learning_rate: float
    train_loss_dict: dict[int, Any]
    epoch_records: list[EpochRecord]
    step_records: Sequence[dict[str, Any]]
    _train_epoch: Any
    steps_are_named: bool = False
    """Whether the training loop uses :meth:`batches_left` and :meth:`loss_of` itself."""
    _loop: StepLoop | None = None
    _folder: Path | None = None
    _validated: int = -1
    """Step after which the model was validated last."""
    _saved_at: tuple[int, int, float] = (-1, 0, 0.0)
    """Step, finished epochs and time of the last save."""
    _skipped: int = 0

    def fit(self, train_data: Any, valid_data: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Train as the trainer does, from where an interrupted run with the same settings stopped if asked to.

        Raises:
            Stopped: If a signal asked for it; the state is saved then.
            ArtifactError: If there is nothing to go on from with ``resume=yes``, or it is damaged.
        """
        run = RunSpec.from_config(self.config.final_config_dict)
        self._run, self._every = run, Every.parse("save_every", run.save_every)
        self._eval_every = Every.parse("eval_every", run.eval_every) if run.eval_every else None
        kind = self._kind()
        if kind is None:
            self._refuse_unnamed()
            return self._with_folder(train_data, valid_data, *args, **kwargs)
        if self._eval_every is not None:
            # Between steps it is this class that validates; RecBole must not, nor save unvalidated models.
            by_step = self._eval_every.unit == "step"
            self.validates_epochs = not by_step
            self.eval_step = max(1, self.epochs + 1) if by_step and valid_data else self._eval_every.count or 1
        self._loop = StepLoop(self._parts, self._between)
        self._train_data, self._valid_set = train_data, valid_data
        own = functools.partial(self._stepped_epoch, kind == "plain", self._train_epoch)
        with instead(self, "_train_epoch", own):
            return self._with_folder(train_data, valid_data, *args, **kwargs)

    def _kind(self) -> str | None:
        """Return whether the loop is RecBole's plain one, one that names its steps, or neither."""
        if self.steps_are_named:
            return "named"
        theirs = [c for c in type(self).__mro__ if c.__module__.startswith("recbole.trainer")]
        fits = next(c for c in theirs if "fit" in vars(c))
        return "plain" if fits is Trainer and type(self)._train_epoch is Trainer._train_epoch else None

    def _refuse_unnamed(self) -> None:
        for setting, asked in (("resume", self._run.resume == "yes"), ("eval_every", self._eval_every is not None)):
            if asked:
                raise ConfigError(
                    f"setting {setting!r} is not for model {self.config['model']!r}: its trainer in RecBole has a loop "
                    f"of its own, which cannot be left between two steps; remove {setting}"
                )

    def _with_folder(self, train_data: Any, valid_data: Any, *args: Any, **kwargs: Any) -> Any:
        """Train in the run's folder, if anything is saved at all."""
        saved = kwargs.get("saved", args[1] if len(args) > 1 else True)
        self._folder = None
        self._training_set = train_data._dataset  # what the run and its models belong to
        if not saved:
            if self._run.resume == "yes":
                raise ConfigError("setting 'resume' = 'yes' needs saved=True: nothing is kept without it")
            return self._fit(train_data, valid_data, *args, **kwargs)
        key = run_key(self.config, events_of(train_data._dataset))
        root, stem = Path(self.config["checkpoint_dir"]), run_stem(self.config)
        with run_folder(root, stem, key) as folder:
            self._folder = folder
            self.saved_model_file = str(folder / BEST)
            found = self._found(folder, root, stem)
            if found is not None and found["done"]:
                self._take(found)
                logger.info("training had ended already: the best model is in %s", folder / BEST)
                return self.best_valid_score, self.best_valid_result
            result = self._fit(train_data, valid_data, *args, **kwargs)
            self._write_done(folder)
            return result

    def _fit(self, train_data: Any, valid_data: Any, *args: Any, **kwargs: Any) -> Any:
        loop = self._loop
        if loop is None:
            return super().fit(train_data, valid_data, *args, **kwargs)  # type: ignore[misc]
        self._saved_at = (loop.step, loop.epoch, time.monotonic())
        end = loop.watch(self.optimizer)
        guard = self.optimizer.register_step_pre_hook(self._drop_bad_gradients)
        try:
            with signals.deferred(lambda: not loop.dirty):
                result = super().fit(train_data, valid_data, *args, **kwargs)  # type: ignore[misc]
                return self._validate_end(valid_data) or result
        except _Enough:
            return self.best_valid_score, self.best_valid_result
        except signals.Stopped as stop:
            stop.kept = self._keep_at_stop()
            raise
        finally:
            guard.remove()
            end()

    # ---- the loop ----------------------------------------------------------------------------------------------

    def _stepped_epoch(
        self, plain: bool, train_epoch: Any, train_data: Any, epoch_idx: int, *args: Any, **kwargs: Any
    ) -> Any:
        """Run an epoch, or what is left of it."""
        loop = self._loop
        assert loop is not None
        loop.begin_epoch(epoch_idx)
        if not plain:
            return train_epoch(train_data, epoch_idx, *args, **kwargs)
        show = kwargs.get("show_progress", False)
        loss_of = functools.partial(self.loss_of)
        train_epoch(_Watched(self, train_data), epoch_idx, loss_func=loss_of, show_progress=show)
        return added(loop.losses)

    def batches_left(self, batches: Iterable[Any]) -> Iterator[tuple[int, Any]]:
        """Yield the batches of an epoch with their place, without those an interrupted run has done."""
        if self._loop is None:  # an epoch by itself, outside of fit()
            self._alone: list[Any] = []
            return enumerate(batches)
        return self._loop.batches(batches)

    def loss_of(self, interaction: Any) -> Any:
        """Return the loss (or losses) of a batch, noted; one that is NaN or infinite ends the run or is left out.

        Raises:
            HellmError: Naming batch, step, last good state and the settings to change.
        """
        losses = self.model.calculate_loss(interaction)
        loss = sum(losses) if isinstance(losses, tuple) else losses
        if not bool(torch.isfinite(loss)):
            self._bad(f"training loss is {loss.item()}")
            # Of no parameter: the batch gives no gradient, and the optimiser leaves what has none as it is.
            return torch.zeros((), device=loss.device, requires_grad=True)
        self._losses.append(tuple(part.item() for part in losses) if isinstance(losses, tuple) else loss.item())
        return losses

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
            where = f" at batch {len(loop.losses) + 1} of epoch {loop.epoch + 1} (step {loop.step + 1})"
        if getattr(self, "_run", None) is not None and self._run.skip_bad_batches:
            self._skipped += 1
            logger.warning("%s%s: the batch is left out (skip_bad_batches), the %d. so far", what, where, self._skipped)
            return
        good = self._last_good()
        raise HellmError(
            f"{what}{where}; {good}; lower setting 'learning_rate', now {self.learning_rate}, or set "
            "llm_precision=fp32, or skip_bad_batches=yes"
        )

    def _last_good(self) -> str:
        folder = self._folder
        kept = [name for name in (LAST, BEST) if folder is not None and (folder / name).is_dir()]
        return f"the last good state is {folder / kept[0]}" if folder and kept else "no state was saved before"

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

    # ---- between two steps -------------------------------------------------------------------------------------

    def _between(self) -> None:
        loop = self._loop
        assert loop is not None
        every = self._eval_every
        if every is not None and every.unit == "step" and self._valid_set and self._validated != loop.step:
            if every.due(loop.step, None, 0.0):
                self._validate(loop)
        done = loop.epoch if loop.batch == 0 else None
        at, epochs, since = self._saved_at
        again = loop.step == at and (done is None or done == epochs)
        if self._folder is not None and not again and self._every.due(loop.step, done, time.monotonic() - since):
            self._save_state(self._folder)
        signals.check()

    def _validate(self, loop: StepLoop) -> None:
        """Validate between two steps, and end training if RecBole's rule says so."""
        stop = self._validate_last(loop.epoch)  # type: ignore[attr-defined]
        self._validated = loop.step
        self.model.train()
        loop.mark_again()
        logger.info("step %d: %s %.6f, best %.6f", loop.step, self.config["valid_metric"],
                    self.step_records[-1]["score"], self.best_valid_score)  # fmt: skip
        if stop:
            raise _Enough

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

    # ---- what is kept ------------------------------------------------------------------------------------------

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
        state = {"loop": loop.state(), "trainer": self._numbers()}
        about = {"epoch": loop.epoch + 1, "step": loop.step, "best_valid_score": float(self.best_valid_score)}
        self.write(folder / LAST, about, {STATE: state})  # type: ignore[attr-defined]
        self._saved_at = (loop.step, loop.epoch, time.monotonic())
        logger.info("state after step %d saved to %s", loop.step, folder / LAST)

    def _keep_at_stop(self) -> str:
        """Save the last place that was noted, and say so."""
        loop, folder = self._loop, self._folder
        if loop is None or folder is None or loop.mark is None or loop.dirty:
            return ""
        self._save_state(folder)
        return f"epoch {loop.epoch + 1}, step {loop.step} is kept in {folder / LAST}"

    def _write_done(self, folder: Path) -> None:
        if self._loop is None:
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
            for name in (LAST, DONE):
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
        self._loop.resume(state["loop"])
        self.start_epoch = self._loop.epoch
        logger.info("going on after step %d (epoch %d) of %s", self._loop.step, self._loop.epoch + 1, folder / LAST)
        return {"done": False}

    def _begins_after_stages(self, root: Path, stem: str) -> bool:
        """Return whether an interrupted run had come no further than its stages."""
        return bool(getattr(self, "stage_records", [])) and not any(root.glob(f"{stem}-*/{LAST}"))

    def _found_done(self, folder: Path) -> dict[str, Any]:
        from recbole_hellm.checkpoints.folders import read_manifest

        read_manifest(folder / DONE)
        numbers = read_packed(folder / DONE, STATE)
        if numbers["has_best"] and not (folder / BEST).is_dir():
            raise ArtifactError(f"{folder / BEST} is missing, which training had saved; set resume=no to train again")
        return {**numbers, "done": True}

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


class _Watched:
    """A loader of RecBole whose batches come through :meth:`ResumeMixin.batches_left`."""

    def __init__(self, trainer: ResumeMixin, loader: Any) -> None:
        self._trainer, self._loader = trainer, loader

    def __iter__(self) -> Iterator[Any]:
        return (batch for _, batch in self._trainer.batches_left(self._loader))

    def __len__(self) -> int:
        return len(self._loader)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


def added(losses: Iterable[Any]) -> Any:
    """Return the losses of an epoch added up as RecBole's loop does: one by one, tuples by place."""
    total: Any = None
    for loss in losses:
        if total is None:
            total = loss
        else:
            total = tuple(map(sum, zip(total, loss, strict=True))) if isinstance(loss, tuple) else total + loss
    return math.nan if total is None else total


def _remove(folder: Path) -> None:
    """Delete a checkpoint so that it is gone at once, whatever happens during the deletion."""
    import shutil
    from secrets import token_hex

    if folder.is_dir():
        doomed = folder.with_name(f".{folder.name}-{token_hex(8)}")
        folder.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)


__all__ = ["ResumeMixin", "SavingMixin", "Tensor", "added"]
