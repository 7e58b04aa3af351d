"""Every mistake of a plan that can be found before anything runs."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

from recbole_hellm import plugin
from recbole_hellm.benchmark.child import surroundings
from recbole_hellm.benchmark.plan import Cell, Plan
from recbole_hellm.config.recbole_config import HellmConfig
from recbole_hellm.errors import ConfigError, HellmError
from recbole_hellm.quick_start import SHIPPED, ensure_prepared


def import_models(modules: Iterable[str]) -> None:
    """Import modules that register models; they may lie in the current folder.

    Raises:
        ConfigError: If a module cannot be imported.
    """
    here = str(Path.cwd())
    for module in modules:
        if here not in sys.path:
            sys.path.append(here)  # last: a file beside a plan must not hide a package
        try:
            import_module(module)
        except ImportError as error:
            raise ConfigError(f"module {module!r} cannot be imported ({error}); check its name and folder") from error
    plugin.register()


def check_plan(plan: Plan) -> None:
    """Check models, settings and data sets of every cell, and prepare the data sets whose source is at hand.

    Nothing is trained and nothing is downloaded.

    Raises:
        HellmError: One line that names the plan, the model, the data set and what is wrong.
    """
    configs = [_config(plan, cell) for cell in plan.cells() if cell.seed == plan.seeds[0]]
    for config in sorted(configs, key=_is_preparable):  # missing ones are named before any is prepared
        ensure_prepared(config)


def _config(plan: Plan, cell: Cell) -> Any:
    try:
        surroundings(cell.model)
        return HellmConfig(cell.model, cell.dataset, config_dict={**cell.settings, "seed": cell.seed})
    except HellmError as error:
        raise type(error)(f"plan {plan.name}: {cell.label} on {cell.dataset}: {error}") from error


def _is_preparable(config: Any) -> bool:
    return config["dataset"] == SHIPPED or bool(config["source"])
