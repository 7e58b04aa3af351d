"""Which rows go together: batches of sequences of about equal length, and samples without chance."""

from __future__ import annotations

import torch
from torch import Tensor


def spread_evenly(n_rows: int, most: int) -> Tensor:
    """Return the indices of ``most`` rows at even distances, ascending; of all rows if there are no more."""
    count = min(most, n_rows)
    return torch.arange(count) * n_rows // max(1, count)


def length_batches(lengths: Tensor, batch_size: int, generator: torch.Generator) -> list[Tensor]:
    """Cut rows into batches of similar length, in random order, so that little is padding.

    Rows are shuffled, sorted by length within chunks of many batches, and the batches shuffled again: every row occurs
    once, and which rows meet differs by epoch.

    Args:
        lengths: Length of every row, shape ``[N]``.
        batch_size: Rows of a batch.
        generator: Source of the order.

    Returns:
        Row indices by batch.
    """
    order = torch.randperm(len(lengths), generator=generator)
    chunk = batch_size * 50
    batches: list[Tensor] = []
    for start in range(0, len(order), chunk):
        part = order[start : start + chunk]
        part = part[torch.argsort(lengths[part], stable=True)]
        batches.extend(part.split(batch_size))
    return [batches[index] for index in torch.randperm(len(batches), generator=generator).tolist()]
