"""A column of numbers (a price) as a modality: vectors that are alike where the numbers are."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from recbole_hellm.data.features import FeatureTable
from recbole_hellm.errors import DataError

_POINTS = 16
"""Numbers of a vector."""


def number_table(name: str, cells: Mapping[str, str]) -> FeatureTable:
    """Return a vector an item, made of the rank of its number among all: near ranks give a cosine near 1.

    A raw price would do no good: all vectors of one number point the same way. The rank, from 0 to 1, is laid over 16
    evenly spaced bumps, so that the cosine falls with the distance in rank and reaches about 0 at a quarter of all
    items. Equal numbers have equal vectors.

    Args:
        name: Of the modality, for messages.
        cells: Item token to the cell of its row; items without a number are left out.

    Raises:
        DataError: If a cell is no finite number, or there is none.
    """
    values = []
    for token, cell in cells.items():
        try:
            values.append(float(cell))
        except ValueError as error:
            raise DataError(f"column {name}: item {token!r} must have a number, got {cell!r}") from error
        if not np.isfinite(values[-1]):
            raise DataError(f"column {name}: item {token!r} must have a finite number, got {cell!r}")
    if not values:
        raise DataError(f"column {name}: no item has a number; leave {name!r} out of item_features")
    return FeatureTable(f"column {name}", _bumps(np.array(values)), tuple(cells))


def _bumps(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return unit vectors, shape ``[n, 16]``."""
    distinct, place = np.unique(values, return_inverse=True)
    counts = np.bincount(place, minlength=len(distinct))
    middle = np.cumsum(counts) - (counts + 1) / 2  # mean rank of equal numbers
    rank = middle[place] / max(len(values) - 1, 1)
    points = np.linspace(0, 1, _POINTS)
    vectors = np.exp(-0.5 * ((rank[:, None] - points) * _POINTS) ** 2)
    unit: NDArray[np.float32] = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit
