"""Validated incidence structures: which node stands in which hyperedge, which user took which item."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from recbole_hellm.errors import DataError


@dataclass(frozen=True, eq=False)
class Hypergraph:
    """An unweighted hypergraph as incidence pairs; its incidence matrix ``H`` has shape ``[n_nodes, n_edges]``.

    Pairs are stored sorted by (node, edge) and each one once, so equal hypergraphs have equal tensors.

    Args:
        node: Node of each incidence pair, int64, shape ``[E]``.
        edge: Hyperedge of each incidence pair, int64, shape ``[E]``.
        n_nodes: Number of nodes, isolated ones (such as a padding id) included.
        n_edges: Number of hyperedges, empty ones included.

    Raises:
        DataError: If the pairs are no int64 vectors of one length or an id is out of range.
    """

    node: Tensor
    edge: Tensor
    n_nodes: int
    n_edges: int

    def __post_init__(self) -> None:
        node, edge = _unique_pairs(("node", self.node, self.n_nodes), ("edge", self.edge, self.n_edges))
        object.__setattr__(self, "node", node)
        object.__setattr__(self, "edge", edge)

    @property
    def node_degrees(self) -> Tensor:
        """Number of hyperedges of each node, int64 ``[n_nodes]``."""
        return torch.bincount(self.node, minlength=self.n_nodes)

    @property
    def edge_sizes(self) -> Tensor:
        """Number of nodes in each hyperedge, int64 ``[n_edges]``."""
        return torch.bincount(self.edge, minlength=self.n_edges)

    def walk_counts(self) -> Tensor:
        """Row sums of ``H H^T``, the diagonal included; int64 ``[n_nodes]``, exact."""
        return torch.zeros_like(self.node_degrees).index_add_(0, self.node, self.edge_sizes[self.edge])


@dataclass(frozen=True, eq=False)
class UserItemGraph:
    """The binary bipartite graph of users and the items they took.

    Repeated pairs count once (``R`` is binary); pairs are stored sorted by (user, item).

    Args:
        users: User of each interaction, int64, shape ``[E]``.
        items: Item of each interaction, int64, shape ``[E]``.
        n_users: Number of users, ids without an interaction included.
        n_items: Number of items, ids without an interaction included.

    Raises:
        DataError: If the pairs are no int64 vectors of one length or an id is out of range.
    """

    users: Tensor
    items: Tensor
    n_users: int
    n_items: int

    def __post_init__(self) -> None:
        users, items = _unique_pairs(("users", self.users, self.n_users), ("items", self.items, self.n_items))
        object.__setattr__(self, "users", users)
        object.__setattr__(self, "items", items)

    @property
    def user_degrees(self) -> Tensor:
        """Number of distinct items of each user, int64 ``[n_users]``."""
        return torch.bincount(self.users, minlength=self.n_users)

    @property
    def item_degrees(self) -> Tensor:
        """Number of distinct users of each item, int64 ``[n_items]``."""
        return torch.bincount(self.items, minlength=self.n_items)


def _unique_pairs(left: tuple[str, Tensor, int], right: tuple[str, Tensor, int]) -> tuple[Tensor, Tensor]:
    """Check two (name, ids, count) columns and return their distinct pairs in sorted order."""
    for name, ids, count in (left, right):
        if count < 0:
            raise DataError(f"the number of ids for {name!r} must be >= 0, got {count}")
        if ids.dtype != torch.int64 or ids.dim() != 1:
            raise DataError(f"{name!r} must be an int64 vector, got {ids.dtype} with shape {tuple(ids.shape)}")
        if ids.numel() and (int(ids.min()) < 0 or int(ids.max()) >= count):
            raise DataError(
                f"{name!r} has ids from {int(ids.min())} to {int(ids.max())}; they must lie in 0..{count - 1}"
            )
    (left_name, left_ids, _), (right_name, right_ids, n_right) = left, right
    if left_ids.shape != right_ids.shape:
        raise DataError(
            f"{left_name!r} and {right_name!r} must have one length, got {left_ids.numel()} and {right_ids.numel()}"
        )
    keys = torch.unique(left_ids * max(n_right, 1) + right_ids)
    return keys // max(n_right, 1), keys % max(n_right, 1)
