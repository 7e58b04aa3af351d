"""What is known of each test user: length of the history, popularity of the target, tie with the item before."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recbole_hellm.run_record import Loaders, events
from recbole_hellm.views import train_view

UNKNOWN = -1
"""Value of ``tied`` where the interactions have no time."""


def user_columns(ranks: Mapping[str, np.ndarray], loaders: Loaders, inter_file: Path, config: Any) -> dict[str, Any]:
    """Return a row per test target, sorted by user; no item tokens, so that the file may be published.

    Args:
        ranks: Arrays ``user``, ``item`` (tokens) and ``rank`` of the test.
        loaders: RecBole's loaders for training, validation and test.
        inter_file: The data set's ``.inter`` file.
        config: RecBole's settings (names of the fields, separator).

    Returns:
        ``user`` (tokens), ``rank`` (1 = first), ``history`` (interactions before the target), ``popularity`` (training
        interactions of the target), ``tied`` (1: same time as the item before it, 0: not, -1: unknown).
    """
    view = train_view(loaders[0]._dataset)
    of_user = pd.Series(np.asarray(view.user_tokens)[view.user]).value_counts()
    of_item = pd.Series(np.asarray(view.item_tokens)[view.item]).value_counts()
    if loaders[1] is not None and len(loaders[1]._dataset):
        validated = pd.Series(events(loaders[1]._dataset)[0]).value_counts()
        of_user = of_user.add(validated, fill_value=0)
    order = np.lexsort((ranks["item"], ranks["user"]))
    users, items = ranks["user"][order], ranks["item"][order]
    return {
        "user": users,
        "rank": ranks["rank"][order].astype(np.int32),
        "history": of_user.reindex(users, fill_value=0).to_numpy(np.int32),
        "popularity": of_item.reindex(items, fill_value=0).to_numpy(np.int32),
        "tied": _ties(inter_file, config, users, items),
    }


def _ties(path: Path, config: Any, users: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Return whether each (user, item) came at the same time as the user's interaction before it."""
    header = pd.read_csv(path, sep=config["field_separator"], nrows=0, encoding=config["encoding"] or "utf-8")
    columns = {column.partition(":")[0]: column for column in header.columns}
    user, item, time = (config[key] for key in ("USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD"))
    # Prepared data sets hold the days between two interactions; their times are made strictly increasing.
    clock = "day_gap" if "day_gap" in columns else time
    if clock not in columns:
        return np.full(len(users), UNKNOWN, np.int8)
    wanted = [columns[name] for name in dict.fromkeys((user, item, clock, time)) if name in columns]
    types = {columns[user]: str, columns[item]: str}
    table = pd.read_csv(
        path, sep=config["field_separator"], usecols=wanted, dtype=types, encoding=config["encoding"] or "utf-8"
    )
    table.columns = [column.partition(":")[0] for column in table.columns]
    if time in table:
        table = table.sort_values([user, time], kind="stable")
    first = table[user] != table[user].shift()
    table["tied"] = (table[clock].eq(0) if clock == "day_gap" else table[clock].eq(table[clock].shift())) & ~first
    last = table.drop_duplicates([user, item], keep="last").set_index([user, item])["tied"]
    found = last.reindex(pd.MultiIndex.from_arrays([users, items]))
    return found.fillna(UNKNOWN).astype(np.int8).to_numpy()
