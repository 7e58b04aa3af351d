"""What every source parser gives: one record a user, one record an item."""

from dataclasses import dataclass, field

TEXT_COLUMNS = ("title", "brand", "categories", "description", "keywords")
"""Text columns an ``.item`` file may have, in the order they are written."""

MAX_EXACT_TIME = 2**24
"""First integer after which float32, RecBole's type for timestamps, skips values."""


@dataclass(frozen=True)
class UserSequence:
    """The interactions of one user, oldest first."""

    user: str
    """User token."""
    items: tuple[str, ...]
    """Item tokens; the same length as ``timestamps`` and ``day_gaps``."""
    timestamps: tuple[int, ...]
    """Strictly increasing integers below 2**24, so that float32 keeps the order."""
    day_gaps: tuple[float, ...]
    """Days since the interaction before; 0 where the source cannot tell the two times apart."""


@dataclass(frozen=True)
class CatalogueItem:
    """An item and its cleaned texts."""

    token: str
    """Item token as in the interactions."""
    texts: dict[str, str] = field(default_factory=dict)
    """Column to text, mostly those of ``TEXT_COLUMNS``; a column without text is left out."""
    image: str = ""
    """Path or address of a picture; empty if there is none."""


FEW_INTERACTIONS = 3
"""A user with fewer has no training row after leave-one-out for validation and test."""


@dataclass(frozen=True)
class Counts:
    """Sizes of a data set."""

    n_users: int
    n_items: int
    """Distinct items of the interactions."""
    n_interactions: int
