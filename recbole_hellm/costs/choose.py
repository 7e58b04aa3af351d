"""The largest batch that fits, and the setting that makes a run fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Change:
    """Another value of a setting."""

    setting: str
    value: object

    def __str__(self) -> str:
        """Return it as it stands on the command line."""
        return f"{self.setting}={self.value}"


def largest_that_fits(most: int, fits: Callable[[int], bool], least: int = 1) -> int:
    """Return ``most``, or the largest power of two below it that fits, at least ``least``.

    Args:
        most: What is wanted.
        fits: Whether a number of rows fits; if it does, so do fewer.
        least: What is returned if nothing fits.
    """
    if fits(most):
        return most
    size = 1 << max(0, (most - 1).bit_length() - 1)
    while size > least and not fits(size):
        size //= 2
    return max(size, least)


def halves(value: int, least: int = 1) -> list[int]:
    """Return the powers of two below ``value`` down to ``least``, descending."""
    size, found = 1 << max(0, (value - 1).bit_length() - 1), []
    while size >= least and size < value:
        found.append(size)
        size //= 2
    return found


def what_helps(
    candidates: Sequence[Sequence[Change]], need: Callable[[Sequence[Change]], int], free: int
) -> tuple[tuple[Change, ...], int]:
    """Return the changes that make a run fit, and the bytes it needs then.

    The first candidate that is enough alone is taken, with its mildest value; if none is, each in turn adds the value
    that saves most, until it fits or all are used up.

    Args:
        candidates: Values of a setting, mildest first; the settings that cost least first.
        need: Bytes the run needs under some changes.
        free: Bytes there are.

    Returns:
        No change if none helps.
    """
    for values in candidates:
        for change in values:
            if (bytes_then := need([change])) <= free:
                return (change,), bytes_then
    taken: list[Change] = []
    best = need([])
    for values in candidates:
        for change in values:
            if (bytes_then := need([*taken, change])) <= free:
                return (*taken, change), bytes_then
        if values and (bytes_then := need([*taken, values[-1]])) < best:
            taken, best = [*taken, values[-1]], bytes_then
    return tuple(taken), best
