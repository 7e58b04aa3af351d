"""Stage 1 on dense graphs, with all nodes contrasted at every step (MMHCL, arXiv 2504.16576)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

FIRST = 1
"""Row 0 of every table is RecBole's padding id; the contrast starts behind it."""


@dataclass(frozen=True)
class Weights:
    """Layers, temperature and weights of the loss."""

    ui_layers: int
    user_layers: int
    item_layers: int
    temperature: float
    alpha_user: float
    alpha_item: float
    reg_weight: float


class NaiveStage1(nn.Module):
    """Four tables, LightGCN on the user-item graph, propagation over the two dense hypergraphs.

    Args:
        user_item: Sparse ``[U + I, U + I]``.
        user_user: Dense ``[U, U]``.
        item_item: Dense ``[I, I]``.
        width: Width of the tables.
        weights: Layers and weights of the loss.
    """

    def __init__(self, user_item: Tensor, user_user: Tensor, item_item: Tensor, width: int, weights: Weights) -> None:
        super().__init__()
        self.user_item, self.user_user, self.item_item, self.weights = user_item, user_user, item_item, weights
        n_users, n_items = len(user_user), len(item_item)
        self.user_ui, self.item_ui = nn.Embedding(n_users, width), nn.Embedding(n_items, width)
        self.user_hyper, self.item_hyper = nn.Embedding(n_users, width), nn.Embedding(n_items, width)
        for table in (self.user_ui, self.item_ui, self.user_hyper, self.item_hyper):
            nn.init.xavier_uniform_(table.weight)

    def forward(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return final vectors of users and items, then their hypergraph vectors before normalisation."""
        layer = torch.cat([self.user_ui.weight, self.item_ui.weight])
        layers = [layer]
        for _ in range(self.weights.ui_layers):
            layer = torch.sparse.mm(self.user_item, layer)
            layers.append(layer)
        user, item = torch.stack(layers).mean(0).split([len(self.user_user), len(self.item_item)])
        user_hyper, item_hyper = self.user_hyper.weight, self.item_hyper.weight
        for _ in range(self.weights.user_layers):
            user_hyper = self.user_user @ user_hyper
        for _ in range(self.weights.item_layers):
            item_hyper = self.item_item @ item_hyper
        user = user + functional.normalize(user_hyper, dim=1)
        item = item + functional.normalize(item_hyper, dim=1)
        return user, item, user_hyper, item_hyper

    def ranking_loss(self, user: Tensor, item: Tensor, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Return BPR and L2 of a batch of (user, item, sampled item)."""
        users, positive, negative = batch
        u, p, n = user[users], item[positive], item[negative]
        bpr = -functional.logsigmoid((u * p).sum(1) - (u * n).sum(1)).mean()
        squares = u.square().sum() + p.square().sum() + n.square().sum()
        return bpr + self.weights.reg_weight * squares / (2 * len(users))

    def loss(self, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Return the whole loss with every ``N x N`` similarity in memory; for small data."""
        user, item, user_hyper, item_hyper = self()
        total = self.ranking_loss(user, item, batch)
        for alpha, view, hyper in self._contrasts(user, item, user_hyper, item_hyper):
            total = total + alpha * sum(contrast_blocks(view, hyper, self.weights.temperature, len(view)))
        return total

    def backward(self, batch: tuple[Tensor, Tensor, Tensor], rows: int = 1024) -> float:
        """Fill the gradients of :meth:`loss` with ``rows`` rows of the similarities in memory at a time.

        All of them do not fit for a real data set. The gradients of the vectors are summed block by block, so that
        nothing is computed twice.
        """
        outputs = self()
        leaves = [output.detach().requires_grad_() for output in outputs]
        part = self.ranking_loss(leaves[0], leaves[1], batch)
        part.backward()
        total = part.item()
        for alpha, view, hyper in self._contrasts(*leaves):
            size = len(view)
            for start in range(0, size, rows):
                part = alpha * next(contrast_blocks(view, hyper, self.weights.temperature, rows, start))
                part.backward()
                total += part.item()
        pairs = [(out, leaf.grad) for out, leaf in zip(outputs, leaves, strict=True) if leaf.grad is not None]
        torch.autograd.backward([out for out, _ in pairs], [grad for _, grad in pairs])
        return total

    def _contrasts(
        self, user: Tensor, item: Tensor, user_hyper: Tensor, item_hyper: Tensor
    ) -> list[tuple[float, Tensor, Tensor]]:
        return [
            (self.weights.alpha_user, user[FIRST:], user_hyper[FIRST:]),
            (self.weights.alpha_item, item[FIRST:], item_hyper[FIRST:]),
        ]


def contrast_blocks(view: Tensor, hyper: Tensor, temperature: float, rows: int, start: int = 0) -> Iterator[Tensor]:
    """Give the contrast of two views of all nodes, ``rows`` anchors at a time; their sum is the mean over the nodes.

    ``-log f(a_n, b_n) / (sum_j f(a_n, a_j) - f(a_n, a_n) + sum_j f(a_n, b_j))``, ``f(a, b) = exp(cos(a, b) / tau)``.
    """
    one, two = functional.normalize(view, dim=1), functional.normalize(hyper, dim=1)
    for first in range(start, len(one), rows):
        anchors = one[first : first + rows]
        within = torch.exp(anchors @ one.T / temperature)
        between = torch.exp(anchors @ two.T / temperature)
        here = torch.arange(len(anchors))
        own, pair = within[here, here + first], between[here, here + first]
        yield -torch.log(pair / (within.sum(1) - own + between.sum(1))).sum() / len(one)
