"""Cross-entropy over a whole catalogue without keeping its logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

BLOCK = 1 << 25
"""Logits in memory at once (64 MB in bf16): enough rows for fast matrix products at any catalogue size."""
CACHED = 1 << 20
"""Logits turned into gradients at a time: few enough to stay in the processor's cache meanwhile."""


@dataclass(frozen=True)
class Offset:
    """Constants added to the logits ``[M, I]``, never held as a whole: a product of two thin matrices, and entries."""

    left: Tensor
    """Shape ``[M, F]``."""
    right: Tensor
    """Shape ``[I, F]``: ``left @ right.T`` is added."""
    row: Tensor
    """Rows of the entries, ascending, int64 ``[n]``."""
    column: Tensor
    """Columns of the entries, int64 ``[n]``; entries in one place add up."""
    value: Tensor
    """Shape ``[n]``."""

    def add(self, logits: Tensor, start: int) -> Tensor:
        """Add its rows from ``start`` on to as many rows of logits ``[m, I]``, in place."""
        stop = start + len(logits)
        logits.addmm_(self.left[start:stop].to(logits.dtype), self.right.to(logits.dtype).T)
        bounds = torch.searchsorted(self.row, torch.tensor([start, stop], device=self.row.device)).tolist()
        some = slice(*bounds)
        place = (self.row[some] - start) * logits.size(1) + self.column[some]
        logits.view(-1).index_add_(0, place, self.value[some].to(logits.dtype))
        return logits

    def at(self, items: Tensor) -> Tensor:
        """Return what is added to the logit of one item a row, ``[M]`` of item ids ``[M]``."""
        here = self.column == items[self.row]
        dense = (self.left.float() * self.right[items].float()).sum(1)
        return dense.index_add(0, self.row[here], self.value[here].float())

    def among(self, items: Tensor) -> Tensor:
        """Return what is added to the logits of some items, ``[M, n]`` of distinct item ids ``[n]``."""
        place = torch.full((len(self.right),), -1, device=items.device)
        place[items] = torch.arange(len(items), device=items.device)
        column = place[self.column]
        here = column >= 0
        dense = self.left.float() @ self.right[items].float().T
        return dense.index_put((self.row[here], column[here]), self.value[here].float(), accumulate=True)


def catalogue_cross_entropy(
    states: Tensor,
    weight: Tensor,
    targets: Tensor,
    label_smoothing: float = 0.0,
    half: bool = False,
    offset: Offset | None = None,
) -> Tensor:
    """Mean cross-entropy of ``states @ weight.T`` against item ids.

    The same as ``cross_entropy(linear(states, weight), targets)``, but loss and gradients are made block by block in
    the forward pass and no ``[M, I]`` matrix outlives its block (Wijmans et al. 2024, arXiv 2411.09009, describe the
    saving; here the gradient is made at once instead of again in the backward pass).

    Args:
        states: Shape ``[M, D]``; at least one row.
        weight: One output vector per item, shape ``[I, D]``.
        targets: Item ids, int64 ``[M]``.
        label_smoothing: Share of the target's mass spread over the catalogue.
        half: Multiply in bf16; sums and gradients stay in the inputs' precision.
        offset: Added to the logits; nothing is trained through it.

    Returns:
        A scalar in nats.
    """
    with torch.autocast(states.device.type, enabled=False):
        wants = torch.is_grad_enabled() and (states.requires_grad or weight.requires_grad)
        return _CatalogueLoss.apply(states, weight, targets, label_smoothing, half, wants, offset)


class _CatalogueLoss(torch.autograd.Function):
    """Loss and both gradients in one pass over blocks of rows."""

    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        weight: Tensor,
        targets: Tensor,
        smoothing: float,
        half: bool,
        wants: bool,
        offset: Offset | None,
    ) -> Tensor:
        dtype = torch.bfloat16 if half else states.dtype
        left, right = states.to(dtype), weight.to(dtype)
        n_rows, n_items = len(states), len(weight)
        total = torch.zeros((), dtype=torch.float64 if states.dtype == torch.float64 else torch.float32)
        total = total.to(states.device)
        d_states = torch.empty_like(states) if wants else None
        d_weight = torch.zeros_like(weight) if wants and n_rows * n_items > BLOCK else None
        for start in range(0, n_rows, rows := max(1, BLOCK // n_items)):
            block = slice(start, min(start + rows, n_rows))
            logits = left[block] @ right.T
            if offset is not None:
                offset.add(logits, start)
            total += _loss_and_gradient(logits, targets[block], smoothing, n_rows if wants else 0)
            if d_states is not None:
                d_states[block] = logits @ right
                part = (logits.T @ left[block]).to(weight.dtype)
                d_weight = part if d_weight is None else d_weight.add_(part)
        ctx.save_for_backward(d_states, d_weight)
        return total / n_rows

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        d_states, d_weight = ctx.saved_tensors
        if bool(grads[0] != 1):  # the usual case saves a pass over the table
            d_states, d_weight = d_states * grads[0], d_weight * grads[0]
        return d_states, d_weight, None, None, None, None, None


def _loss_and_gradient(logits: Tensor, targets: Tensor, smoothing: float, n_rows: int) -> Tensor:
    """Return the summed loss of a block; if ``n_rows`` its logits become the gradient of the mean over them."""
    total = torch.zeros((), device=logits.device)
    n_items = logits.size(1)
    for start in range(0, len(logits), step := max(1, CACHED // n_items)):
        rows = logits[start : start + step]
        wide = rows if rows.dtype == torch.float64 else rows.float()
        target = targets[start : start + step].unsqueeze(1)
        share = wide.softmax(1)
        # The log of the partition is the largest logit minus the log of its share: cheaper than a second exp.
        log_partition = wide.amax(1, keepdim=True) - share.amax(1, keepdim=True).log()
        aim = (1 - smoothing) * wide.gather(1, target)
        if smoothing:
            aim = aim + smoothing * wide.mean(1, keepdim=True)
        total = total + (log_partition - aim).sum()
        if n_rows:
            share.scatter_add_(1, target, torch.full_like(share[:, :1], smoothing - 1))
            rows.copy_((share.sub_(smoothing / n_items) if smoothing else share).div_(n_rows))
    return total


def sampled_cross_entropy(
    states: Tensor,
    weight: Tensor,
    targets: Tensor,
    negatives: Tensor,
    label_smoothing: float = 0.0,
    offset: Offset | None = None,
) -> Tensor:
    """Cross-entropy against a uniform sample of the catalogue, for catalogues too large for all of it.

    Every negative stands for ``(I - 1) / n`` items, so its logit gets the log of that (Jean et al. 2015, arXiv
    1412.2007): the sum over the sample then estimates the sum over the catalogue.

    Args:
        states: Shape ``[M, D]``.
        weight: Shape ``[I, D]``.
        targets: Item ids, int64 ``[M]``.
        negatives: Distinct item ids drawn uniformly, shared by all rows, int64 ``[n]``; a row's own target among them
            is left out of its sum.
        label_smoothing: Share of the target's mass spread over the sample.
        offset: Added to the logits; nothing is trained through it.

    Returns:
        A scalar in nats.
    """
    own = (states * weight[targets]).sum(1, keepdim=True)
    others = functional.linear(states, weight[negatives])
    share = (len(weight) - 1) / len(negatives)
    others = others.float() + torch.log(torch.tensor(share, device=states.device))
    if offset is not None:
        own, others = own.float() + offset.at(targets).unsqueeze(1), others + offset.among(negatives)
    others = others.masked_fill(negatives == targets.unsqueeze(1), -torch.inf)
    logits = torch.cat([own.float(), others], dim=1)
    if not label_smoothing:
        return functional.cross_entropy(logits, logits.new_zeros(len(logits), dtype=torch.long))
    log_shares = logits.log_softmax(1)
    spread = log_shares.masked_fill(torch.isinf(log_shares), 0.0).mean(1)
    return -((1 - label_smoothing) * log_shares[:, 0] + label_smoothing * spread).mean()
