"""Mistakes of a plan that its settings show only together with its data set."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from recbole_hellm.errors import ConfigError

SPLIT_ALIKE = 4
"""Fewest interactions of a user whom RecBole splits alike for all models; one interaction is never split."""


def check_protocol(config: Any) -> None:
    """Check that a model is chosen on validation and ranked among the whole catalogue.

    Raises:
        ConfigError: If the settings say otherwise; nothing could be compared then.
    """
    asked = config["eval_args"]
    split, mode = asked["split"], asked["mode"]
    if split != {"LS": "valid_and_test"}:
        raise ConfigError(
            f"setting 'eval_args.split' must be {{LS: valid_and_test}}, got {split}: every user's last item tests, the "
            "one before chooses the epoch; take it out"
        )
    modes = mode.values() if isinstance(mode, dict) else [mode]
    if any(one != "full" for one in modes):
        raise ConfigError(f"setting 'eval_args.mode' must be full (the whole catalogue is ranked), got {mode}")
    step, epochs = config["eval_step"], config["epochs"]
    if step < 1:
        raise ConfigError(f"setting 'eval_step' must be >= 1, got {step}: the epoch is chosen on validation")
    if config["MODEL_TYPE"].name != "TRADITIONAL" and step > epochs:
        raise ConfigError(
            f"setting 'eval_step' is {step} with 'epochs' {epochs}, so nothing would be validated; make it {epochs} or "
            "smaller"
        )


def check_events(configs: Sequence[Any]) -> None:
    """Check that a data set suits all models that run on it.

    Args:
        configs: Settings of the models on one data set, which is there.

    Raises:
        ConfigError: If as many items are recommended as there are, or users are split otherwise for some models.
    """
    config = configs[0]
    name, names = config["dataset"], (config["USER_ID_FIELD"], config["ITEM_ID_FIELD"])
    path = Path(config["data_path"]) / f"{name}.inter"
    table = pd.read_csv(
        path,
        sep=config["field_separator"],
        dtype=str,
        keep_default_na=False,
        usecols=lambda column: column.partition(":")[0] in names,
        encoding=config["encoding"] or "utf-8",
    )
    table.columns = [column.partition(":")[0] for column in table.columns]
    if missing := [field for field in names if field not in table]:
        raise ConfigError(f"{path} has no column {missing[0]!r}")
    n_items, longest = table[names[1]].nunique(), max(config["topk"])
    if longest >= n_items:
        raise ConfigError(f"setting 'topk' must be below the {n_items} items of data set {name!r}, got {longest}")
    if len({config["MODEL_TYPE"].name == "SEQUENTIAL" for config in configs}) > 1 and not _only_long(config):
        counts = table[names[0]].value_counts()
        short = counts[(counts > 1) & (counts < SPLIT_ALIKE)]
        if len(short):
            raise ConfigError(
                f"data set {name!r} has {len(short)} users with 2 or 3 interactions (such as {short.index[0]!r}), whom "
                "RecBole splits otherwise for sequential models than for others; set user_inter_num_interval: "
                f"'[{SPLIT_ALIKE},inf)' in the plan's settings, or in a --config file"
            )


def _only_long(config: Any) -> bool:
    """Tell whether the settings leave out users with few interactions."""
    found = re.match(r"\s*([\[(])\s*([\d.]+)", str(config["user_inter_num_interval"] or ""))
    return found is not None and float(found[2]) + (found[1] == "(") >= SPLIT_ALIKE
