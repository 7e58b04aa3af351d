"""Before a run: batch sizes by free memory, and a refusal of what would not fit."""

from __future__ import annotations

from dataclasses import replace
from logging import getLogger
from typing import Any

from recbole_hellm import distributed, registry
from recbole_hellm.costs.choose import Change, largest_that_fits
from recbole_hellm.costs.run import changed
from recbole_hellm.costs.shapes import EvaluationShape, RunShape
from recbole_hellm.errors import ConfigError
from recbole_hellm.estimate.answer import size
from recbole_hellm.estimate.planning import estimate, free_bytes, peak_bytes
from recbole_hellm.estimate.sizes import run_shape

logger = getLogger(__name__)

AUTO = "auto"
BATCHES = ("train_batch_size", "eval_batch_size", "train_rows_at_once")
"""Settings that may be decided here."""
SHARE = 0.8
"""Share of the free memory that batches chosen here may fill: an estimate is not exact, and others take memory too."""
MOST_USERS = 4096
"""Users ranked at once at most: more are no faster."""
USUAL_BATCH = 2048
"""Training batch of a model that states none: RecBole's."""


def admit(config: Any) -> None:
    """Do :func:`admit_alone` on the main process, and give all of them its batch sizes."""
    if distributed.is_main():
        admit_alone(config)
    if distributed.world_size() > 1:
        for key, value in distributed.of_main({key: config[key] for key in BATCHES}).items():
            if value != config[key]:
                _set(config, key, value)


def admit_alone(config: Any) -> None:
    """Turn batch sizes that are ``auto`` into numbers, and refuse a run that would not fit into memory.

    Raises:
        ConfigError: If it would not fit: with the estimate, and the setting that helps.
        HellmError: If a file that decides the sizes is missing or broken.
    """
    resolve_batches(config)
    found = estimate(config)
    if not found.fits:
        raise ConfigError(
            f"the run of {found.model} on {found.dataset} {found.verdict()}; 'recbole-hellm estimate' has all of it, "
            "and memory_limit_gb=N runs it as if there were N GB"
        )
    logger.info("memory: %s", found.verdict())


def resolve_batches(config: Any) -> None:
    """Give ``train_batch_size`` and ``eval_batch_size`` that are ``auto`` a number, in ``config`` itself.

    ``train_batch_size`` decides what is learned, so it becomes what the model's own settings say, whatever memory there
    is; where such a batch does not fit, ``train_rows_at_once`` becomes what does, and the step is the same.
    ``eval_batch_size`` decides no result: as many users as fit.
    """
    train, evaluation = (config[key] == AUTO for key in ("train_batch_size", "eval_batch_size"))
    if not (train or evaluation):
        return
    if train:
        _set(config, "train_batch_size", _own_batch(config))
    if evaluation:
        _set(config, "eval_batch_size", 1)
    run, free = run_shape(config), free_bytes(config)
    budget = None if free is None else int(SHARE * free)
    if train and run.tune is not None and not run.tune.rows_at_once and budget is not None:
        wanted = run.tune.batch_size
        small = replace(run, evaluation=EvaluationShape(1, run.evaluation.validations, run.evaluation.sorts))
        rows = largest_that_fits(wanted, lambda n: _fits(small, "train_rows_at_once", n, budget))
        if rows < wanted:
            _set(config, "train_rows_at_once", rows)
            run = changed(run, [Change("train_rows_at_once", rows)])
    if train:
        rows, at_once = config["train_batch_size"], config["train_rows_at_once"]
        logger.info("train_batch_size=auto: %d%s", rows, f", {at_once} rows at a time" if at_once else "")
    if evaluation:
        rows = MOST_USERS
        if budget is not None:
            rows = largest_that_fits(MOST_USERS, lambda n: _fits_users(run, n, budget))
        _set(config, "eval_batch_size", rows * (1 if run.data.sequential else run.data.n_items))
        told = size(free) if free is not None else "unknown"
        logger.info(
            "eval_batch_size=auto: %d, that is %d users at a time; %s free", config["eval_batch_size"], rows, told
        )


def _set(config: Any, key: str, value: int) -> None:
    """Set a number where RecBole reads it, and where a second configuration (``fit_on=train+valid``) starts from."""
    config.final_config_dict[key] = value
    config.external_config_dict[key] = value


def _own_batch(config: Any) -> int:
    """Return the batch size of the model's own settings: yaml files and preset."""
    value = config.internal_config_dict.get("train_batch_size")
    if isinstance(value, int):
        return value
    return 64 if config["model"] in registry.models else USUAL_BATCH


def _fits(run: RunShape, setting: str, rows: int, budget: int) -> bool:
    return peak_bytes(changed(run, [Change(setting, rows)])) <= budget


def _fits_users(run: RunShape, users: int, budget: int) -> bool:
    spec = run.evaluation
    return peak_bytes(replace(run, evaluation=EvaluationShape(users, spec.validations, spec.sorts))) <= budget
