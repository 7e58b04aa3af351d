"""Both hypergraphs as dense ``N x N`` matrices (HeLLM, arXiv 2504.10541; MMHCL, arXiv 2504.16576)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def interaction_matrix(users: Tensor, items: Tensor, n_users: int, n_items: int) -> Tensor:
    """Return ``R``, 1 where the user took the item, shape ``[n_users, n_items]``."""
    matrix = torch.zeros(n_users, n_items)
    matrix[users, items] = 1.0
    return matrix


def user_graph(users: Tensor, items: Tensor, n_users: int, n_items: int) -> Tensor:
    """Return ``R R^T`` with a zero diagonal, row-normalised, shape ``[n_users, n_users]``."""
    taken = interaction_matrix(users, items, n_users, n_items)
    return _row_normalised(taken @ taken.T)


def user_graph_from_sparse(users: Tensor, items: Tensor, n_users: int, n_items: int) -> Tensor:
    """Return the same matrix by a sparse times a dense product: what is dense is only the result and one operand.

    Far fewer multiplications than :func:`user_graph`: the dense side is not slow by its choice of product alone.
    """
    pairs = torch.unique(torch.stack([users, items]), dim=1)
    taken = torch.sparse_coo_tensor(pairs, torch.ones(pairs.size(1)), (n_users, n_items)).to_sparse_csr()
    return _row_normalised(taken @ taken.to_dense().T)


def _row_normalised(shared: Tensor) -> Tensor:
    shared.fill_diagonal_(0.0)
    # In place: a second N x N matrix would only make the dense side look worse.
    return shared.div_(shared.sum(1, keepdim=True).clamp_(min=1.0))


def item_incidence(modalities: Sequence[Tensor], present: Sequence[Tensor], k: int) -> Tensor:
    """Return ``H = [A_1 | A_2 | ...]``: the ``k`` items of largest positive cosine to each, shape ``[I, m * I]``."""
    blocks = []
    for vectors, there in zip(modalities, present, strict=True):
        unit = functional.normalize(vectors * there[:, None], dim=1)
        values, neighbours = (unit @ unit.T).topk(min(k, len(unit)), dim=1)
        blocks.append(torch.zeros(len(unit), len(unit)).scatter_(1, neighbours, (values > 0).float()))
    return torch.cat(blocks, dim=1)


def item_graph(modalities: Sequence[Tensor], present: Sequence[Tensor], k: int) -> Tensor:
    """Return ``D^-1/2 H H^T D^-1/2`` with ``D`` the row sums of ``H H^T``, shape ``[I, I]``."""
    incidence = item_incidence(modalities, present, k)
    shared = incidence @ incidence.T
    scale = shared.sum(1).clamp(min=1.0).rsqrt()
    return shared.mul_(scale[:, None]).mul_(scale[None, :])


def user_item_graph(users: Tensor, items: Tensor, n_users: int, n_items: int) -> Tensor:
    """Return ``D^-1/2 A D^-1/2`` of users before items as a sparse matrix, shape ``[U + I, U + I]``."""
    pairs = torch.unique(torch.stack([users, items + n_users]), dim=1)
    both = torch.cat([pairs, pairs.flip(0)], dim=1)
    size = n_users + n_items
    degrees = torch.bincount(both[0], minlength=size).clamp(min=1).float()
    values = degrees[both[0]].rsqrt() * degrees[both[1]].rsqrt()
    return torch.sparse_coo_tensor(both, values, (size, size)).coalesce()
