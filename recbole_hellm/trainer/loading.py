"""RecBole's data set and loaders, with its refusals as one-line errors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole.data import create_dataset, data_preparation

from recbole_hellm.data.inter import check_inter_file
from recbole_hellm.errors import DataError, HellmError


def load_data(config: Any) -> tuple[Any, tuple[Any, Any, Any]]:
    """Return RecBole's data set, and its training, validation and test loader.

    Raises:
        DataError: If the interaction file breaks a rule, or RecBole refuses the data set.
    """
    name, folder = config["dataset"], Path(config["data_path"])
    columns = [config["USER_ID_FIELD"], config["ITEM_ID_FIELD"]]
    if isinstance(config["load_col"], Mapping):
        columns = list(dict.fromkeys([*columns, *(config["load_col"].get("inter") or [])]))
    file = folder / f"{name}.inter"
    if file.is_file() and config["encoding"] in (None, "utf-8"):
        check_inter_file(file, columns, config["field_separator"])
    try:
        data = create_dataset(config)
        return data, data_preparation(config, data)
    except HellmError:
        raise
    except (ValueError, KeyError, NotImplementedError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"RecBole cannot use data set {name!r} in {folder}: {reason}; check the files and settings load_col, "
            "eval_args, *_FIELD"
        ) from error
