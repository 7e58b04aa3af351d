"""Factors of several scores of the same candidates, by maximum likelihood."""

from __future__ import annotations

import torch
from torch import Tensor

PENALTY = 1e-3
"""Of the squared factors: keeps them finite where the scores tell every target apart."""


def likely_factors(scores: Tensor, real: Tensor, start: float = 0.0, iterations: int = 50) -> Tensor:
    """Return the factors under which a softmax of the sum gives the first candidate most mass, nearly.

    Args:
        scores: By part, of about one spread, shape ``[P, N, C]``; N cases, C candidates, the target first.
        real: False for places that hold no candidate, shape ``[N, C]``.
        start: Value that every factor starts from.
        iterations: Of L-BFGS, at most.

    Returns:
        Shape ``[P]``, of either sign.
    """
    factors = scores.new_full((len(scores),), start).requires_grad_()
    optimizer = torch.optim.LBFGS([factors], max_iter=iterations, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        total = torch.tensordot(factors, scores, dims=1).masked_fill(~real, -torch.inf)
        worth = (total.logsumexp(1) - total[:, 0]).mean() + PENALTY * factors.square().sum()
        worth.backward()
        return worth

    with torch.enable_grad():
        optimizer.step(loss)
    return factors.detach()
