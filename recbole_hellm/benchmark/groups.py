"""The main metric over parts of the users: by length of their history, by popularity of their target."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from recbole_hellm.benchmark.comparison import Group
from recbole_hellm.benchmark.significance import mean_interval

HISTORY = {"0-4": (0, 5), "5-9": (5, 10), "10-19": (10, 20), "20-49": (20, 50), "50+": (50, np.inf)}
"""Interactions before the target, from (inclusive) and to (exclusive)."""
POPULARITY = ("tail", "middle", "head")
"""Thirds of the test users by the training events of their target; equally popular items are never parted."""


def groups(dataset: str, label: str, values: np.ndarray, users: pd.DataFrame) -> Iterator[Group]:
    """Yield the metric of every part that has users.

    Args:
        dataset: Of the groups.
        label: Of the groups.
        values: The metric of every user.
        users: Columns ``history`` and ``popularity``, same order; the same table for all models of a data set.
    """
    for by, parts in (("history", _by_history(users["history"])), ("popularity", _by_third(users["popularity"]))):
        column = users[by].to_numpy()
        for name, part in parts:
            if part.any():
                chosen, span = values[part], column[part]
                low, high = float(span.min()), float(span.max())
                yield Group(
                    dataset, label, by, name, low, high, len(chosen), float(chosen.mean()), mean_interval(chosen)
                )


def _by_history(history: pd.Series) -> Iterator[tuple[str, np.ndarray]]:
    lengths = history.to_numpy()
    for name, (low, high) in HISTORY.items():
        yield name, (lengths >= low) & (lengths < high)


def _by_third(popularity: pd.Series) -> Iterator[tuple[str, np.ndarray]]:
    counts = popularity.to_numpy()
    if not len(counts) or np.ptp(counts) == 0:
        return  # there is neither head nor tail
    third = np.searchsorted(np.quantile(counts, (1 / 3, 2 / 3)), counts, side="left")
    for i, name in enumerate(POPULARITY):
        yield name, third == i
