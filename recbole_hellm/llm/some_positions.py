"""Position-wise modules that work on the positions somebody will read, and on no others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


@contextmanager
def only_at(modules: Sequence[nn.Module], positions: Tensor | None) -> Iterator[None]:
    """Inside, each module computes the states of the given positions and returns zeros for the others.

    In the last layer of a decoder the only states another position looks at are keys and values. Queries, and all that
    follows the attention, need not be made where nobody reads: together most of a layer's products.

    Args:
        modules: Each maps ``[B, T, D]`` to ``[B, T, E]``, every position by itself.
        positions: Where they compute, bool ``[B, T]``; ``None``: everywhere.
    """
    if positions is None:
        yield
        return

    def gather(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (args[0][positions], *args[1:])

    def scatter(_: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        whole = output.new_zeros(*positions.shape, output.size(-1))
        whole[positions] = output
        return whole

    hooks = [
        hook
        for module in modules
        for hook in (module.register_forward_pre_hook(gather), module.register_forward_hook(scatter))
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
