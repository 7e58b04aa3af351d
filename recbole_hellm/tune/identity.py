"""What must stay the same for two trials to be of one study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from recbole_hellm import registry
from recbole_hellm.artifacts import file_digest, fingerprint
from recbole_hellm.benchmark.inputs import NO_MATTER, inputs_of
from recbole_hellm.results import plain
from recbole_hellm.tune.plan import Plan

PROTOCOL = 1
"""Raise it whenever a trial of the same settings on the same data would get another value, or mean another thing."""


def identity(plan: Plan, config: Any) -> dict[str, Any]:
    """Return what decides the values of a study's trials.

    Args:
        plan: The search.
        config: Resolved settings of a trial that has none of the searched settings; its data set is there.
    """
    settings = {key: value for key, value in config.final_config_dict.items() if key not in NO_MATTER}
    features = sorted((Path(config["data_path"]) / "features").glob("*.*"))
    files = {f"features/{path.name}": file_digest(path)[:16] for path in features if path.is_file()}
    about = {
        "model": plan.model,
        "data set": plan.dataset,
        "metric": str(config["valid_metric"]),
        "seeds": list(plan.seeds),
        "minutes_per_trial": plan.search.minutes_per_trial,
        "space": {domain.key: asdict(domain) for domain in plan.space},
        "setting": settings,
        "data file": {**inputs_of(config)["files"], **files},
        "code": {
            "search protocol": PROTOCOL,
            **{f"stage {name}": registry.stages.get(name).version for name in registry.stages},
        },
    }
    found: dict[str, Any] = plain(about)
    return found


def data_fingerprint(about: Mapping[str, Any]) -> str:
    """Return one digest of the data files of an identity."""
    return fingerprint(files=about["data file"])[:16]


def what_differs(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return in words what changed between two identities, at most three things; empty: nothing."""
    found: list[str] = []
    for part in sorted({*then, *now}):
        before, after = then.get(part), now.get(part)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            keys = [key for key in sorted({*before, *after}) if before.get(key) != after.get(key)]
            if part in ("space", "data file"):  # ranges and digests tell a reader nothing in a line
                found += [f"{part} {key!r} changed" for key in keys]
            else:
                found += [f"{part} {key!r} was {before.get(key)!r}, is {after.get(key)!r}" for key in keys]
        elif before != after:
            found.append(f"{part} was {before!r}, is {after!r}")
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return "; ".join(found[:3]) + more
