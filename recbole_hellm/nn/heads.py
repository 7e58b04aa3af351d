"""From the last hidden state to scores over the catalogue."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ItemScoreHead(nn.Module):
    """``score = h W^T``: one trained output vector per item, apart from the item's input vectors.

    Source: HeLLM (arXiv 2504.10541). **Differences:** trained (the released code leaves it at its random start).

    Args:
        width: Hidden size D.
        n_items: Catalogue size, the padding id 0 included.
    """

    def __init__(self, width: int, n_items: int) -> None:
        super().__init__()
        # Nearly zero: random logits of a wide hidden state would have to be unlearned item by item.
        self.weight = nn.Parameter(torch.randn(n_items, width) * 0.002)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return logits ``[..., n_items]`` for hidden states ``[..., D]``."""
        return nn.functional.linear(hidden, self.weight)

    def of_items(self, hidden: Tensor, items: Tensor) -> Tensor:
        """Return the score of one item per row: hidden ``[B, D]``, items ``[B]`` -> ``[B]``."""
        return (hidden * self.weight[items]).sum(-1)
