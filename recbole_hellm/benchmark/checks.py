"""Every mistake of a plan that can be found before anything runs."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from recbole_hellm import plugin
from recbole_hellm.benchmark.child import surroundings
from recbole_hellm.benchmark.data_checks import check_events, check_protocol
from recbole_hellm.benchmark.inputs import inputs_of
from recbole_hellm.benchmark.per_user import RANKING
from recbole_hellm.benchmark.plan import Cell, Plan
from recbole_hellm.config.recbole_config import HellmConfig
from recbole_hellm.errors import ConfigError, DataError, HellmError, nearest
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


def check_plan(
    plan: Plan, metric: str | None = None, against: str | None = None
) -> dict[tuple[str, str], dict[str, Any]]:
    """Check models, settings and data sets of every cell, and prepare the data sets whose source is at hand.

    Nothing is trained and nothing is downloaded.

    Args:
        plan: What is to run.
        metric: Metric the report is about; ``None``: one of those that are measured.
        against: Label the report tests against the others.

    Returns:
        By label and data set what the cells read besides their own settings (see :mod:`.inputs`).

    Raises:
        HellmError: One line that names the plan, the model, the data set and what is wrong.
    """
    configs = {(cell.label, cell.dataset): _config(plan, cell) for cell in plan.cells() if cell.seed == plan.seeds[0]}
    _check_choice(plan, list(configs.values()), metric, against)
    for config in sorted(configs.values(), key=_is_preparable):  # missing ones are named before any is prepared
        _ensure_there(config)
    for dataset in plan.datasets:
        try:
            check_events([config for (_, name), config in configs.items() if name == dataset])
        except HellmError as error:
            raise type(error)(f"plan {plan.name}: {error}") from error
    return {place: inputs_of(config) for place, config in configs.items()}


def _config(plan: Plan, cell: Cell) -> Any:
    try:
        surroundings(cell.model)
        config = HellmConfig(cell.model, cell.dataset, config_dict={**cell.settings, "seed": cell.seed})
        check_protocol(config)
    except HellmError as error:
        shared = "preset" in plan.settings or "preset" in plan.overrides
        hint = "; a preset is one model's: give it in that model's settings in a plan" if shared else ""
        hint = hint if str(error).startswith("unknown preset") else ""
        raise type(error)(f"plan {plan.name}: {cell.label} on {cell.dataset}: {error}{hint}") from error
    return config


def _check_choice(plan: Plan, configs: Sequence[Any], metric: str | None, against: str | None) -> None:
    """Check what the report is to be about, hours before it is written."""
    labels = [entry.label for entry in plan.entries if entry.group == "compare"]
    if against is not None and against not in labels:
        known = ", ".join(labels) or "none, as parts are compared with the full model"
        raise ConfigError(f"--against: no model is labelled {against!r}{nearest(against, labels)}; known: {known}")
    measured = [
        {f"{name.lower()}@{k}": None for name in config["metrics"] if name.lower() in RANKING for k in config["topk"]}
        for config in configs
    ]
    common = [name for name in measured[0] if all(name in names for names in measured)]
    if not common:
        raise ConfigError(f"setting 'metrics' must name one that ranks decide: {', '.join(sorted(RANKING))}")
    if metric is not None and metric.lower() not in common:
        raise ConfigError(
            f"--metric {metric!r} is not measured{nearest(metric.lower(), common)}; measured: {', '.join(common)} "
            "(settings 'metrics' and 'topk')"
        )


def _ensure_there(config: Any) -> None:
    try:
        ensure_prepared(config)
    except DataError as error:
        root = Path(config["data_path_root"])
        there = sorted(path.parent.name for path in root.glob("*/*.inter") if path.stem == path.parent.name)
        found = f"; in {root}: {', '.join(there)}{nearest(config['dataset'], there)}" if there else ""
        raise DataError(f"{error}{found}") from error


def _is_preparable(config: Any) -> bool:
    return config["dataset"] == SHIPPED or bool(config["source"])
