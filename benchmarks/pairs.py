"""Two sides timed in turns: machines are noisy, so only neighbours in time are compared."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Paired:
    """Costs of the two sides by turn, in one unit (seconds, seconds per sample, megabytes)."""

    naive: tuple[float, ...]
    fast: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """Median over the turns of naive over fast."""
        return statistics.median(naive / fast for naive, fast in zip(self.naive, self.fast, strict=True))

    def as_dict(self) -> dict[str, Any]:
        """Return all values, the two medians and the ratio."""
        medians = {f"{side}_median": statistics.median(values) for side, values in asdict(self).items()}
        return {**{side: list(values) for side, values in asdict(self).items()}, **medians, "ratio": self.ratio}


def alternate(fast: Callable[[], float], naive: Callable[[], float], turns: int) -> Paired:
    """Call the two sides in turns, fast first; each returns its cost."""
    costs = [(fast(), naive()) for _ in range(turns)]
    return Paired(naive=tuple(cost for _, cost in costs), fast=tuple(cost for cost, _ in costs))


def paired(naive: Sequence[float], fast: Sequence[float]) -> Paired:
    """Return the costs of turns that were taken elsewhere."""
    return Paired(tuple(naive), tuple(fast))


def seconds(work: Callable[[], Any]) -> float:
    """Return how long a call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
