"""Whether item vectors tell what a user takes next: content-only nearest neighbours under leave-one-out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recbole_hellm.data.interactions import Events
from recbole_hellm.data.records import FEW_INTERACTIONS
from recbole_hellm.errors import DataError

Split = Literal["valid", "test"]
Vectors = Any
"""Shape ``[n_items, d]``: float32 array or scipy sparse matrix; an item without a vector is all zero."""
RECENT = tuple(0.6**age for age in range(7))
"""Weights of the newest items of a history, newest first, in the measure ``recent``."""
_BLOCK = 512


@dataclass(frozen=True)
class Score:
    """How well a score of all items finds the next one."""

    recall: float
    """Share of the users whose next item is among the first ``k``."""
    ndcg: float
    """Mean of ``1 / log2(1 + rank)`` of those, 0 for the others."""


@dataclass(frozen=True)
class Histories:
    """One target a user and the items before it.

    Attributes:
        items: The histories one after the other, newest item first in each.
        starts: Where each begins; one more than users.
        target: The item to find, shape ``[n_users]``.
        seen: Events of each item that may be learned from: those before the validation event, shape ``[n_items]``.
    """

    items: NDArray[np.int64]
    starts: NDArray[np.int64]
    target: NDArray[np.int64]
    seen: NDArray[np.int64]

    @property
    def n_users(self) -> int:
        """Users that are ranked for."""
        return len(self.target)


def histories(events: Events, split: Split, max_users: int = 0) -> Histories:
    """Cut every user with 3 events or more into history and target.

    Args:
        events: The interactions.
        split: ``test``: the last event is the target, all before it the history. ``valid``: the one before the last is
            the target, and the last is never looked at.
        max_users: Take so many users, evenly spread over all; 0: all.

    Raises:
        DataError: If no user has enough events.
        ValueError: If ``split`` is no such word.
    """
    if split not in get_args(Split):
        raise ValueError(f"split must be one of {', '.join(get_args(Split))}, got {split!r}")
    users = np.flatnonzero(events.lengths >= FEW_INTERACTIONS)
    if not len(users):
        raise DataError(f"no user has {FEW_INTERACTIONS} interactions: nothing can be held out")
    place = np.arange(len(events.item)) - np.repeat(events.ends - events.lengths, events.lengths)
    held = (np.repeat(events.lengths, events.lengths) - place <= 2) & (np.repeat(events.lengths, events.lengths) >= 3)
    seen = np.bincount(events.item[~held], minlength=len(events.item_tokens))
    if max_users and len(users) > max_users:
        users = users[np.linspace(0, len(users) - 1, max_users).astype(int)]
    last = events.ends[users] - (1 if split == "test" else 2)
    first = events.ends[users] - events.lengths[users]
    rows = [events.item[start:stop][::-1] for start, stop in zip(first, last, strict=True)]
    starts = np.concatenate([[0], np.cumsum(last - first)])
    return Histories(np.concatenate(rows).astype(np.int64), starts, events.item[last].astype(np.int64), seen)


def nearest_items(vectors: Vectors, cases: Histories, weights: tuple[float, ...], k: int = 10) -> Score:
    """Rank all items by their cosine to a weighted sum of the unit vectors of the newest items of each history.

    Nothing is learned. Items of the history are left out of the ranking. A target that shares its score with others
    gets the mean of their ranks, so that equal scores cannot win.

    Args:
        vectors: One row an item.
        cases: Histories and targets.
        weights: Of the items of a history, newest first; ``(1.0,)`` looks at the newest alone.
        k: Length of the list.
    """
    unit = _unit(vectors)
    hits = gain = 0.0
    for start in range(0, cases.n_users, _BLOCK):
        stop = min(start + _BLOCK, cases.n_users)
        query = _weights(cases, start, stop, weights, unit.shape[0]) @ unit
        product = query @ unit.T
        scores = product.toarray() if sp.issparse(product) else np.asarray(product)
        rank = _ranks(scores.astype(np.float32), cases, start)
        found = rank <= k
        hits += found.sum()
        gain += (found / np.log2(1 + rank)).sum()
    return Score(float(hits / cases.n_users), float(gain / cases.n_users))


def most_popular(cases: Histories, k: int = 10) -> Score:
    """Rank all items by their number of training events, those of the history left out."""
    hits = gain = 0.0
    for start in range(0, cases.n_users, _BLOCK):
        n_rows = min(_BLOCK, cases.n_users - start)
        rank = _ranks(np.tile(cases.seen.astype(np.float32), (n_rows, 1)), cases, start)
        found = rank <= k
        hits += found.sum()
        gain += (found / np.log2(1 + rank)).sum()
    return Score(float(hits / cases.n_users), float(gain / cases.n_users))


def by_chance(cases: Histories, k: int = 10) -> Score:
    """Return what a random order of the items outside the history gives on average."""
    ranked = np.maximum(len(cases.seen) - np.diff(cases.starts), 1)
    ranks = np.arange(1, k + 1)
    gains = (ranks <= ranked[:, None]) / np.log2(1 + ranks)
    return Score(float(np.minimum(k / ranked, 1).mean()), float((gains.sum(axis=1) / ranked).mean()))


def shuffled(vectors: Vectors, seed: int) -> Vectors:
    """Return the vectors given to other items at random, among the items that have one."""
    present = np.flatnonzero(_has_vector(vectors))
    order = np.arange(vectors.shape[0])
    order[present] = np.random.default_rng(seed).permutation(present)
    return vectors[order]


def _has_vector(vectors: Vectors) -> NDArray[np.bool_]:
    return np.asarray((vectors != 0).sum(axis=1)).ravel() > 0


def _unit(vectors: Vectors) -> Vectors:
    """Return the rows at length 1."""
    if sp.issparse(vectors):
        lengths = np.sqrt(np.asarray(vectors.multiply(vectors).sum(axis=1)).ravel())
        return sp.diags(np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths > 0)) @ vectors
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)


def _weights(cases: Histories, start: int, stop: int, weights: tuple[float, ...], n_items: int) -> sp.csr_matrix:
    """Return the weight of each item of each history, shape ``[stop - start, n_items]``."""
    rows, columns, values = list[int](), list[int](), list[float]()
    for row, user in enumerate(range(start, stop)):
        newest = cases.items[cases.starts[user] : cases.starts[user + 1]][: len(weights)]
        rows += [row] * len(newest)
        columns += newest.tolist()
        values += weights[: len(newest)]
    return sp.csr_matrix((np.array(values, dtype=np.float32), (rows, columns)), shape=(stop - start, n_items))


def _ranks(scores: NDArray[np.float32], cases: Histories, start: int) -> NDArray[np.float64]:
    """Return the rank of each target, from 1; equal scores share their mean rank. ``scores`` are written to."""
    users = np.arange(len(scores))
    target = cases.target[start : start + len(scores)]
    own = scores[users, target].copy()[:, None]
    lengths = np.diff(cases.starts[start : start + len(scores) + 1])
    items = cases.items[cases.starts[start] : cases.starts[start + len(scores)]]
    scores[np.repeat(users, lengths), items] = -np.inf
    scores[users, target] = own[:, 0]  # a target the user had before is to be found as well
    above, equal = (scores > own).sum(axis=1), (scores == own).sum(axis=1)
    return above + (equal + 1) / 2
