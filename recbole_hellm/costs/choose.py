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

    The first candidate that is enough alone is taken, with its mildest value; if none is, all are taken with their last
    value, and each is then left out or made as mild as the others allow, those that cost most first.

    Args:
        candidates: Values of a setting, mildest first; the settings that cost least first. No value adds memory.
        need: Bytes the run needs under some changes.
        free: Bytes there are.

    Returns:
        The least memory there can be if nothing fits; no change if none helps.
    """
    for values in candidates:
        for change in values:
            if (bytes_then := need([change])) <= free:
                return (change,), bytes_then
    used = [values for values in candidates if values]
    taken = [values[-1] for values in used]
    enough = max(free, need(taken))
    for place, values in reversed(list(enumerate(used))):
        milder: list[list[Change]] = [[], *([value] for value in values)]
        tried = ([*taken[:place], *change, *taken[place + 1 :]] for change in milder)
        taken = next(changes for changes in tried if need(changes) <= enough)
    return tuple(taken), need(taken)
