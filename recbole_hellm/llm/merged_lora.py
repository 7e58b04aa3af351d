"""LoRA's updates inside the frozen matrices for as long as nothing is trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

from recbole_hellm.out_of_memory import is_memory_error

MOST_BYTES = 2**28
"""Frozen matrices larger than this together stay as they are: they are copied, to come back to the bit."""


@contextmanager
def merged_lora(model: nn.Module) -> Iterator[None]:
    """Inside, a matrix with a LoRA update makes one product where it made three.

    The sum is rounded to the matrix's own type. Left as they are: matrices that are large together or for which memory
    does not suffice, that are spread over processes, that several modules share, and updates of anything but a matrix.

    Args:
        model: With PEFT's LoRA modules in it, or without.
    """
    parts = _mergeable(model)
    with ExitStack() as after:
        try:
            for part in parts:
                weight = part.get_base_layer().weight
                after.callback(_put_back, part, weight, weight.data)
                weight.data = weight.data.clone()
                part.merge()
        except (MemoryError, RuntimeError) as error:
            if not is_memory_error(error):
                raise
            after.close()
        yield


def _mergeable(model: nn.Module) -> list[Any]:
    from peft.tuners.lora import Linear
    from torch.distributed.tensor import DTensor

    found: list[Any] = []
    used = Counter(id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False))
    modules: list[Any] = list(model.modules())
    for part in modules:
        base = part.get_base_layer() if isinstance(part, Linear) and not part.merged else None
        if isinstance(base, nn.Linear) and not isinstance(base.weight, DTensor) and used[id(base.weight)] == 1:
            found.append(part)
    return found if sum(part.get_base_layer().weight.nbytes for part in found) <= MOST_BYTES else []


def _put_back(part: Any, weight: nn.Parameter, data: Any) -> None:
    try:
        weight.data = data
    finally:  # also where a signal comes in between
        part.merged_adapters.clear()
