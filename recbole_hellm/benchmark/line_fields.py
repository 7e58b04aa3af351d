"""What the line of a cell with a result must hold before a report reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NUMBER = (int, float)
_ABSENT = object()
FIELDS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("cell", "label", "model", "dataset", "group", "users_file", "users_sha256"), str),
    "seed": int,
    **dict.fromkeys(("protocol", "data", "settings", "valid", "test", "parameters", "curves"), dict),
    "stages": list,
    "peak_memory_mb": NUMBER,
    **dict.fromkeys(("training_samples_per_second", "evaluation_users_per_second"), (*NUMBER, type(None))),
    "best_epoch": (int, type(None)),
    "protocol.history_masked": bool,
    "protocol.fitted_on": str,
    "protocol.selected_on": str,
    "protocol.split": dict,
    "data.fingerprint": str,
    "data.split": str,
    "parameters.trained": int,
    "parameters.total": int,
    "curves.training": list,
}
"""By name, a dot for what lies one deeper: the type."""
STAGE: dict[str, type | tuple[type, ...]] = {"name": str, "status": str, "computed_seconds": NUMBER}
EPOCH: dict[str, type | tuple[type, ...]] = {"epoch": int, "loss": NUMBER, "valid": (dict, type(None))}
OPTIONAL: dict[str, type | tuple[type, ...]] = {
    **{"decimals": int, "run_settings": dict, "commit": (str, type(None)), "versions": dict, "hardware": dict}
}
"""Fields that older lines lack."""
REPORTED = {"model": str, "dataset": str, "metrics": dict, "source": str, "protocol": str}


def damage(line: Mapping[str, Any]) -> str:
    """Return the field of a cell with a result that is missing or of another type, or an empty string."""
    for name, kind in FIELDS.items():
        owner, _, key = name.rpartition(".")
        if not isinstance((line[owner] if owner else line).get(key, _ABSENT), kind):
            return name
    for name, kind in OPTIONAL.items():
        if name in line and not isinstance(line[name], kind):
            return name
    for metrics in ("valid", "test"):
        if not all(isinstance(value, NUMBER) for value in line[metrics].values()):
            return metrics
    for key, wanted in (("stages", STAGE), ("curves.training", EPOCH)):
        parts = line["stages"] if key == "stages" else line["curves"]["training"]
        if not all(_holds(part, wanted) for part in parts):
            return key
    return "" if line["test"] else "test"


def damaged_report(entry: Any) -> str:
    """Return the field of a number from elsewhere that is missing, unknown or of another type, or an empty string."""
    if not isinstance(entry, Mapping):
        return "reported"
    unknown = [str(key) for key in entry if key not in REPORTED]
    wrong = [key for key, kind in REPORTED.items() if not isinstance(entry.get(key), kind)]
    if unknown or wrong:
        return (unknown or wrong)[0]
    return "" if all(isinstance(value, NUMBER) for value in entry["metrics"].values()) else "metrics"


def _holds(part: Any, wanted: Mapping[str, type | tuple[type, ...]]) -> bool:
    return isinstance(part, Mapping) and all(isinstance(part.get(key, _ABSENT), kind) for key, kind in wanted.items())
