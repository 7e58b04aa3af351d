"""The stage-1 encoder: LightGCN on the user-item graph beside propagation on two hypergraphs."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from recbole_hellm.errors import ConfigError, DataError
from recbole_hellm.hypergraph.conv import SharedEdgeMean, SymmetricHypergraphSum, SymmetricUserItemSum
from recbole_hellm.hypergraph.structure import Hypergraph, UserItemGraph


class EncoderOutput(NamedTuple):
    """Vectors of all users and items."""

    user: Tensor
    """Final user vectors ``[n_users, D]``."""
    item: Tensor
    """Final item vectors ``[n_items, D]``."""
    user_hyper: Tensor | None
    """User hypergraph vectors before normalisation ``[n_users, D]``; None without a user hypergraph."""
    item_hyper: Tensor | None
    """Item hypergraph vectors before normalisation ``[n_items, D]``; None without an item hypergraph."""


class HypergraphEncoder(nn.Module):
    """Vectors of users and items from their interactions and from two hypergraphs.

    ``user = lightgcn(A)[user] + l2norm(U2U^L_u user_hyper)`` and the same for items with I2I, where LightGCN is
    the mean of layers 0..L of the user-item tables and each hypergraph propagates a table of its own.

    Source: HeLLM, https://arxiv.org/abs/2504.10541 (2025), first stage, after MMHCL,
    https://arxiv.org/abs/2504.16576 (2025). **Differences:** none in the numbers; the official code
    multiplies by dense user-user and item-item matrices, here each is two sparse sums.

    A user or item without any edge (such as padding id 0) takes part in nothing: its hypergraph vector is
    zero and its final vector is its own table row divided by ``ui_layers + 1``.

    ``state_dict`` holds exactly the tables: ``user_ui``, ``item_ui`` and, for each hypergraph that is
    given, ``user_hyper``, ``item_hyper``.

    Args:
        n_users: Number of users.
        n_items: Number of items.
        embedding_size: Width D of every table.
        ui_layers: Propagations on the user-item graph, >= 0.
        user_layers: Propagations on the user hypergraph, >= 0.
        item_layers: Propagations on the item hypergraph, >= 0.
        graph: The training interactions.
        user_hypergraph: Nodes are users; None leaves the part out.
        item_hypergraph: Nodes are items; None leaves the part out (a data set without modalities).
        backend: ``"auto"``, ``"dgl"`` or ``"torch"``, see `recbole_hellm.hypergraph.conv.resolve_backend`.

    Raises:
        ConfigError: If a size or number of layers is out of range or the backend cannot be used.
        DataError: If a graph has another number of users or items.
    """

    def __init__(
        self,
        *,
        n_users: int,
        n_items: int,
        embedding_size: int,
        ui_layers: int,
        user_layers: int,
        item_layers: int,
        graph: UserItemGraph,
        user_hypergraph: Hypergraph | None = None,
        item_hypergraph: Hypergraph | None = None,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        if embedding_size < 1:
            raise ConfigError(f"'embedding_size' must be >= 1, got {embedding_size}")
        for name, layers in (("ui_layers", ui_layers), ("user_layers", user_layers), ("item_layers", item_layers)):
            if layers < 0:
                raise ConfigError(f"{name!r} must be >= 0, got {layers}")
        if (graph.n_users, graph.n_items) != (n_users, n_items):
            raise DataError(
                f"the graph has {graph.n_users} users and {graph.n_items} items, expected {n_users} and {n_items}"
            )
        self.n_users, self.n_items = n_users, n_items
        self.ui_layers, self.user_layers, self.item_layers = ui_layers, user_layers, item_layers
        self.user_ui = _table(n_users, embedding_size)
        self.item_ui = _table(n_items, embedding_size)
        self.ui_conv = SymmetricUserItemSum(graph, backend)
        self.user_hyper: nn.Embedding | None = None
        self.item_hyper: nn.Embedding | None = None
        if user_hypergraph is not None:
            _check_nodes("user", user_hypergraph, n_users)
            self.user_hyper = _table(n_users, embedding_size)
            self.user_conv = SharedEdgeMean(user_hypergraph, backend)
        if item_hypergraph is not None:
            _check_nodes("item", item_hypergraph, n_items)
            self.item_hyper = _table(n_items, embedding_size)
            self.item_conv = SymmetricHypergraphSum(item_hypergraph, backend)

    def forward(self) -> EncoderOutput:
        """Compute the vectors of all users and items."""
        user, item = self._lightgcn().split([self.n_users, self.n_items])
        user_hyper = item_hyper = None
        if self.user_hyper is not None:
            user_hyper = self.user_hyper.weight
            for _ in range(self.user_layers):
                user_hyper = self.user_conv(user_hyper)
            user = user + functional.normalize(user_hyper, dim=1)
        if self.item_hyper is not None:
            item_hyper = self.item_hyper.weight
            for _ in range(self.item_layers):
                item_hyper = self.item_conv(item_hyper)
            item = item + functional.normalize(item_hyper, dim=1)
        return EncoderOutput(user, item, user_hyper, item_hyper)

    def _lightgcn(self) -> Tensor:
        """Return the mean of layers 0..ui_layers, ``[n_users + n_items, D]``."""
        layer = torch.cat([self.user_ui.weight, self.item_ui.weight])
        total = layer
        for _ in range(self.ui_layers):
            layer = self.ui_conv(layer)
            total = total + layer
        return total / (self.ui_layers + 1)


def _table(rows: int, width: int) -> nn.Embedding:
    """Return a Xavier-uniform table ``[rows, width]``."""
    table = nn.Embedding(rows, width)
    nn.init.xavier_uniform_(table.weight)
    return table


def _check_nodes(kind: str, graph: Hypergraph, expected: int) -> None:
    """Refuse a hypergraph over another number of nodes."""
    if graph.n_nodes != expected:
        raise DataError(f"the {kind} hypergraph has {graph.n_nodes} nodes, expected {expected} {kind}s")
