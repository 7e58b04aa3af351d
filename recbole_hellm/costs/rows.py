"""The rows of a data set, counted from its users' numbers of interactions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Self


@dataclass(frozen=True)
class Lengths:
    """How many rows there are of each length.

    Attributes:
        pairs: (length, rows), lengths ascending.
    """

    pairs: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, pairs: Iterable[tuple[int, int]]) -> Self:
        """Add up (length, rows) pairs in any order; lengths below 1 are left out."""
        found: Counter[int] = Counter()
        for length, rows in pairs:
            if length > 0 and rows > 0:
                found[length] += rows
        return cls(tuple(sorted(found.items())))

    @cached_property
    def rows(self) -> int:
        """Number of rows."""
        return sum(rows for _, rows in self.pairs)

    @cached_property
    def tokens(self) -> int:
        """Sum of all lengths."""
        return sum(length * rows for length, rows in self.pairs)

    @property
    def longest(self) -> int:
        """The largest length, 0 if there is no row."""
        return self.pairs[-1][0] if self.pairs else 0

    def longest_batch(self, batch_size: int, mixed: int = 50) -> tuple[int, int, int]:
        """Return rows, real tokens and width of the largest batch when batches hold rows of about equal length.

        Rows are sorted by length within ``mixed`` batches, so the largest batch holds the longest ``1 / mixed`` of all
        rows (more where there are fewer batches than that).

        Args:
            batch_size: Rows of a batch.
            mixed: Batches whose rows are sorted together.
        """
        batch = min(batch_size, self.rows)
        if batch == 0:
            return 0, 0, 0
        share = max(batch, math.ceil(self.rows / mixed))
        left, tokens = share, 0
        for length, rows in reversed(self.pairs):
            taken = min(left, rows)
            tokens, left = tokens + taken * length, left - taken
            if not left:
                break
        return batch, math.ceil(tokens * batch / share), self.longest


@dataclass(frozen=True)
class DataShape:
    """Sizes of a data set split by leaving each user's last events out.

    Attributes:
        n_users: User ids, the padding id included.
        n_items: Item ids, the padding id included.
        events: Users by their number of interactions.
        max_length: Longest history of a row (``MAX_ITEM_LIST_LENGTH``).
        held_out: Events a user keeps for validation and test together.
        sequential: Whether RecBole makes a row of every (history, next item).
        list_bytes: Bytes of one position of a row in all lists together: 8 for the item, 4 or 8 for every other column.
    """

    n_users: int
    n_items: int
    events: Lengths
    max_length: int
    held_out: int = 2
    sequential: bool = True
    list_bytes: int = 12

    def _trained(self, events: int) -> int:
        """Return how many of a user's events train; RecBole leaves a user at least one training row."""
        rows = events - 1 if self.sequential else events
        held = max(0, min(self.held_out, rows - 1))
        return events - held

    @cached_property
    def n_train(self) -> int:
        """Training interactions."""
        return sum(self._trained(events) * users for events, users in self.events.pairs)

    @cached_property
    def n_rows(self) -> int:
        """Rows RecBole holds before the split."""
        return self.events.tokens - (self.events.rows if self.sequential else 0)

    @cached_property
    def windows(self) -> Lengths:
        """Histories of one causal pass a user: every later item is a target once."""
        return Lengths.of(
            (min(end - 1, self.max_length), users)
            for events, users in self.events.pairs
            for end in range(self._trained(events), 1, -self.max_length)
        )

    @cached_property
    def prefixes(self) -> Lengths:
        """Histories of RecBole's training rows."""
        pairs = []
        for events, users in self.events.pairs:
            last = self._trained(events) - 1
            pairs += [(length, users) for length in range(1, min(last, self.max_length) + 1)]
            pairs.append((self.max_length, users * max(0, last - self.max_length)))
        return Lengths.of(pairs)

    @cached_property
    def tested(self) -> Lengths:
        """Histories of the test rows."""
        least = 3 if self.sequential else 2
        return Lengths.of(
            (min(events - 1, self.max_length), users) for events, users in self.events.pairs if events >= least
        )
