"""Which interactions are kept: rating threshold, repeated pairs, k-core, least length."""

from dataclasses import dataclass, fields
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from recbole_hellm.errors import ConfigError, nearest

Duplicates = Literal["first", "last", "all"]
Ids = NDArray[np.uint32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Filters:
    """What is kept, applied in this order; the defaults are S3-Rec's."""

    min_rating: float | None = None
    """Interactions with a lower rating go; ``None`` keeps all."""
    duplicates: Duplicates = "all"
    """What stays of several interactions of one user with one item: the first or last in time, or all."""
    min_user: int = 5
    """Interactions a user must have in what is kept (k-core); 0 for no such rule."""
    min_item: int = 5
    """Interactions an item must have in what is kept (k-core); 0 for no such rule."""
    min_length: int = 0
    """Users with fewer interactions go at the very end, whatever that leaves of the items."""

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ConfigError: Naming the option, if a value is out of range.
        """
        if self.duplicates not in get_args(Duplicates):
            known = get_args(Duplicates)
            raise ConfigError(
                f"option 'duplicates' must be one of {', '.join(known)}, got {self.duplicates!r}"
                f"{nearest(str(self.duplicates), known)}"
            )
        for name in ("min_user", "min_item", "min_length"):
            value = getattr(self, name)
            if type(value) is not int or not 0 <= value < 2**31:
                raise ConfigError(f"option {name!r} must be an integer >= 0, got {value!r}")
        if self.min_rating is not None and not np.isfinite(self.min_rating):
            raise ConfigError(f"option 'min_rating' must be a number, got {self.min_rating!r}")


TAKE_ALL = Filters(min_user=0, min_item=0)
"""For sources that were filtered before."""
FILTER_NAMES = tuple(field.name for field in fields(Filters))


def first_of_pairs(user: Ids, item: Ids) -> Mask:
    """Tell which rows are the first with their (user, item) pair, shape ``[n]``."""
    pair = user.astype(np.uint64) << np.uint64(32) | item.astype(np.uint64)
    order = np.argsort(pair, kind="stable")
    first = np.ones(len(pair), dtype=np.bool_)
    first[order[1:]] = pair[order[1:]] != pair[order[:-1]]
    return first


def kept_pairs(user: Ids, item: Ids, time: NDArray[np.float64], duplicates: Duplicates) -> Mask:
    """Tell which rows stay under ``duplicates``; of equal times the order of the rows decides, shape ``[n]``."""
    if duplicates == "all":
        return np.ones(len(user), dtype=np.bool_)
    order = np.argsort(time, kind="stable")
    if duplicates == "last":
        order = order[::-1]
    kept = np.empty(len(user), dtype=np.bool_)
    kept[order] = first_of_pairs(user[order], item[order])
    return kept


def k_core(user: Ids, item: Ids, min_user: int, min_item: int) -> Mask:
    """Tell which rows belong to the largest part where every user and item has enough rows, shape ``[n]``."""
    kept = np.ones(len(user), dtype=np.bool_)
    if max(min_user, min_item) <= 1:  # every user and item that is there has a row
        return kept
    rows = np.arange(len(user))
    while len(rows):
        of_user, of_item = np.bincount(user[rows]), np.bincount(item[rows])
        enough = (of_user[user[rows]] >= min_user) & (of_item[item[rows]] >= min_item)
        if enough.all():
            break
        rows = rows[enough]
    kept[:] = False
    kept[rows] = True
    return kept


def long_enough(user: Ids, min_length: int) -> Mask:
    """Tell which rows belong to users with at least ``min_length`` rows, shape ``[n]``."""
    if min_length <= 1 or len(user) == 0:
        return np.ones(len(user), dtype=np.bool_)
    enough: Mask = np.bincount(user)[user] >= min_length
    return enough
