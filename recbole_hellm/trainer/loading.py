"""RecBole's data set and loaders, with its refusals as one-line errors."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
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
        _check_item_embeddings(folder)
        with _no_pickled_data(config):
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


@contextmanager
def _no_pickled_data(config: Any) -> Iterator[None]:
    """Keep RecBole from unpickling what lies in ``checkpoint_dir`` under the name of a data set or its loaders.

    RecBole does so whenever such a file exists, whether the run asked for it or not.
    """
    keys = ("dataset_save_path", "dataloaders_save_path")
    before = {key: config[key] for key in keys}
    for key in keys:
        config[key] = os.path.join(os.devnull, "none")  # noqa: PTH118 (no file can have this path)
    try:
        yield
    finally:
        for key, value in before.items():
            config[key] = value


def _check_item_embeddings(folder: Path) -> None:
    """Refuse an ``item_emb.npy`` that needs pickle: RecBole's LDiffRec would read it with pickle allowed."""
    path = folder / "item_emb.npy"
    if not path.is_file():
        return
    try:
        np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise DataError(f"{path} is no plain array of numbers ({error}): save it again without objects") from error
