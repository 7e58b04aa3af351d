"""Which run settings may stand where in a plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RESERVED = {
    "model": "models",
    "dataset": "datasets",
    "seed": "seeds",
    "mask_history": "protocol: {history: ...}",
    "fit_on": "protocol: {fitted_on: ...}",
    "train_minutes": "protocol: {minutes: ...}",
    "result_file": "--results FILE",
}
"""Run settings that a plan has its own word for."""
SHARED = frozenset(
    {
        "eval_args",
        "metrics",
        "topk",
        "valid_metric",
        "repeatable",
        "val_interval",
        "user_inter_num_interval",
        "item_inter_num_interval",
        "filter_inter_by_user_or_item",
        "rm_dup_inter",
        "load_col",
        "unload_col",
        "threshold",
    }
)
"""Run settings that decide what is measured on which events, among which items: one value for all models."""
SHARED_END = "_FIELD"
"""End of the names of the columns to read: one value for all models as well."""
WHERE = frozenset(
    {"data_path", "source", "checkpoint_dir", "stage_cache_dir", "show_progress", "state", "metric_decimal_place"}
)
"""Run settings that decide where things lie and how they are printed, but no number."""


def misplaced(owner: str, settings: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    """Return what is wrong with the place of a setting, or an empty string.

    Args:
        owner: Label of the model the settings are for; empty: all models.
        settings: Run settings somewhere in a plan.
        asked: Run settings the plan's protocol asks for.
    """
    of = f" of {owner}" if owner else ""
    for key, value in settings.items():
        if key in RESERVED:
            return f"setting {key!r}{of} is given by the plan; use {RESERVED[key]}"
        if owner and (key in SHARED or key.endswith(SHARED_END)):
            return f"setting {key!r}{of} must be the same for all models; move it to the plan's settings"
        if key in asked and asked[key] != value:
            return f"setting {key!r}{of} is {value!r}, the protocol asks for {asked[key]!r}; take one of the two out"
    return ""
