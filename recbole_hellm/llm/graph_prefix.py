"""The graph context of a history as a key / value prefix of every layer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class PrefixStates:
    """States ``scale * (shared + own)`` in factors: a linear projection of them needs P + B rows instead of P x B.

    Attributes:
        shared: What all histories have in common, shape ``[layers, P, D]``.
        own: What each history adds at every layer and position, shape ``[B, D]``; ``None``: nothing.
        scale: Inverse root mean square of the sums, shape ``[B, layers, P]``.
    """

    shared: Tensor
    own: Tensor | None
    scale: Tensor

    @property
    def length(self) -> int:
        """Number of prefix positions P."""
        return self.shared.size(1)

    def dense(self) -> Tensor:
        """Return the states themselves, shape ``[B, layers, P, D]``."""
        total = self.shared if self.own is None else self.shared + self.own[:, None, None]
        return total * self.scale[..., None]

    def projected(self, layer: int, module: nn.Module) -> Tensor:
        """Return ``module`` applied to the states of a layer, shape ``[B, P, E]``.

        Args:
            layer: Index of the layer.
            module: A linear map of the last dimension, with a bias or without.
        """
        offset = module(torch.zeros_like(self.shared[layer, :1])).float()  # its bias
        total = (module(self.shared[layer]).float() - offset)[None]
        if self.own is not None:
            total = total + (module(self.own).float() - offset)[:, None]
        return total * self.scale[:, layer, :, None] + offset


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

    def forward(self, vectors: Tensor) -> tuple[PrefixStates, PrefixStates]:
        """Return the prefix states before each layer's own projection.

        Args:
            vectors: Graph vectors of the history, zeros where there is none, shape ``[B, L, d]``.

        Returns:
            States for keys and for values, of B histories.
        """
        if not self.graph_dim:
            return self._normed(self.learned_keys, None, self.key_norm, len(vectors)), self._normed(
                self.learned_values, None, self.value_norm, len(vectors)
            )
        seen = self.reduce(vectors)
        context = torch.einsum("bli,blj->bij", seen, seen).flatten(1)  # (B, d * d)
        # Norms in the precision of their weights, whatever autocast made of the products before.
        graph_key = self.key_graph_norm(self.key_mlp(context).float())  # (B, D)
        graph_value = self.value_graph_norm(self.value_mlp(context).float())
        return (
            self._normed(self.learned_keys, graph_key, self.key_norm, len(vectors)),
            self._normed(self.learned_values, graph_value, self.value_norm, len(vectors)),
        )

    def _normed(self, learned: Tensor, own: Tensor | None, norm: nn.RMSNorm, batch: int) -> PrefixStates:
        """Return ``norm(learned + own)`` in factors; its mean squares come from those of the two and their products."""
        shared = learned[0]  # (layers, P, D)
        squares = shared.square().sum(-1)[None]  # (1, layers, P)
        if own is not None:
            with torch.autocast(own.device.type, enabled=False):
                cross = functional.linear(own, shared.flatten(0, 1)).unflatten(1, shared.shape[:2])  # (B, layers, P)
            squares = squares + 2 * cross + own.square().sum(-1)[:, None, None]
        eps = norm.eps if norm.eps is not None else torch.finfo(shared.dtype).eps
        scale = torch.rsqrt((squares / shared.size(-1)).clamp(min=0) + eps)
        weight = norm.weight
        return PrefixStates(shared * weight, None if own is None else own * weight, scale.expand(batch, -1, -1))


def _mlp(in_dim: int, width: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(in_dim, in_dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(in_dim, width), nn.GELU(),
        nn.Dropout(dropout),
    )  # fmt: skip
