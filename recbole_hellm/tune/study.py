"""A study on disk: Optuna's storage in one SQLite file, with the locks that make kills and parallel processes safe."""

from __future__ import annotations

import fcntl
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from recbole_hellm.errors import ArtifactError, ConfigError
from recbole_hellm.tune.best import best_of
from recbole_hellm.tune.identity import what_differs
from recbole_hellm.tune.plan import Plan
from recbole_hellm.tune.space import choose, grid, label

try:
    import optuna
    from optuna.trial import FrozenTrial, Trial, TrialState
except ImportError as _missing:
    raise ConfigError("tune needs Optuna; run: pip install 'optuna>=5,<6' (or recbole-hellm[tune])") from _missing

ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
"""By the status of a record."""


@dataclass
class Ticket:
    """A trial that this process runs, locked until :meth:`Study.end`."""

    trial: Trial
    chosen: dict[str, Any]
    """The searched settings and their values."""
    same: dict[str, Any] | None
    """Record of an earlier trial with the same values."""
    lock: IO[str]

    @property
    def number(self) -> int:
        """From 0."""
        return self.trial.number


class Study:
    """A study in ``folder``; several processes may have it open.

    A trial's record (what :mod:`.runner` makes of it) is kept in the storage before the trial is told its value, so
    what a kill interrupts is either there in full or not at all. A process that runs a trial holds a lock on a file of
    its own, which the system gives up with the process: a trial that runs without it was killed, and is run again.

    Args:
        folder: Where it lies; made if missing.
        plan: What is searched.
        about: As :func:`recbole_hellm.tune.identity.identity` gives it.
        bigger: Whether a larger metric is better.

    Raises:
        ArtifactError: If the folder has a study of other data, settings, space or code, or cannot be written.
    """

    def __init__(self, folder: Path, plan: Plan, about: Mapping[str, Any], bigger: bool) -> None:
        self.folder, self.plan, self.bigger = folder, plan, bigger
        self.about, self.metric = dict(about), str(about["metric"])
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            (folder / "running").mkdir(parents=True, exist_ok=True)
            with self.locked():
                self._study = self._open(about)
        except OSError as error:
            raise ArtifactError(
                f"study {folder} cannot be written ({error.strerror or error}); free space there, or give another "
                "--output DIR"
            ) from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Let one process at a time do what is inside."""
        with (self.folder / ".lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def next_trial(self) -> Ticket | None:
        """Return a new trial, or ``None`` if the study has all its trials or no time for another."""
        with self.locked():
            self._recover()
            if self._is_over():
                return None
            n_trials = len(self._study.get_trials(deepcopy=False))
            self._study.sampler = _sampler(self.plan, n_trials)
            trial = self._study.ask()
            lock = self._lock_of(trial.number).open("a")
            fcntl.flock(lock, fcntl.LOCK_EX)
            return Ticket(trial, chosen := choose(self.plan.space, trial), self._same_as(chosen), lock)

    def report(self, ticket: Ticket, epoch: int, value: float) -> bool:
        """Note the metric after an epoch; return whether the trial is not worth going on."""
        ticket.trial.report(value, epoch)
        return self.plan.search.pruner != "none" and ticket.trial.should_prune()

    def end(self, ticket: Ticket, record: Mapping[str, Any]) -> None:
        """Keep a trial's record and tell its value to the search."""
        number = ticket.number
        ticket.trial.set_user_attr("record", dict(record))
        with self.locked():
            self._tell(number, record)
        self._clear(number)
        ticket.lock.close()

    def records(self) -> list[dict[str, Any]]:
        """Return the record of every ended trial by number."""
        trials = self._study.get_trials(deepcopy=False, states=ENDED)
        return [dict(trial.user_attrs["record"]) for trial in trials if "record" in trial.user_attrs]

    def best(self) -> dict[str, Any] | None:
        """Return the record of the best complete trial, of equal ones the first."""
        return best_of(self.records(), self.bigger)

    def importances(self) -> dict[str, float]:
        """Return the share of each setting in the spread of complete trials (PED-ANOVA), largest first."""
        complete = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if len({trial.value for trial in complete}) < 2:
            return {}
        with suppress(ValueError, RuntimeError), warnings.catch_warnings():  # fewer trials than it needs
            warnings.simplefilter("ignore")  # the report says it where they are few
            shares = optuna.importance.get_param_importances(self._study)
            return {key: float(share) for key, share in shares.items()}
        return {}

    def left(self) -> str:
        """Return in words why no further trial starts; empty if one would."""
        counted, limit = self._counted(), self.plan.trials
        if len(counted) >= limit:
            running = sum(trial.state is TrialState.RUNNING for trial in counted)
            elsewhere = f", {running} of them still in another process" if running else ""
            return f"all {limit} trials are there{elsewhere}" if limit else "no trial was asked for"
        return f"no time for another trial within {self.plan.search.minutes:g} minutes" if self._is_over() else ""

    def _open(self, about: Mapping[str, Any]) -> optuna.Study:
        storage = optuna.storages.RDBStorage(
            f"sqlite:///{self.folder / 'study.db'}", engine_kwargs={"connect_args": {"timeout": 120}}
        )
        study = optuna.create_study(
            storage=storage,
            study_name="study",
            direction="maximize" if self.bigger else "minimize",
            load_if_exists=True,
            pruner=_pruner(self.plan),
        )
        before = study.user_attrs.get("about")
        if before is None:
            study.set_user_attr("about", dict(about))
        elif differs := what_differs(before, about):
            raise ArtifactError(
                f"study {self.folder} is of another search: {differs}; its trials cannot be compared with new ones: "
                "give another --study NAME, or change that back"
            )
        if self.plan.search.sampler == "grid" and not study.user_attrs.get("grid"):
            for point in grid(self.plan.space):
                study.enqueue_trial({key: label(value) for key, value in point.items()}, skip_if_exists=True)
            study.set_user_attr("grid", True)
        return study

    def _recover(self) -> None:
        """End the trials whose process is gone: with their record if they left one, else to be run again."""
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if self._is_held(trial.number):
                continue
            record = trial.user_attrs.get("record")
            if record is not None:
                self._tell(trial.number, record)
            else:
                self._study.tell(trial.number, state=TrialState.FAIL)
                if trial.params:
                    self._study.enqueue_trial(dict(trial.params), user_attrs={"again": trial.number})
            self._clear(trial.number)

    def _tell(self, number: int, record: Mapping[str, Any]) -> None:
        state = STATES[record["status"]]
        self._study.tell(number, record["value"] if state is TrialState.COMPLETE else None, state=state)

    def _counted(self) -> list[FrozenTrial]:
        """Return the trials that count: all that ended with a record, and those that run."""
        trials = self._study.get_trials(deepcopy=False, states=(*ENDED, TrialState.RUNNING))
        return [trial for trial in trials if trial.state is TrialState.RUNNING or "record" in trial.user_attrs]

    def _is_over(self) -> bool:
        trials, minutes = self._counted(), self.plan.search.minutes
        if len(trials) >= self.plan.trials:
            return True
        seconds = [t.user_attrs["record"]["seconds"] for t in trials if t.state is not TrialState.RUNNING]
        if minutes is None or not seconds:
            return False
        running = [_age(t) for t in trials if t.state is TrialState.RUNNING]
        pace = sum(seconds) / len(seconds)
        # What runs will take about as long as the others did, and so will the next one.
        return sum(seconds) + sum(max(pace, age) for age in running) + pace > 60 * minutes

    def _same_as(self, chosen: Mapping[str, Any]) -> dict[str, Any] | None:
        known = (record for record in self.records() if record["status"] != "failed" and record["same_as"] is None)
        return next((record for record in known if record["settings"] == chosen), None)

    def _lock_of(self, number: int) -> Path:
        return self.folder / "running" / f"{number}.lock"

    def _clear(self, number: int) -> None:
        """Remove what an ended trial, or one that was killed, has in ``running``."""
        for left in (self.folder / "running").glob(f"{number + 1}-*"):
            shutil.rmtree(left, ignore_errors=True)
        self._lock_of(number).unlink(missing_ok=True)

    def _is_held(self, number: int) -> bool:
        """Tell whether a living process runs a trial."""
        try:
            with self._lock_of(number).open("r+") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False


def _age(trial: FrozenTrial) -> float:
    started = trial.datetime_start
    return (datetime.now() - started).total_seconds() if started else 0.0


def _sampler(plan: Plan, n_trials: int) -> optuna.samplers.BaseSampler:
    """Return the sampler of one trial; its seed is the trial's number, so a stop and a resumption change no choice."""
    seed = (plan.seeds[0] * 100_003 + n_trials) % 2**32
    if plan.search.sampler != "tpe":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=min(10, max(3, plan.trials // 3)))


def _pruner(plan: Plan) -> optuna.pruners.BasePruner:
    search = plan.search
    if search.pruner == "median":
        # Warm-up counts reported steps below it: an epoch is pruned from this one on.
        return optuna.pruners.MedianPruner(search.prune_after_trials, search.prune_after_epochs)
    if search.pruner == "halving":
        return optuna.pruners.SuccessiveHalvingPruner(search.prune_after_epochs, reduction_factor=3)
    return optuna.pruners.NopPruner()
