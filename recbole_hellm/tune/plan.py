"""What a search runs: fixed settings, the space, the metric, and how much may be spent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from recbole_hellm.benchmark.plan_files import seeds as read_seeds
from recbole_hellm.benchmark.settings import SHARED, SHARED_END, WHERE
from recbole_hellm.config.recbole_config import merged, read_yaml
from recbole_hellm.config.schema import Spec
from recbole_hellm.errors import ConfigError, nearest
from recbole_hellm.tune.space import Domain, grid, parse_space

SEARCH_KEYS = ("model", "settings", "space", "seeds", "imports")
"""Keys of a plan besides the fields of :class:`Search`."""
RESERVED = {
    "model": "--model",
    "dataset": "--dataset",
    "seed": "seeds",
    "train_minutes": "minutes_per_trial",
    "valid_metric": "metric",
    "result_file": "--output DIR",
}
"""Run settings that a plan has its own word for."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


@dataclass(frozen=True)
class Search(Spec):
    """How the space is searched; none of it decides the value of a trial but ``metric`` and ``minutes_per_trial``."""

    metric: str = ""
    """Metric of the validation split that is to be best; empty: the model's ``valid_metric``."""
    sampler: Literal["tpe", "random", "grid"] = "tpe"
    """``tpe`` learns from the trials so far; ``random`` does not; ``grid`` runs every combination."""
    trials: int | None = None
    """Trials in total; ``None``: 20, or every combination of a grid."""
    minutes: float | None = None
    """Time of all trials together, earlier calls included; ``None``: no limit."""
    minutes_per_trial: float | None = None
    """Training time of a run (``train_minutes``), stages included at what they cost when they ran."""
    pruner: Literal["median", "halving", "none"] = "median"
    """Which trials end early: those below the median of the others after as many epochs, or all but the best third
    after 1, 3, 9 ... epochs (successive halving)."""
    prune_after_trials: int = 5
    """Complete trials before the median says anything."""
    prune_after_epochs: int = 1
    """Epochs a trial gets in any case."""

    def __post_init__(self) -> None:
        for key in ("trials", "minutes", "minutes_per_trial"):
            value = getattr(self, key)
            # No trial at all is a way to ask for the report alone.
            self.require(value is None or value > 0 or (key == "trials" and value == 0), key, "positive, or none")
        self.require(self.prune_after_trials >= 1, "prune_after_trials", ">= 1")
        self.require(self.prune_after_epochs >= 1, "prune_after_epochs", ">= 1")
        if re.search(r"test", self.metric, re.IGNORECASE):
            raise ConfigError(
                f"setting 'metric' is {self.metric!r}, but settings are chosen on validation only and the test split "
                "is not read; name the metric alone, such as NDCG@10"
            )


@dataclass(frozen=True)
class Plan:
    """A search for the settings of one model on one data set.

    Raises:
        ConfigError: If a setting stands where it must not, or a grid is infinite.
    """

    model: str
    dataset: str
    space: tuple[Domain, ...]
    search: Search = Search()
    seeds: tuple[int, ...] = (2020,)
    """Every trial runs once with each; its value is the mean."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Run settings of all trials."""

    def __post_init__(self) -> None:
        if "/" in self.dataset:
            raise ConfigError(f"data set {self.dataset!r} must be a name; give its folder as setting data_path")
        for key in (*self.settings, *(domain.key for domain in self.space)):
            if key in RESERVED:
                raise ConfigError(f"setting {key!r} is given by the search; use {RESERVED[key]}")
        if self.settings.get("fit_on", "train") != "train":
            raise ConfigError(
                "setting 'fit_on' must be train in a search: settings are chosen on validation; add "
                "--fit_on=train+valid to the command that runs the best settings"
            )
        for domain in self.space:
            self._check_place(domain.key)
        if self.search.sampler == "grid":
            grid(self.space)

    @property
    def trials(self) -> int:
        """Trials in total."""
        if self.search.sampler == "grid":
            points = len(grid(self.space))
            return points if self.search.trials is None else min(points, self.search.trials)
        return 20 if self.search.trials is None else self.search.trials

    def run_settings(self, chosen: Mapping[str, Any], seed: int) -> dict[str, Any]:
        """Return the settings of one run of a trial."""
        given: dict[str, Any] = {"seed": seed}
        if self.search.metric:
            given["valid_metric"] = self.search.metric
        if self.search.minutes_per_trial is not None:
            given["train_minutes"] = self.search.minutes_per_trial
        return {**merged(self.settings, chosen), **given}

    def _check_place(self, key: str) -> None:
        if key in SHARED or key.endswith(SHARED_END) or key in ("fit_on", "mask_history"):
            raise ConfigError(f"space: {key}: decides what is measured, so it cannot be searched; fix it in 'settings'")
        if key in WHERE or key == "train_stage":
            raise ConfigError(f"space: {key}: decides no number of a model, so it cannot be searched; take it out")
        if key in self.settings:
            raise ConfigError(f"setting {key!r} is both fixed and searched; take it out of 'settings' or of 'space'")


def load_plan(path: Path, model: str, dataset: str, changes: Mapping[str, Any], settings: Mapping[str, Any]) -> Plan:
    """Read a plan.

    Args:
        path: Yaml file.
        model: Name of a model; empty: the plan's.
        dataset: Name of a data set.
        changes: Fields of :class:`Search` and ``seeds`` that the command line says otherwise.
        settings: Fixed run settings of the command line; they win, and a setting that is fixed there is not searched.

    Raises:
        ConfigError: Naming the file, the key and the rule.
    """
    raw = read_yaml(path)
    try:
        known = (*SEARCH_KEYS, *Search.keys())
        wrong = [str(key) for key in raw if key not in known]
        if wrong:
            raise ConfigError(f"unknown key {wrong[0]!r}{nearest(wrong[0], known)}; known: {', '.join(sorted(known))}")
        fixed = raw.get("settings") or {}
        if not isinstance(fixed, dict):
            raise ConfigError(f"'settings' must hold 'key: value' lines, got {fixed!r}")
        space = tuple(domain for domain in parse_space(raw.get("space")) if domain.key not in settings)
        _check_conditions(space, settings)
        return Plan(
            _model(raw.get("model"), model),
            dataset,
            space,
            Search.from_config({**raw, **changes}),
            read_seeds(changes.get("seeds", raw.get("seeds", 1))),
            merged(fixed, settings),
        )
    except ConfigError as error:
        raise ConfigError(f"plan {path}: {error}") from error


def study_name(path: Path, plan: Plan) -> str:
    """Return the name a study has if it is given none."""
    parts = [path.stem, plan.dataset]
    return "-".join(parts if path.stem.startswith(plan.model) else [plan.model, *parts])


def check_name(name: str) -> str:
    """Return the name of a study, if it may be one.

    Raises:
        ConfigError: If it is no plain file name.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"--study must be letters, digits, '.', '_', '+' and '-', got {name!r}")
    return name


def _model(planned: Any, given: str) -> str:
    if planned and given and given != planned:
        raise ConfigError(f"it is for model {planned!r}, got --model={given}; give another --plan, or drop --model")
    if not (planned or given):
        raise ConfigError("it names no model; give --model=NAME")
    return str(given or planned)


def _check_conditions(space: tuple[Domain, ...], fixed: Mapping[str, Any]) -> None:
    """Refuse a space from which the command line took what another setting depends on, or everything."""
    if not space:
        raise ConfigError("every setting of its space is fixed on the command line; nothing is left to search")
    for domain in space:
        gone = [key for key in domain.when if key in fixed]
        if gone:
            raise ConfigError(
                f"space: {domain.key}: depends on {gone[0]!r}, which the command line fixes; fix {domain.key!r} as well"
            )
