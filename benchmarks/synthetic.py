"""Interactions of any size: activity and popularity follow power laws, no user takes an item twice."""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.inputs import Stage1Inputs


def interactions(n_users: int, n_items: int, n_events: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return user and item ids (from 1), users ascending, each pair once; every user and every item occurs.

    Raises:
        ValueError: If so many distinct pairs cannot be.
    """
    if n_events > n_users * n_items // 3 or n_events < max(n_users, n_items):
        raise ValueError(f"{n_events} events do not fit {n_users} users and {n_items} items")
    rng = np.random.default_rng(seed)
    everybody, everything = np.arange(n_users), np.arange(n_items)
    pairs = np.unique(np.concatenate([
        everybody * n_items + _popular(rng, n_items, n_users),
        rng.integers(0, n_users, n_items) * n_items + everything,
    ]))  # fmt: skip
    while len(pairs) < n_events:
        lacking = n_events - len(pairs)
        more = _popular(rng, n_users, lacking, 0.3) * n_items + _popular(rng, n_items, lacking)
        pairs = np.unique(np.concatenate([pairs, more]))
    return pairs // n_items + 1, pairs % n_items + 1


def _popular(rng: np.random.Generator, n_ids: int, size: int, exponent: float = 0.6) -> np.ndarray:
    """Draw ids whose frequency falls with their rank to the power ``-exponent``; ranks are shuffled over the ids."""
    ranks = (n_ids * rng.random(size) ** (1 / (1 - exponent))).astype(np.int64).clip(max=n_ids - 1)
    return np.random.default_rng(n_ids).permutation(n_ids)[ranks]


def synthetic_inputs(n_users: int, n_items: int, n_events: int, width: int, seed: int) -> Stage1Inputs:
    """Return interactions and one modality of random features in clusters, as :class:`Stage1Inputs`."""
    users, items = interactions(n_users, n_items, n_events, seed)
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(max(1, n_items // 100), width, generator=generator)
    member = torch.randint(len(centres), (n_items + 1,), generator=generator)
    features = centres[member] + 0.5 * torch.randn(n_items + 1, width, generator=generator)
    present = torch.ones(n_items + 1, dtype=torch.bool)
    present[0] = False
    return Stage1Inputs(
        torch.from_numpy(users), torch.from_numpy(items), n_users + 1, n_items + 1, [(features, present)]
    )
