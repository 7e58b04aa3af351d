"""What can be said of the interactions of a data set: sizes, lengths, popularity, ties, repeats, split."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recbole_hellm.data.interactions import Events
from recbole_hellm.data.records import FEW_INTERACTIONS

_LORENZ_POINTS = 60
_LORENZ_SHARES = (0.01, 0.1, 0.2)


@dataclass(frozen=True)
class Spread:
    """A distribution of whole numbers."""

    mean: float
    """Arithmetic mean."""
    quantiles: tuple[float, ...]
    """Minimum, 5 %, 25 %, 50 %, 75 %, 95 % and maximum."""
    histogram: tuple[tuple[str, int], ...]
    """Range in words and how many values lie in it."""


@dataclass(frozen=True)
class TimeFacts:
    """Ties and ranges of the time column."""

    n_steps: int
    """Steps from one event of a user to the next."""
    n_tied: int
    """Steps whose two events have the same time or, where there is such a column, a ``day_gap`` of 0."""
    n_tied_tests: int
    """Test targets that tie with the event before."""
    n_tied_in_float32: int
    """Steps with another time in the file but the same one as float32, RecBole's type."""
    first: float
    """Smallest time."""
    last: float
    """Largest time."""
    by_gap: bool
    """Whether ties come from ``day_gap``."""


@dataclass(frozen=True)
class SplitFacts:
    """Leave-one-out per user as a sequential model sees it: last event for test, the one before for validation."""

    n_train: int
    """Events left for training."""
    n_valid: int
    """Users with a validation target: those of 4 events or more."""
    n_test: int
    """Users with a test target: those of 3 events or more."""
    n_short: int
    """Users with fewer, who are trained on and not tested."""
    n_unseen: int
    """Test targets that are no item of the training events."""
    n_repeated: int
    """Test targets that the user had before."""


@dataclass(frozen=True)
class EventFacts:
    """All of it."""

    n_users: int
    n_items: int
    n_events: int
    lengths: Spread
    """Events a user."""
    popularity: Spread
    """Events an item."""
    gini: float
    """0: all items equally often; near 1: few items have all events."""
    head: dict[float, float]
    """Share of the events that the most used 1, 10 and 20 % of the items have."""
    lorenz: tuple[tuple[float, float], ...]
    """Share of the items, most used first, and of the events they have."""
    n_rare_items: int
    """Items of fewer than 5 events."""
    n_repeating_users: int
    """Users who take an item more than once."""
    n_repeats: int
    """Events with an item the user had before."""
    n_doubles: int
    """Events equal to the one before in user, item and time."""
    time: TimeFacts | None
    split: SplitFacts
    n_unnamed: int
    """Rows without a user or an item, which RecBole drops."""

    @property
    def density(self) -> float:
        """Share of the user-item pairs that occur, repeats counted once."""
        return (self.n_events - self.n_repeats) / (self.n_users * self.n_items)


def event_facts(events: Events) -> EventFacts:
    """Count. Memory and time grow with the number of events alone, about 100 bytes and a microsecond each."""
    repeated = _repeated(events)
    lorenz = _lorenz(events.counts)
    items, parts = np.array(lorenz).T
    return EventFacts(
        n_users=len(events.user_tokens),
        n_items=len(events.item_tokens),
        n_events=len(events.user),
        lengths=spread(events.lengths),
        popularity=spread(events.counts),
        gini=_gini(events.counts),
        head={share: float(np.interp(share, items, parts)) for share in _LORENZ_SHARES},
        lorenz=tuple(lorenz[:: max(1, len(lorenz) // _LORENZ_POINTS)]) + (lorenz[-1],),
        n_rare_items=int((events.counts < 5).sum()),
        n_repeating_users=len(np.unique(events.user[repeated])),
        n_repeats=int(repeated.sum()),
        n_doubles=_doubles(events),
        time=None if events.time is None else _time_facts(events, events.time),
        split=_split_facts(events, repeated),
        n_unnamed=events.n_unnamed,
    )


def spread(values: NDArray[np.int64], n_bins: int = 14) -> Spread:
    """Summarise whole numbers >= 0.

    Args:
        values: Shape ``[n]``, not empty.
        n_bins: Most bars of the histogram; they grow in width where the range is wide.
    """
    quantiles = np.quantile(values, [0, 0.05, 0.25, 0.5, 0.75, 0.95, 1])
    low, high = int(values.min()), int(values.max())
    if high - low < n_bins:
        edges = np.arange(low, high + 2)
    else:
        edges = np.unique(np.geomspace(low + 1, high + 2, n_bins + 1).round().astype(np.int64)) - 1
    found, _ = np.histogram(values, bins=edges - 0.5)
    labels = [str(a) if b == a + 1 else f"{a}-{b - 1}" for a, b in zip(edges[:-1], edges[1:], strict=True)]
    bars = tuple((label, int(n)) for label, n in zip(labels, found, strict=True))
    return Spread(float(values.mean()), tuple(map(float, quantiles)), bars)


def _gini(counts: NDArray[np.int64]) -> float:
    ordered = np.sort(counts).astype(np.float64)
    n = len(ordered)
    return float((2 * np.arange(1, n + 1) - n - 1) @ ordered / (n * ordered.sum()))


def _lorenz(counts: NDArray[np.int64]) -> list[tuple[float, float]]:
    """Return up to 1,000 points (share of items, share of events), most used items first."""
    reached = np.concatenate([[0], np.cumsum(np.sort(counts)[::-1])]) / counts.sum()
    places = np.unique(np.linspace(0, len(counts), min(len(counts), 1000) + 1).round().astype(np.int64))
    return [(float(place / len(counts)), float(reached[place])) for place in places]


def _repeated(events: Events) -> NDArray[np.bool_]:
    """Tell of each event whether its user had the item before, shape ``[N]``."""
    pair = events.user.astype(np.int64) * len(events.item_tokens) + events.item
    order = np.argsort(pair, kind="stable")
    again = np.zeros(len(pair), dtype=bool)
    again[order[1:]] = pair[order[1:]] == pair[order[:-1]]
    return again


def _doubles(events: Events) -> int:
    same = (events.user[1:] == events.user[:-1]) & (events.item[1:] == events.item[:-1])
    if events.time is not None:
        same &= events.time[1:] == events.time[:-1]
    return int(same.sum())


def _time_facts(events: Events, time: NDArray[np.float64]) -> TimeFacts:
    step = events.user[1:] == events.user[:-1]
    tied = step & (time[1:] == time[:-1])
    rounded = time.astype(np.float32)
    lost = step & ~tied & (rounded[1:] == rounded[:-1])
    if events.day_gap is not None:
        tied |= step & (events.day_gap[1:] == 0)
    last = _tested(events) - 1
    return TimeFacts(
        n_steps=int(step.sum()),
        n_tied=int(tied.sum()),
        n_tied_tests=int(tied[last - 1].sum()),
        n_tied_in_float32=int(lost.sum()),
        first=float(time.min()),
        last=float(time.max()),
        by_gap=events.day_gap is not None,
    )


def _tested(events: Events) -> NDArray[np.int64]:
    """Return the row after the test target of each user who has one."""
    return events.ends[events.lengths >= FEW_INTERACTIONS]


def _split_facts(events: Events, repeated: NDArray[np.bool_]) -> SplitFacts:
    training = np.ones(len(events.user), dtype=bool)
    test = _tested(events) - 1
    valid = events.ends[events.lengths > FEW_INTERACTIONS] - 2
    training[test] = training[valid] = False
    seen = np.zeros(len(events.item_tokens), dtype=bool)
    seen[events.item[training]] = True
    return SplitFacts(
        n_train=int(training.sum()),
        n_valid=len(valid),
        n_test=len(test),
        n_short=int((events.lengths < FEW_INTERACTIONS).sum()),
        n_unseen=int((~seen[events.item[test]]).sum()),
        n_repeated=int(repeated[test].sum()),
    )
