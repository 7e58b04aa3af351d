"""HeLLM as a RecBole sequential recommender."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from recbole.model.abstract_recommender import SequentialRecommender
from torch import Tensor
from torch.nn import functional

from recbole_hellm.config.specs import (
    BackboneSpec,
    FeatureSpec,
    FinetuneSpec,
    GraphSpec,
    LoraSpec,
    PrefixSpec,
    PromptSpec,
    SequenceSpec,
    check_together,
)
from recbole_hellm.errors import ConfigError
from recbole_hellm.llm.backbone import Backbone, load_backbone, resolve_path
from recbole_hellm.llm.graph_prefix import GraphPrefix
from recbole_hellm.llm.precision import use_bf16
from recbole_hellm.llm.prompt import build_prompt
from recbole_hellm.models.base import StagedRecommender
from recbole_hellm.models.hellm_core import HeLLMCore
from recbole_hellm.nn.fusion import ItemTokens
from recbole_hellm.nn.heads import ItemScoreHead

ROWS = 128
"""Histories of like length scored in one pass: enough for the matrix products, few enough to need little padding."""


class HeLLM(StagedRecommender, SequentialRecommender):
    """Multi-modal hypergraph enhanced LLM recommender (Guo et al. 2025, https://arxiv.org/abs/2504.10541).

    Item slots ``MLP([graph ; sequence])`` between prompt tokens, a graph prefix in every layer, a frozen decoder with
    LoRA, ``score = h W^T`` over the catalogue, full-softmax cross-entropy.

    **Differences:** from the released code: the item head is trained; padding never enters the graph context; the best
    epoch is chosen on validation. The preset ``default`` departs further from the paper, see :meth:`departures`.
    """

    n_items: int
    device: torch.device

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        settings: Mapping[str, Any] = config.final_config_dict
        check_together(settings)
        self.llm, self.lora = BackboneSpec.from_config(settings), LoraSpec.from_config(settings)
        self.prefix, self.prompt = PrefixSpec.from_config(settings), PromptSpec.from_config(settings)
        self.graph, self.sequence = GraphSpec.from_config(settings), SequenceSpec.from_config(settings)
        self.features = FeatureSpec.from_config(settings)
        self.tune = FinetuneSpec.from_config(settings)
        self.loss_type = settings.get("loss_type", "CE")
        if self.loss_type not in ("CE", "BPR"):
            raise ConfigError(f"setting 'loss_type' must be one of 'CE', 'BPR', got {self.loss_type!r}")
        uses_graph = self.tune.graph_vectors or (self.prefix.len > 0 and self.prefix.graph)
        self.needs = (("graph",) if uses_graph else ()) + (("sequence",) if self.sequence.vectors else ())
        self.core = self._build(int(settings["seed"]))

    def _build(self, seed: int) -> HeLLMCore:
        llm = self.llm
        backbone = load_backbone(llm.path, llm.layers, llm.pretrained, llm.attention, seed)
        if self.prefix.len:
            backbone.check_prefix()
        if self.lora.r:
            backbone.add_lora(self.lora.r, self.lora.alpha, self.lora.dropout, self.lora.targets)
        if llm.gradient_checkpointing:
            backbone.checkpoint_gradients()
        graph_dim = self.graph.embedding_size
        sequence_dim = self.sequence.embedding_size if self.sequence.vectors else 0
        slot_dim = (graph_dim if self.tune.graph_vectors else 0) + sequence_dim
        return HeLLMCore(
            backbone,
            self._prefix(backbone, graph_dim) if self.prefix.len else None,
            ItemTokens(slot_dim, backbone.width, backbone.embedding_rms() if self.tune.slot_norm else 0.0),
            ItemScoreHead(backbone.width, self.n_items),
            build_prompt(
                self.prompt.template, self.prompt.instruction, lambda: resolve_path(llm.path), backbone.first_token
            ),
            n_items=self.n_items,
            graph_dim=graph_dim,
            sequence_dim=sequence_dim,
            slots_see_graph=self.tune.graph_vectors,
            dropout=self.tune.dropout,
            autocast=use_bf16(llm.precision, self.device),
        )

    def _prefix(self, backbone: Backbone, graph_dim: int) -> GraphPrefix:
        seen = graph_dim if self.prefix.graph else 0
        prefix = self.prefix
        return GraphPrefix(
            backbone.n_layers, prefix.len, backbone.width, seen, prefix.dropout, rank=prefix.rank, gain=prefix.gain
        )

    def attach(self, results: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Take the item vectors of the stages ``graph`` and ``sequence``."""
        if "graph" in self.needs:
            self.core.graph_vectors.copy_(results["graph"]["item"])
        if "sequence" in self.needs:
            self.core.sequence_vectors.copy_(results["sequence"]["item"])

    def departures(self) -> list[str]:
        """Return where this run departs from the paper."""
        return [
            text
            for here, text in (
                (self.tune.targets == "all", "finetune_targets=all: every item of a history is a target, in one pass"),
                (self.prompt.template == "none", "prompt_template=none: no instruction text around the item slots"),
                (self.tune.slot_norm, "finetune_slot_norm=True: item slots scaled to the token embeddings"),
                (
                    self.prefix.len > 0 and self.prefix.graph and self.prefix.rank > 0,
                    f"prefix_rank={self.prefix.rank}: graph vectors are reduced before their Gram matrix",
                ),
                (
                    self.prefix.len > 0 and self.prefix.gain != 1,
                    f"prefix_gain={self.prefix.gain}: a quiet prefix at first",
                ),
                (self.prefix.len == 0 or not self.prefix.graph, "no graph context in the layers' keys and values"),
                (self.lora.r == 0, "lora_r=0: no LoRA"),
                (self.lora.r > 0 and self.lora.dropout != 0.05, f"lora_dropout={self.lora.dropout} instead of 0.05"),
                (
                    "graph" in self.needs and self.graph.contrast == "batch",
                    "graph_contrast=batch: stage 1 contrasts the nodes of a batch, not all",
                ),
                (
                    "graph" in self.needs and self.features.feature_missing == "zero",
                    "feature_missing=zero: an item without a feature joins no hyperedge of that modality",
                ),
                (self.llm.layers != -1, f"llm_layers={self.llm.layers}: only the first layers of the language model"),
                (not self.llm.pretrained, "llm_pretrained=False: random language model"),
                (self.loss_type != "CE", f"loss_type={self.loss_type} instead of cross-entropy"),
                (self.tune.label_smoothing > 0, f"finetune_label_smoothing={self.tune.label_smoothing}"),
                (self.tune.beta2 != 0.95, f"finetune_beta2={self.tune.beta2}: AdamW's memory is longer"),
                (self.tune.dropout > 0, f"finetune_dropout={self.tune.dropout} on item vectors and last hidden state"),
            )
            if here
        ]

    def _inputs(self, interaction: Any) -> tuple[Tensor, Tensor]:
        """Return item ids cut to the longest history of the batch, and their mask, both ``[B, L]``."""
        lengths = interaction[self.ITEM_SEQ_LEN]
        item_seq = interaction[self.ITEM_SEQ][:, : int(lengths.max())]
        return item_seq, torch.arange(item_seq.size(1), device=item_seq.device) < lengths.unsqueeze(1)

    def calculate_loss(self, interaction: Any) -> Tensor:
        """Return the training loss of a batch of RecBole rows (history, next item)."""
        item_seq, mask = self._inputs(interaction)
        target = interaction[self.POS_ITEM_ID]
        if self.tune.targets == "all":
            return self._causal_loss(item_seq, mask, target)
        states = self.core.last_hidden(item_seq, mask)
        if self.loss_type == "BPR":
            head, negative = self.core.head, interaction[self.NEG_ITEM_ID]
            return -functional.logsigmoid(head.of_items(states, target) - head.of_items(states, negative)).mean()
        return self.core.loss(states, target, self.tune.label_smoothing)

    def _causal_loss(self, item_seq: Tensor, mask: Tensor, target: Tensor) -> Tensor:
        lengths = mask.sum(1)
        targets = torch.cat([item_seq[:, 1:], item_seq.new_zeros(len(item_seq), 1)], dim=1)
        targets[torch.arange(len(targets), device=targets.device), lengths - 1] = target
        context = torch.ones_like(lengths)
        if self.prefix.len and self.prefix.graph:
            # Uniform over the positions, so that the prefix of a position is often that of its whole history, as it is
            # at test time, and never holds an item the position has not seen.
            context = 1 + (torch.rand(lengths.shape, device=lengths.device) * lengths).long()
        return self.core.causal_loss(item_seq, mask, targets, context, self.tune.label_smoothing)

    def _last_hidden(self, interaction: Any) -> Tensor:
        """Return the state that predicts the next item of every row, shape ``[B, D]``; rows of like length together."""
        lengths = interaction[self.ITEM_SEQ_LEN]
        order = torch.argsort(lengths, stable=True)
        states = torch.cat([self.core.last_hidden(*self._inputs(interaction[rows])) for rows in order.split(ROWS)])
        return torch.empty_like(states).index_copy_(0, order, states)

    def full_sort_predict(self, interaction: Any) -> Tensor:
        """Return the scores of the whole catalogue, shape ``[B, n_items]``; column 0 belongs to the padding id."""
        return self.core.head(self._last_hidden(interaction))

    def predict(self, interaction: Any) -> Tensor:
        """Return the score of the item named in each row, shape ``[B]``."""
        return self.core.head.of_items(self._last_hidden(interaction), interaction[self.ITEM_ID])
