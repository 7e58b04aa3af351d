"""Training that is saved between steps, stops on a signal, and goes on where it was left, bit for bit."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable, Iterator
from logging import getLogger
from pathlib import Path
from typing import Any

from recbole.trainer import Trainer

from recbole_hellm import distributed, signals
from recbole_hellm.checkpoints.steps import StepLoop
from recbole_hellm.config.every import Every
from recbole_hellm.config.specs import RunSpec
from recbole_hellm.errors import ConfigError, HellmError
from recbole_hellm.trainer.epochs import instead
from recbole_hellm.trainer.keeping import KeepingMixin
from recbole_hellm.trainer.losses import LossMixin, added
from recbole_hellm.trainer.run_folder import BEST, run_key, run_stem, shared_run_folder
from recbole_hellm.trainer.saving import events_of, targets_of
from recbole_hellm.trainer.step_validation import Enough, StepValidationMixin

logger = getLogger(__name__)
SIGNAL_SECONDS = 2.0
"""How long the same signal may take to reach all processes of a run."""


class ResumeMixin(LossMixin, StepValidationMixin, KeepingMixin):
    """Goes in front of a RecBole trainer class; keeps the state between steps in the run's folder.

    Two kinds of training loop can be left and entered again: RecBole's plain one, and one that takes its batches from
    :meth:`batches_left` and names their losses (``steps_are_named``): by :meth:`loss_of`, or by :meth:`backward` of
    :class:`~recbole_hellm.trainer.memory.MemoryMixin` and :meth:`note`. Either way a loss that is NaN or infinite ends
    the run or, with ``skip_bad_batches``, is left out. Other trainers of RecBole (alternating losses, several
    optimisers, pre-training) train as ever and are refused with ``resume=yes``.
    """

    optimizer: Any
    epochs: int
    eval_step: int
    eval_collector: Any
    saved_model_file: str
    _train_epoch: Any
    steps_are_named: bool = False
    """Whether the training loop uses :meth:`batches_left` and names its losses itself."""

    def fit(self, train_data: Any, valid_data: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Train as the trainer does, from where an interrupted run with the same settings stopped if asked to.

        Raises:
            Stopped: If a signal asked for it; the state is saved then.
            ArtifactError: If there is nothing to go on from with ``resume=yes``, or it is damaged.
        """
        run = RunSpec.from_config(self.config.final_config_dict)
        self._run, self._every = run, Every.parse("save_every", run.save_every)
        self._eval_every = Every.parse("eval_every", run.eval_every) if run.eval_every else None
        # What an earlier training of this object left.
        self._loop, self._validated, self._skipped, self.step_records = None, -1, 0, ()
        self.records_before, self.begun_epoch = ([], 0.0), (-1, 0.0)
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
            try:
                return self._with_folder(train_data, valid_data, *args, **kwargs)
            finally:
                self._loop = None

    def _kind(self) -> str | None:
        """Return whether the loop is RecBole's plain one, one that names its steps, or neither."""
        if self.steps_are_named:
            return "named"
        lineage = type(self).__mro__
        fits = next(c for c in lineage if c.__module__.startswith("recbole.trainer") and "fit" in vars(c))
        trains = next(c for c in lineage if "_train_epoch" in vars(c))
        return "plain" if fits is trains is Trainer else None

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
        stages = [Path(record.path).name for record in getattr(self, "stage_records", ())]
        key = run_key(self.config, events_of(train_data._dataset), targets_of(valid_data), stages)
        root, stem = Path(self.config["checkpoint_dir"]), run_stem(self.config)
        with shared_run_folder(root, stem, key) as folder:
            self._folder = folder
            self.saved_model_file = str(folder / BEST)
            found = self._found(folder, root, stem)
            if found is not None and found["done"]:
                self._take(found)
                self.eval_collector.data_collect(train_data)  # as RecBole's fit() does, for metrics that need it
                logger.info("training had ended already: the best model is in %s", folder / BEST)
                return self.best_valid_score, self.best_valid_result
            result = self._fit(train_data, valid_data, *args, **kwargs)
            self._write_done(folder)
            signals.check()  # one that came after the last step
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
        except Enough:
            return self.best_valid_score, self.best_valid_result
        except signals.Stopped as stop:
            # Where another process was asked first, the signal to this one is still to come.
            with signals.deferred(lambda: False):
                stop.kept = self._keep_at_stop()
            raise
        except distributed.PeerLost as lost:
            raise self._left_alone(lost) from lost
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise HellmError(
                f"a worker process of the data loader died ({' '.join(str(error).split())}); {self._last_good()}; "
                "often memory ran out: set a smaller worker (0: none), and resume=auto to go on"
            ) from error
        finally:
            guard.remove()
            end()

    def _left_alone(self, lost: distributed.PeerLost) -> BaseException:
        """Keep the state without the others: they may have heard a signal that is only now coming here, or died."""
        deadline = time.monotonic() + SIGNAL_SECONDS
        with signals.deferred(lambda: False):  # nothing breaks off what is saved here
            while not signals.asked() and time.monotonic() < deadline:
                time.sleep(0.05)
            kept = self._keep_at_stop()
        if signals.asked():
            stop = signals.Stopped(signals.asked())
            stop.kept = kept
            return stop
        return distributed.PeerLost(f"{lost}; {kept}; --resume=yes goes on there") if kept else lost

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
        train_epoch(_Watched(self, train_data), epoch_idx, loss_func=self.loss_of, show_progress=show)
        return added(loop.losses)

    def batches_left(self, batches: Iterable[Any]) -> Iterator[tuple[int, Any]]:
        """Yield the batches of an epoch with their place, without those an interrupted run has done."""
        if self._loop is None:  # an epoch by itself, outside of fit()
            self._alone = []
            return enumerate(batches)
        return self._loop.batches(batches)

    def _between(self) -> None:
        loop = self._loop
        assert loop is not None
        self._validate_if_due(loop)
        done = loop.epoch if loop.batch == 0 else None
        at, epochs, since = self._saved_at
        again = loop.step == at and (done is None or done == epochs)
        due = self._folder is not None and not again and self._every.due(loop.step, done, time.monotonic() - since)
        # What the clock of the main process says, and what any process was asked to, is for all.
        due, asked = self._agreed(due)
        if due and self._folder is not None:
            self._save_state(self._folder)
        signals.check(asked)

    @staticmethod
    def _agreed(due: bool) -> tuple[bool, int]:
        """Return whether to save and which signal asks to stop (0: none), the same on every process."""
        if distributed.world_size() == 1:
            return due, 0
        saves, asked = distributed.maxima([float(due and distributed.is_main()), float(signals.asked())])
        return bool(saves), int(asked)


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
