"""Every mistake of a search that can be found before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from recbole_hellm.benchmark.child import surroundings
from recbole_hellm.benchmark.data_checks import check_protocol
from recbole_hellm.config.recbole_config import HellmConfig
from recbole_hellm.config.specs import RunSpec
from recbole_hellm.errors import ConfigError, HellmError
from recbole_hellm.quick_start import ensure_prepared
from recbole_hellm.tune.plan import Plan
from recbole_hellm.tune.space import Domain, RandomChoice, choose

TRIES = 30
"""Combinations tried before a value that is refused alone counts as never possible."""


def check_plan(plan: Plan) -> Any:
    """Check model, settings, every choice and every end of a range, and that the data set is there.

    Nothing is trained and nothing is downloaded.

    Returns:
        The settings of a trial that has none of the searched settings.

    Raises:
        HellmError: One line that names the setting and what is wrong.
    """
    surroundings(plan.model)
    config = config_of(plan, {})
    check_protocol(config)
    if RunSpec.from_config(config.final_config_dict).only_pretrains:
        raise ConfigError(f"setting 'train_stage' must be auto or finetune in a search, got {config['train_stage']!r}")
    for domain in plan.space:
        for value in domain.ends():
            _check_value(plan, domain, value)
    ensure_prepared(config)
    return config


def config_of(plan: Plan, chosen: Mapping[str, Any]) -> Any:
    """Return the resolved settings of a run.

    Raises:
        ConfigError: If they are refused.
    """
    return HellmConfig(plan.model, plan.dataset, config_dict=plan.run_settings(chosen, plan.seeds[0]))


def _check_value(plan: Plan, domain: Domain, value: Any) -> None:
    """Refuse a value that no combination allows; alone, it may only lack the others it goes with."""
    try:
        config_of(plan, {domain.key: value})
        return
    except HellmError as error:
        refused = error
    if any(_is_allowed(plan, chosen) for chosen in _combinations(plan.space, domain, value)):
        return
    raise type(refused)(f"space: {domain.key}: {value!r} is refused: {refused}") from refused


def _is_allowed(plan: Plan, chosen: Mapping[str, Any]) -> bool:
    try:
        config_of(plan, chosen)
    except HellmError:
        return False
    return True


def _combinations(space: Sequence[Domain], domain: Domain, value: Any) -> list[dict[str, Any]]:
    """Return some combinations in which ``domain`` has ``value``."""
    by = RandomChoice(Random(0))  # noqa: S311 (no secret)
    drawn = [choose(space, by) for _ in range(TRIES)]
    return [{**chosen, domain.key: value} for chosen in drawn if domain.key in chosen]
