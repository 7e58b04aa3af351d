"""Rows and tensors of a run on several processes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from recbole_hellm.distributed.group import device, maxima, peers, rank, world_size
from recbole_hellm.errors import HellmError

BUCKET = 1 << 23
"""Numbers of small gradients sent together (32 MB in float32)."""


def own_rows(n_rows: int) -> slice:
    """Return this process's rows of a batch all have: equal shares in order, the last ones smaller or empty."""
    share = -(-n_rows // world_size())
    start = min(rank() * share, n_rows)
    return slice(start, min(start + share, n_rows))


def even_rows(n_rows: int) -> slice:
    """Return as :func:`own_rows`, but as many rows everywhere: the last shares begin earlier, among others' rows."""
    share = -(-n_rows // world_size())
    start = min(rank() * share, n_rows - share)
    return slice(start, start + share)


def mesh() -> Any:
    """Return the joined processes as a ``DeviceMesh``."""
    from torch.distributed.device_mesh import init_device_mesh

    return init_device_mesh(device().type, (world_size(),))


def spread(tensors: Iterable[Tensor]) -> None:
    """Give tensors the values they have on the main process."""
    if world_size() == 1:
        return
    with peers(), torch.no_grad():
        for tensor in tensors:
            here = tensor.detach().to(device()).contiguous()
            dist.broadcast(here, src=0)
            tensor.copy_(here)


def sum_gradients(parameters: Sequence[Any]) -> None:
    """Add up the gradients of all processes, in place: the only tensors that training sends.

    A parameter without a gradient everywhere stays without; one that lacks it on some processes has zeros there.

    Args:
        parameters: Those that are trained, in the same order on every process.
    """
    if world_size() == 1:
        return
    has = maxima([float(parameter.grad is not None) for parameter in parameters])
    gradients = []
    for parameter, there in zip(parameters, has, strict=True):
        if there and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        if there:
            gradients.append(parameter.grad)
    with peers():
        for bucket in _buckets(gradients):
            if len(bucket) == 1 and bucket[0].is_contiguous():
                dist.all_reduce(bucket[0])
                continue
            flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
            dist.all_reduce(flat)
            for gradient, part in zip(bucket, flat.split([g.numel() for g in bucket]), strict=True):
                gradient.copy_(part.view_as(gradient))


def _buckets(tensors: Iterable[Tensor]) -> Iterable[list[Tensor]]:
    """Yield tensors of one type together, up to :data:`BUCKET` numbers."""
    bucket: list[Tensor] = []
    for tensor in tensors:
        full = sum(t.numel() for t in bucket) + tensor.numel() > BUCKET
        if bucket and (full or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket


def check_equal(tensors: Iterable[Tensor], what: str) -> None:
    """Check that tensors are the same on every process, by a sum of each.

    Raises:
        HellmError: If they are not.
    """
    if world_size() == 1:
        return
    here = [float(tensor.detach().double().sum().nan_to_num()) for tensor in tensors]
    above, below = maxima(here), [-value for value in maxima([-value for value in here])]
    differ = sum(a != b for a, b in zip(above, below, strict=True))
    if differ:
        raise HellmError(
            f"{differ} of {len(here)} {what} differ between the processes of this run, which must never be; start "
            "again with --resume=auto, with equal versions and processors on all machines"
        )
