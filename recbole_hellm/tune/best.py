"""The best settings as a file that a run reads, and the command that runs them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from recbole_hellm.artifacts import write_atomically
from recbole_hellm.tune.plan import Plan

UNNEEDED = ("checkpoint_dir", "show_progress", "state")
"""Fixed settings that are about one run, not about the model."""


def best_of(records: list[dict[str, Any]], bigger: bool) -> dict[str, Any] | None:
    """Return the best complete record, of equal ones the first."""
    complete = [record for record in records if record["status"] == "complete"]
    sign = 1 if bigger else -1
    return max(complete, key=lambda record: sign * record["value"], default=None)


def best_settings(plan: Plan, best: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a trial, fixed and chosen, as its first seed ran with them."""
    settings = plan.run_settings(best["settings"], plan.seeds[0])
    return {key: value for key, value in settings.items() if key not in UNNEEDED}


def write_best(path: Path, plan: Plan, best: Mapping[str, Any], n_trials: int) -> None:
    """Write the settings of the best trial as yaml for ``--config_files``.

    Raises:
        OSError: If it cannot be written; the file before stays then.
    """
    settings = best_settings(plan, best)
    chosen = {key: settings.pop(key) for key in best["settings"]}
    seeds = f"mean of {len(plan.seeds)} seeds" if len(plan.seeds) > 1 else f"seed {plan.seeds[0]}"
    metric = plan.search.metric or "metric"
    text = (
        f"# {plan.model} on {plan.dataset}: trial {best['trial']}, the best of {n_trials} on validation\n"
        f"# ({metric} {best['value']:.6f}, {seeds}). The test split has not been read. To run it with the test:\n"
        f"# {command(plan, path)}\n"
        f"\n# chosen\n{_yaml(chosen)}"
    )
    write_atomically(path, text + (f"\n# as in every trial\n{_yaml(settings)}" if settings else ""))


def command(plan: Plan, path: Path) -> str:
    """Return the command that trains with the best settings and tests."""
    return shlex.join(
        ["recbole-hellm", "train", f"--model={plan.model}", f"--dataset={plan.dataset}", f"--config_files={path}"]
    )


def _yaml(settings: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True)
