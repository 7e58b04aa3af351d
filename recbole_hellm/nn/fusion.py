"""Item vectors of earlier stages as tokens of the language model."""

from __future__ import annotations

from torch import Tensor, nn


class ItemTokens(nn.Module):
    """Two-layer projection of item vectors to the backbone's width: ``Linear(GELU(Linear(x)))``.

    Source: HeLLM (arXiv 2504.10541), item slots ``[graph ; sequence]``.

    Args:
        in_dim: Width of the concatenated item vectors.
        out_dim: Hidden size D of the backbone.
        rms: Root mean square of the tokens; 0 leaves them as they come (the paper).
    """

    def __init__(self, in_dim: int, out_dim: int, rms: float = 0.0) -> None:
        super().__init__()
        self.projection = nn.Sequential(nn.Linear(in_dim, out_dim), nn.GELU(), nn.Linear(out_dim, out_dim))
        self.rms = rms

    def forward(self, vectors: Tensor) -> Tensor:
        """Return tokens of shape ``[..., out_dim]`` for item vectors ``[..., in_dim]``."""
        tokens = self.projection(vectors)
        if not self.rms:
            return tokens
        return nn.functional.rms_norm(tokens.float(), tokens.shape[-1:]) * self.rms
