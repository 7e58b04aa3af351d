"""A catalogue split over processes: each holds the vectors of a share of the items, and none has a whole row of logits.

The split of the softmax is Megatron-LM's (Shoeybi et al. 2019, arXiv 1909.08053, section 3). Equal to the dense
functions of :mod:`recbole_hellm.nn.catalogue_loss` up to the order of sums. A building block: no model uses it yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from recbole_hellm.nn import catalogue_loss


@dataclass(frozen=True)
class Shard:
    """The items of one process: ``start <= id < stop`` of ``n_items``.

    Attributes:
        start: First item id.
        stop: Behind the last one.
        n_items: Size I of the whole catalogue.
        largest: Items of the largest share.
        group: Processes that hold the catalogue together; ``None``: all.
    """

    start: int
    stop: int
    n_items: int
    largest: int
    group: Any = None

    def own(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return which ids are of this share, and their rows in it (0 for the others)."""
        mine = (ids >= self.start) & (ids < self.stop)
        return mine, torch.where(mine, ids - self.start, 0)

    def sum(self, tensor: Tensor) -> Tensor:
        """Return a tensor summed over the processes, in place."""
        dist.all_reduce(tensor, group=self.group)
        return tensor


def shard_of(n_items: int, group: Any = None) -> Shard:
    """Return this process's share of a catalogue: equal shares in order of the ids, the first ones one item larger.

    Args:
        n_items: Size of the catalogue, at least one item a process.
        group: Processes that hold it together; ``None``: all.

    Raises:
        ValueError: If there are fewer items than processes.
    """
    count, place = dist.get_world_size(group), dist.get_rank(group)
    if n_items < count:
        raise ValueError(f"a catalogue of {n_items} items cannot be split over {count} processes")
    share, more = divmod(n_items, count)
    start = place * share + min(place, more)
    return Shard(start, start + share + (place < more), n_items, share + (more > 0), group)


def gather_rows(rows: Tensor, group: Any = None) -> Tensor:
    """Return the rows of all processes, in their order, shape ``[sum of M, ...]``.

    In the backward pass each process takes the gradient of its own rows, which must be the same on every process, as
    that of :func:`sharded_cross_entropy` is.

    Args:
        rows: Shape ``[M, ...]``; M may differ by process, and be 0.
        group: The processes.
    """
    gathered: Tensor = _GatherRows.apply(rows, group)
    return gathered


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, group: Any) -> Tensor:
        counts = [torch.zeros(1, dtype=torch.long, device=rows.device) for _ in range(dist.get_world_size(group))]
        dist.all_gather(counts, torch.tensor([len(rows)], device=rows.device), group=group)
        sizes = [int(count) for count in counts]
        padded = rows.new_zeros(max(sizes), *rows.shape[1:])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded, group=group)
        before = sum(sizes[: dist.get_rank(group)])
        ctx.own = slice(before, before + len(rows))
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0][ctx.own], None


def sharded_rows(weight: Tensor, ids: Tensor, shard: Shard) -> Tensor:
    """Return the vectors of items, wherever they lie, shape ``[..., D]``.

    Args:
        weight: This process's vectors, shape ``[I / n, D]``.
        ids: Item ids, the same on every process.
        shard: Which items they are of.
    """
    found: Tensor = _ShardedRows.apply(weight, ids, shard)
    return found


class _ShardedRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, ids: Tensor, shard: Shard) -> Tensor:
        mine, rows = shard.own(ids)
        ctx.save_for_backward(mine, rows)
        ctx.shape = weight.shape
        return shard.sum(weight[rows] * mine.unsqueeze(-1))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        mine, rows = ctx.saved_tensors
        gradient = grads[0].new_zeros(ctx.shape)
        return gradient.index_add_(0, rows[mine], grads[0][mine]), None, None


def sharded_cross_entropy(
    states: Tensor, weight: Tensor, targets: Tensor, shard: Shard, label_smoothing: float = 0.0
) -> Tensor:
    """Mean cross-entropy over the whole catalogue, its logits split over the processes and made block by block.

    Sent are three numbers for each row, and the gradient of ``states`` once.

    Args:
        states: The same on every process, shape ``[M, D]`` (of rows that differ: :func:`gather_rows`).
        weight: This process's output vectors, shape ``[I / n, D]``.
        targets: Item ids, the same on every process, int64 ``[M]``.
        shard: Which items the vectors are of.
        label_smoothing: Share of the target's mass spread over the catalogue.

    Returns:
        A scalar in nats, the same on every process. Its gradient for ``states`` is complete on every process, that for
        ``weight`` is of this process's items.
    """
    wants = torch.is_grad_enabled() and (states.requires_grad or weight.requires_grad)
    loss: Tensor = _ShardedLoss.apply(states, weight, targets, shard, label_smoothing, wants)
    return loss


class _ShardedLoss(torch.autograd.Function):
    """Loss and both gradients in one pass over blocks of rows."""

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, weight: Tensor, targets: Tensor, shard: Shard, smoothing: float, wants: bool
    ) -> Tensor:
        total = states.new_zeros(())
        d_states, d_weight = torch.zeros_like(states), torch.zeros_like(weight) if wants else None
        # Every process makes the same blocks, whatever its share: they talk once a block.
        for rows in torch.arange(len(states), device=states.device).split(
            max(1, catalogue_loss.BLOCK // shard.largest)
        ):
            logits = states[rows] @ weight.T
            total += _block(logits, targets[rows], shard, smoothing, len(states))
            if d_weight is not None:
                d_states[rows] = logits @ weight
                d_weight.addmm_(logits.T, states[rows])
        ctx.save_for_backward(shard.sum(d_states) if wants else None, d_weight)
        return total / len(states)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        d_states, d_weight = ctx.saved_tensors
        if bool(grads[0] != 1):  # the usual case saves a copy of the table
            d_states, d_weight = d_states * grads[0], d_weight * grads[0]
        return d_states, d_weight, None, None, None, None


def _block(logits: Tensor, targets: Tensor, shard: Shard, smoothing: float, n_rows: int) -> Tensor:
    """Return the summed loss of a block; its logits ``[b, I / n]`` become the gradient of the mean over ``n_rows``."""
    mine, columns = shard.own(targets)
    largest = logits.amax(1)
    dist.all_reduce(largest, dist.ReduceOp.MAX, group=shard.group)
    aim = torch.where(mine, logits.gather(1, columns.unsqueeze(1)).squeeze(1), 0.0)
    spread = logits.sum(1) if smoothing else torch.zeros_like(aim)
    share = logits.sub_(largest.unsqueeze(1)).exp_()  # (b, I / n)
    partition, aim, spread = shard.sum(torch.stack([share.sum(1), aim, spread]))
    share.div_(partition.unsqueeze(1))
    if smoothing:
        share.sub_(smoothing / shard.n_items)
    share.scatter_add_(1, columns.unsqueeze(1), ((smoothing - 1) * mine).to(share.dtype).unsqueeze(1))
    share.div_(n_rows)
    return (largest + partition.log() - (1 - smoothing) * aim - smoothing * spread / shard.n_items).sum()


def sharded_top_k(states: Tensor, weight: Tensor, k: int, shard: Shard) -> tuple[Tensor, Tensor]:
    """Return the ``k`` best scores of the whole catalogue and their item ids, both ``[M, k]``, best first.

    Each process sends its own ``k`` best. Of equal scores any may come first.

    Args:
        states: The same on every process, shape ``[M, D]``.
        weight: This process's output vectors, shape ``[I / n, D]``.
        k: Length of the lists, at most the number of items.
        shard: Which items they are of.
    """
    best = torch.topk(states @ weight.T, min(k, len(weight)), dim=1)
    missing = k - best.values.size(1)  # a share smaller than the list
    values = torch.nn.functional.pad(best.values, (0, missing), value=-torch.inf)
    items = torch.nn.functional.pad(best.indices + shard.start, (0, missing))
    count = dist.get_world_size(shard.group)
    all_values, all_items = ([torch.empty_like(t) for _ in range(count)] for t in (values, items))
    dist.all_gather(all_values, values.contiguous(), group=shard.group)
    dist.all_gather(all_items, items.contiguous(), group=shard.group)
    found = torch.topk(torch.cat(all_values, dim=1), k, dim=1)
    return found.values, torch.cat(all_items, dim=1).gather(1, found.indices)


def sharded_ranks(states: Tensor, weight: Tensor, targets: Tensor, shard: Shard) -> Tensor:
    """Return the place of each target in the whole catalogue, 1 = first, int64 ``[M]``: 1 + the number of better items.

    Args:
        states: The same on every process, shape ``[M, D]``.
        weight: This process's output vectors, shape ``[I / n, D]``.
        targets: Item ids, the same on every process, int64 ``[M]``.
        shard: Which items they are of.
    """
    mine, rows = shard.own(targets)
    scores = states @ weight.T
    target = shard.sum(torch.where(mine, scores.gather(1, rows.unsqueeze(1)).squeeze(1), 0.0))
    return shard.sum((scores > target.unsqueeze(1)).sum(1)) + 1
