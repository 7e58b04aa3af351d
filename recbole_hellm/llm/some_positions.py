"""A position-wise module that works on the positions somebody will read, and on no others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


@contextmanager
def only_at(module: nn.Module | None, positions: Tensor | None) -> Iterator[None]:
    """Inside, ``module`` computes the states of the given positions and returns zeros for the others.

    In the last layer of a decoder no position looks at another after its attention, so states nobody reads need not
    go through the feed-forward part, which holds most of a layer's products.

    Args:
        module: Maps ``[B, T, D]`` to ``[B, T, D]``, each position by itself; ``None``: nothing is left out.
        positions: Where the module computes, bool ``[B, T]``; ``None``: everywhere.
    """
    if module is None or positions is None:
        yield
        return

    def gather(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (args[0][positions], *args[1:])

    def scatter(_: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        whole = output.new_zeros(*positions.shape, output.size(-1))
        whole[positions] = output
        return whole

    hooks = [module.register_forward_pre_hook(gather), module.register_forward_hook(scatter)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
