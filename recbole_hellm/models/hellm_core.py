"""HeLLM without RecBole: item ids in, scores over the catalogue out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional

from recbole_hellm.llm.backbone import Backbone
from recbole_hellm.llm.graph_prefix import GraphPrefix
from recbole_hellm.llm.prompt import Prompt
from recbole_hellm.nn.catalogue_loss import Offset, catalogue_cross_entropy, sampled_cross_entropy
from recbole_hellm.nn.fusion import ItemTokens
from recbole_hellm.nn.heads import ItemScoreHead
from recbole_hellm.nn.pooling import running_mean
from recbole_hellm.out_of_memory import is_memory_error

MOST_TOKEN_BYTES = 2**28
"""Tokens of all items are kept while users are ranked if they take no more."""
ITEMS = 4096
"""Items whose tokens are made at a time."""


class HeLLMCore(nn.Module):
    """Item slots, prompt, graph prefix, language model and item head put together.

    Args:
        backbone: Frozen decoder, with LoRA or without; ``None``: the head reads the running mean of the slots.
        prefix: Key / value prefix, or ``None``.
        item_tokens: Projection of the item vectors to the backbone's width.
        head: Scores of the catalogue.
        prompt: Token ids around the slots.
        n_items: Catalogue size, the padding id 0 included.
        graph_dim: Width of the graph vectors.
        sequence_dim: Width of the sequence vectors; 0: none.
        slots_see_graph: Whether the graph vectors enter the slots (they may still enter the prefix).
        dropout: Dropout of the item vectors and of the last hidden state.
        autocast: Run the matrix products in bf16.
        negatives: Items drawn for a step of training instead of the whole catalogue; 0: the whole catalogue.
    """

    n_targets: int = 0
    _keeps_tokens: bool = False
    _tokens: Tensor | None = None
    graph_vectors: Tensor
    sequence_vectors: Tensor
    before: Tensor
    after: Tensor

    def __init__(
        self,
        backbone: Backbone | None,
        prefix: GraphPrefix | None,
        item_tokens: ItemTokens,
        head: ItemScoreHead,
        prompt: Prompt,
        n_items: int,
        graph_dim: int,
        sequence_dim: int,
        slots_see_graph: bool = True,
        dropout: float = 0.0,
        autocast: bool = False,
        negatives: int = 0,
    ) -> None:
        super().__init__()
        self.backbone, self.prefix, self.item_tokens, self.head = backbone, prefix, item_tokens, head
        self.slots_see_graph, self.autocast, self.negatives = slots_see_graph, autocast, negatives
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("graph_vectors", torch.zeros(n_items, graph_dim))
        self.register_buffer("sequence_vectors", torch.zeros(n_items, sequence_dim))
        self.register_buffer("before", torch.tensor(prompt.before, dtype=torch.long), persistent=False)
        self.register_buffer("after", torch.tensor(prompt.after, dtype=torch.long), persistent=False)

    @contextmanager
    def ranking(self) -> Iterator[None]:
        """Inside, what is the same for all histories is made once: tokens of the items, sums of weights and LoRA.

        No weight may change inside.
        """
        table = self.head.weight.numel() * 4
        self._keeps_tokens = table <= MOST_TOKEN_BYTES
        try:
            with self.backbone.merged() if self.backbone is not None else nullcontext():
                yield
        finally:
            self._keeps_tokens, self._tokens = False, None

    def slots(self, item_seq: Tensor) -> Tensor:
        """Return the item slots ``[B, L, D]`` of item ids ``[B, L]``."""
        if not self._keeps_tokens or self.training:
            return self._slots(item_seq)
        if self._tokens is None:
            items = torch.arange(len(self.graph_vectors), device=item_seq.device)
            try:
                self._tokens = torch.cat([self._slots(some) for some in items.split(ITEMS)])
            except (MemoryError, RuntimeError) as error:
                if not is_memory_error(error):
                    raise
                self._keeps_tokens = False
                return self._slots(item_seq)
        return self._tokens[item_seq]

    def _slots(self, item_seq: Tensor) -> Tensor:
        parts = [self.sequence_vectors[item_seq]]
        if self.slots_see_graph:
            parts.insert(0, self.graph_vectors[item_seq])
        return self.item_tokens(self.dropout(torch.cat(parts, dim=-1)))

    def hidden(
        self, item_seq: Tensor, mask: Tensor, context: Tensor | None = None, read: Tensor | None = None
    ) -> Tensor:
        """Run the language model over prompt and slots; without one, average the slots up to each of them.

        Args:
            item_seq: Item ids, shape ``[B, L]``.
            mask: True where there is an item, shape ``[B, L]``; on whichever side the padding stands.
            context: True for the items whose graph vectors make up the prefix, shape ``[B, L]``; default ``mask``.
            read: True where a state will be read, shape ``[B, L + after]``; default everywhere.

        Returns:
            Hidden states of the slots and of the prompt after them, float32, shape ``[B, L + after, D]``; meaningless
            where they are not read.
        """
        if self.backbone is None:
            return running_mean(self.slots(item_seq).float(), mask)
        batch = item_seq.size(0)
        with torch.autocast(item_seq.device.type, dtype=torch.bfloat16, enabled=self.autocast):
            before = self.backbone.embed(self.before).expand(batch, -1, -1)
            after = self.backbone.embed(self.after).expand(batch, -1, -1)
            slots = self.slots(item_seq).to(before.dtype)
            real = [mask.new_ones(batch, before.size(1)), mask, mask.new_ones(batch, after.size(1))]
            prefix = None
            if self.prefix is not None:
                seen = mask if context is None else context
                prefix = self.prefix(self.graph_vectors[item_seq] * seen.unsqueeze(-1))
            if read is not None:
                read = functional.pad(read, (before.size(1), 0))
            states = self.backbone(torch.cat([before, slots, after], dim=1), torch.cat(real, dim=1), prefix, read)
        return states[:, before.size(1) :].float()

    def last_hidden(self, item_seq: Tensor, mask: Tensor) -> Tensor:
        """Return the state that predicts the next item, shape ``[B, D]``: of the last token after the slots, or, where
        the prompt ends with them, of the last item's slot.
        """  # noqa: D205
        if self.after.numel():
            last = torch.full_like(item_seq[:, 0], item_seq.size(1) + self.after.numel() - 1)
        else:
            positions = torch.arange(item_seq.size(1), device=item_seq.device)
            last = torch.where(mask, positions, -1).amax(1).clamp(min=0)
        read = functional.one_hot(last, item_seq.size(1) + self.after.numel()).bool()
        return self.dropout(self.hidden(item_seq, mask, read=read)[read])

    def forward(self, item_seq: Tensor, mask: Tensor) -> Tensor:
        """Return the logits of the next item, shape ``[B, n_items]``."""
        return self.head(self.last_hidden(item_seq, mask))

    def causal_loss(
        self,
        item_seq: Tensor,
        mask: Tensor,
        targets: Tensor,
        context_len: Tensor,
        label_smoothing: float,
        offset_of: Callable[[Tensor, Tensor], Offset] | None = None,
    ) -> Tensor:
        """Cross-entropy of every position's next item in one causal pass.

        The graph prefix is seen by every position, so it may only hold items that all scored positions have seen:
        the first ``context_len`` items enter it, and positions before the last of them are not scored.

        Args:
            item_seq: Item ids, right-padded with 0, shape ``[B, L]``.
            mask: True where there is an item, shape ``[B, L]``.
            targets: The item after each position, shape ``[B, L]``.
            context_len: Items in the graph prefix, at least 1, shape ``[B]``.
            label_smoothing: Share of the target's mass spread over the catalogue.
            offset_of: Makes what is added to the logits of histories ``[M, L]`` with targets ``[M]``.

        Returns:
            Mean loss over the scored positions.
        """
        positions = torch.arange(item_seq.size(1), device=item_seq.device)
        context = positions < context_len.unsqueeze(1)
        scored = mask & (positions >= context_len.unsqueeze(1) - 1)
        read = functional.pad(scored, (0, self.after.numel()))
        states = self.dropout(self.hidden(item_seq, mask, context, read)[read])
        offset = None
        if offset_of is not None:
            row, last = scored.nonzero(as_tuple=True)
            offset = offset_of(torch.where(positions <= last.unsqueeze(1), item_seq[row], 0), targets[scored])
        return self.loss(states, targets[scored], label_smoothing, offset)

    def loss(
        self, states: Tensor, targets: Tensor, label_smoothing: float = 0.0, offset: Offset | None = None
    ) -> Tensor:
        """Mean cross-entropy of states ``[M, D]`` against item ids ``[M]``; notes M in ``n_targets``."""
        self.n_targets = len(targets)
        n_items = len(self.head.weight)
        if self.training and 0 < self.negatives < n_items - 1:
            drawn = 1 + torch.randperm(n_items - 1, device=targets.device)[: self.negatives]  # 0 is padding
            return sampled_cross_entropy(states, self.head.weight, targets, drawn, label_smoothing, offset)
        return catalogue_cross_entropy(states, self.head.weight, targets, label_smoothing, self.autocast, offset)
