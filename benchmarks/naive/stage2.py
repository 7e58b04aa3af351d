"""Stage 2 with one sample per (history, next item), each with the whole prompt (HeLLM, arXiv 2504.10541)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class NaivePrefix(nn.Module):
    """Keys and values of every layer from the Gram matrix of a history's graph vectors; names as in the paper."""

    def __init__(
        self, n_layers: int, length: int, width: int, graph_dim: int, rank: int = 0, dropout: float = 0.3
    ) -> None:
        super().__init__()
        self.learned_keys = nn.Parameter(torch.randn(1, n_layers, length, width) * 0.02)
        self.learned_values = nn.Parameter(torch.randn(1, n_layers, length, width) * 0.02)
        self.reduce = nn.Linear(graph_dim, rank, bias=False) if rank else nn.Identity()
        size = (rank or graph_dim) ** 2

        def mlp() -> nn.Sequential:
            return nn.Sequential(nn.Linear(size, size), nn.GELU(), nn.Dropout(dropout),
                                 nn.Linear(size, width), nn.GELU(), nn.Dropout(dropout))  # fmt: skip

        self.key_mlp, self.value_mlp = mlp(), mlp()
        self.key_norm, self.value_norm = nn.RMSNorm(width, eps=1e-5), nn.RMSNorm(width, eps=1e-5)
        self.key_graph_norm, self.value_graph_norm = nn.RMSNorm(width, eps=1e-5), nn.RMSNorm(width, eps=1e-5)

    def forward(self, graph: Tensor) -> tuple[Tensor, Tensor]:
        """Return states for keys and values ``[B, layers, P, D]`` of graph vectors ``[B, L, d]``, zeros for padding."""
        seen = self.reduce(graph)
        gram = (seen.transpose(1, 2) @ seen).flatten(1)
        keys = self.learned_keys + self.key_graph_norm(self.key_mlp(gram).float())[:, None, None]
        values = self.learned_values + self.value_graph_norm(self.value_mlp(gram).float())[:, None, None]
        return self.key_norm(keys), self.value_norm(values)


class NaiveHeLLM(nn.Module):
    """Prompt, item slots, graph prefix, decoder and head; every sample goes through all of it.

    Args:
        decoder: A Hugging Face base model with ``layers[i].self_attn.k_proj / v_proj``, LoRA already in it.
        prefix: The graph prefix.
        graph: Graph vectors ``[n_items, d]``, row 0 zero.
        sequence: Sequence vectors ``[n_items, d]``.
        before: Token ids before the slots.
        after: Token ids after them; none: the last slot predicts.
        slot_rms: Root mean square the slots are scaled to; 0: as they come (paper).
        bf16: Autocast of the matrix products.
    """

    def __init__(
        self,
        decoder: Any,
        prefix: NaivePrefix,
        graph: Tensor,
        sequence: Tensor,
        before: Tensor,
        after: Tensor,
        slot_rms: float = 0.0,
        bf16: bool = False,
    ) -> None:
        super().__init__()
        self.decoder, self.prefix, self.slot_rms, self.bf16 = decoder, prefix, slot_rms, bf16
        self.graph, self.sequence, self.before, self.after = graph, sequence, before, after
        width, n_items = decoder.config.hidden_size, len(graph)
        in_dim = graph.size(1) + sequence.size(1)
        self.projection = nn.Sequential(nn.Linear(in_dim, width), nn.GELU(), nn.Linear(width, width))
        self.score = nn.Linear(width, n_items, bias=False)

    def forward(self, items: Tensor) -> Tensor:
        """Return scores ``[B, n_items]`` of histories ``[B, L]``, padded on the left with 0."""
        with torch.autocast(items.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            return self.score(self.last_state(items)).float()

    def last_state(self, items: Tensor) -> Tensor:
        """Return the last hidden state ``[B, D]``."""
        batch, real = len(items), items > 0
        embed = self.decoder.get_input_embeddings()
        slots = self.projection(torch.cat([self.graph[items], self.sequence[items]], dim=-1))
        if self.slot_rms:
            slots = functional.rms_norm(slots.float(), slots.shape[-1:]) * self.slot_rms
        before, after = (embed(ids).expand(batch, -1, -1) for ids in (self.before, self.after))
        tokens = torch.cat([before, slots.to(before.dtype), after], dim=1)
        ones = [real.new_ones(batch, part.size(1)) for part in (before, after)]
        mask = torch.cat([ones[0], real, ones[1]], dim=1).long()
        cache, length = self._cache(items, real)
        positions = (mask.cumsum(1) - 1).clamp(min=0) + length
        out = self.decoder(
            inputs_embeds=tokens,
            attention_mask=torch.cat([mask.new_ones(batch, length), mask], dim=1),
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        )
        return out.last_hidden_state[:, -1]

    def _cache(self, items: Tensor, real: Tensor) -> tuple[Any, int]:
        from transformers import DynamicCache

        keys, values = self.prefix(self.graph[items] * real[..., None])
        cache, head = DynamicCache(), self.decoder.layers[0].self_attn.head_dim
        for index, layer in enumerate(self.decoder.layers):
            projected = layer.self_attn.k_proj(keys[:, index]), layer.self_attn.v_proj(values[:, index])
            cache.update(*(states.unflatten(-1, (-1, head)).transpose(1, 2) for states in projected), index)
        return cache, keys.size(2)


def samples(sequences: list[Tensor], max_len: int) -> tuple[Tensor, Tensor]:
    """Return every (history, next item) of the sequences: left-padded histories ``[S, max_len]`` and targets."""
    histories, targets = [], []
    for sequence in sequences:
        for end in range(1, len(sequence)):
            history = sequence[max(0, end - max_len) : end]
            histories.append(functional.pad(history, (max_len - len(history), 0)))
            targets.append(sequence[end])
    return torch.stack(histories), torch.stack(targets)


def train_step(model: NaiveHeLLM, optimizer: torch.optim.Optimizer, histories: Tensor, targets: Tensor) -> float:
    """Take one step on a batch of samples; return the loss."""
    optimizer.zero_grad()
    loss = functional.cross_entropy(model(histories), targets)
    loss.backward()
    optimizer.step()
    return loss.item()
