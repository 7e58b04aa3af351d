"""LoRA's updates inside the frozen matrices for as long as nothing is trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

MOST_BYTES = 2**28
"""Frozen matrices larger than this together stay as they are: they are copied, to come back to the bit."""


@contextmanager
def merged_lora(model: nn.Module) -> Iterator[None]:
    """Inside, a matrix with a LoRA update makes one product where it made three.

    The sum is rounded to the matrix's own type. Nothing is done where the matrices are large, where they are spread
    over processes, or for adapters that cannot be added to their matrix.

    Args:
        model: With PEFT's LoRA modules in it, or without.
    """
    from peft.tuners.lora import LoraLayer
    from torch.distributed.tensor import DTensor

    parts: list[Any] = [part for part in model.modules() if isinstance(part, LoraLayer) and not part.merged]
    weights = [part.get_base_layer().weight for part in parts]
    if any(isinstance(weight, DTensor) for weight in weights) or sum(w.nbytes for w in weights) > MOST_BYTES:
        yield
        return
    with ExitStack() as after:
        for part, weight in zip(parts, weights, strict=True):
            after.callback(_put_back, part, weight, weight.data)
            weight.data = weight.data.clone()
            part.merge()
        yield


def _put_back(part: Any, weight: nn.Parameter, data: Any) -> None:
    weight.data = data
    part.merged_adapters.clear()
