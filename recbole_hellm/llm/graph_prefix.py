"""The graph context of a history as a key / value prefix of every layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GraphPrefix(nn.Module):
    """HeLLM's graph-prefix adapter (Guo et al. 2025, arXiv 2504.10541).

    With ``G = sum_t g_t g_t^T`` over the graph vectors of the history, flattened,

    ``key[layer, p] = RMSNorm(learned_key[layer, p] + RMSNorm(MLP_key(G)))``, and the same for values; one pair of MLPs
    (Linear-GELU-Dropout-Linear-GELU-Dropout) serves all layers.

    Args:
        n_layers: Layers of the backbone.
        length: Prefix positions P.
        width: Hidden size D of the backbone.
        graph_dim: Width d of the graph vectors; 0: learned vectors only.
        dropout: Dropout of the MLPs.
        eps: Epsilon of the norms.
        rank: Project the graph vectors to this width before the Gram matrix; 0: not at all (the paper). At d = 64 the
            paper's MLPs hold 38 million weights, more than the part of a small language model they steer.
        gain: Start of the last norms' weights; 1 is the paper.

    **Differences:** ``rank`` and ``gain``, where they are set; padding never enters ``G`` (the released code adds a
    real item's vector for it in training).
    """

    def __init__(
        self,
        n_layers: int,
        length: int,
        width: int,
        graph_dim: int,
        dropout: float = 0.3,
        eps: float = 1e-5,
        rank: int = 0,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.graph_dim = graph_dim
        self.learned_keys = nn.Parameter(torch.randn(1, n_layers, length, width) * 0.02)
        self.learned_values = nn.Parameter(torch.randn(1, n_layers, length, width) * 0.02)
        self.key_norm, self.value_norm = nn.RMSNorm(width, eps=eps), nn.RMSNorm(width, eps=eps)
        for norm in (self.key_norm, self.value_norm):
            nn.init.constant_(norm.weight, gain)
        if graph_dim:
            self.reduce = nn.Linear(graph_dim, rank, bias=False) if rank else nn.Identity()
            context = (rank or graph_dim) ** 2
            self.key_mlp, self.value_mlp = _mlp(context, width, dropout), _mlp(context, width, dropout)
            self.key_graph_norm, self.value_graph_norm = nn.RMSNorm(width, eps=eps), nn.RMSNorm(width, eps=eps)

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Return the prefix states before each layer's own projection.

        Args:
            vectors: Graph vectors of the history, zeros where there is none, shape ``[B, L, d]``.

        Returns:
            States for keys and for values, each ``[B, n_layers, P, D]``.
        """
        batch = vectors.size(0)
        if not self.graph_dim:
            keys, values = self.key_norm(self.learned_keys), self.value_norm(self.learned_values)
            return keys.expand(batch, -1, -1, -1), values.expand(batch, -1, -1, -1)
        seen = self.reduce(vectors)
        context = torch.einsum("bli,blj->bij", seen, seen).flatten(1)  # (B, d * d)
        # Norms in the precision of their weights, whatever autocast made of the products before.
        graph_key = self.key_graph_norm(self.key_mlp(context).float())[:, None, None]  # (B, 1, 1, D)
        graph_value = self.value_graph_norm(self.value_mlp(context).float())[:, None, None]
        return self.key_norm(self.learned_keys + graph_key), self.value_norm(self.learned_values + graph_value)


def _mlp(in_dim: int, width: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(in_dim, in_dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(in_dim, width), nn.GELU(),
        nn.Dropout(dropout),
    )  # fmt: skip
