"""HeLLM as a RecBole sequential recommender."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from recbole.data.interaction import Interaction
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
from recbole_hellm.llm.backbone import Backbone
from recbole_hellm.llm.graph_prefix import GraphPrefix
from recbole_hellm.llm.loading import load_backbone, load_width, resolve_path
from recbole_hellm.llm.prompt import Prompt, build_prompt
from recbole_hellm.models.fused_scoring import ROWS, FusedScoring
from recbole_hellm.models.hellm_core import HeLLMCore
from recbole_hellm.nn.fusion import ItemTokens
from recbole_hellm.nn.heads import ItemScoreHead
from recbole_hellm.precision import use_bf16

CONTEXT = "context_length"
"""Column of a batch that has its draws: items in the graph prefix of each row."""


class HeLLM(FusedScoring, SequentialRecommender):
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
        self.settings = {key: settings.get(key) for key in self.by_design}
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
        self.fuse(settings, dataset, [entry.partition("=")[0] for entry in self.features.item_features])
        if self.tune.residual and self.loss_type == "CE":
            self.leave_to_model(dataset, int(settings["seed"]), half=self.core.autocast)

    def _build(self, seed: int) -> HeLLMCore:
        graph_dim = self.graph.embedding_size
        sequence_dim = self.sequence.embedding_size if self.sequence.vectors else 0
        slot_dim = (graph_dim if self.tune.graph_vectors else 0) + sequence_dim
        backbone = self._backbone(seed) if self.llm.layers else None
        if backbone is None:
            # As wide as the model would be, for a head of the same size; its embeddings' scale concerns its layers.
            width, prompt, rms = load_width(self.llm.path), Prompt(before=()), 1.0
        else:
            width, prompt = backbone.width, self._prompt(backbone)
            rms = backbone.embedding_rms() if self.tune.slot_norm else 0.0
        return HeLLMCore(
            backbone,
            self._prefix(backbone, graph_dim) if backbone is not None and self.prefix.len else None,
            ItemTokens(slot_dim, width, rms if self.tune.slot_norm else 0.0),
            ItemScoreHead(width, self.n_items),
            prompt,
            n_items=self.n_items,
            graph_dim=graph_dim,
            sequence_dim=sequence_dim,
            slots_see_graph=self.tune.graph_vectors,
            dropout=self.tune.dropout,
            negatives=self.tune.negatives,
            autocast=backbone is not None and use_bf16(self.llm.precision, self.device),
        )

    def _backbone(self, seed: int) -> Backbone:
        llm = self.llm
        backbone = load_backbone(llm.path, llm.layers, llm.pretrained, llm.attention, seed)
        if self.prefix.len:
            backbone.check_prefix()
        if self.lora.r:
            backbone.add_lora(self.lora.r, self.lora.alpha, self.lora.dropout, self.lora.targets)
        if use_bf16(llm.precision, self.device):
            backbone.to_half()
        if llm.gradient_checkpointing:
            backbone.checkpoint_gradients()
        return backbone

    def _prompt(self, backbone: Backbone) -> Prompt:
        text, path = self.prompt, self.llm.path
        return build_prompt(text.template, text.instruction, lambda: resolve_path(path), backbone.first_token)

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
        self.attach_fusion(results)

    def departures(self) -> list[str]:
        """Return where this run departs from the paper; of a variant, where beyond what it stands for."""
        language = (self._input_departures(), self._prefix_departures(), self._model_departures())
        # Of a language model without a say nothing is worth a line.
        groups = (*(language if self.learns else ()), self._stage_1_departures(), self.fusion_departures())
        lines = [text for group in groups for here, text in group if here]
        return self.beyond_design(lines, self.settings)

    def _input_departures(self) -> Iterator[tuple[bool, str]]:
        tune, scale = self.tune, "the token embeddings" if self.llm.layers else "1"
        yield tune.targets == "all", "finetune_targets=all: every item of a history is a target, in one pass"
        yield self.prompt.template == "none", "prompt_template=none: no instruction text around the item slots"
        yield tune.slot_norm, f"finetune_slot_norm=True: item slots scaled to {scale}"
        yield not tune.graph_vectors, "finetune_graph_vectors=False: no graph vectors in the item slots"
        yield not self.sequence.vectors, "sequence_vectors=False: no sequence vectors in the item slots"

    def _prefix_departures(self) -> Iterator[tuple[bool, str]]:
        prefix = self.prefix
        seen = prefix.len > 0 and prefix.graph
        yield seen and prefix.rank > 0, f"prefix_rank={prefix.rank}: graph vectors are reduced before their Gram matrix"
        yield prefix.len > 0 and prefix.gain != 1, f"prefix_gain={prefix.gain}: a quiet prefix at first"
        off = "prefix_len=0" if prefix.len == 0 else "prefix_graph=False"
        yield not seen, f"{off}: no graph context in the layers' keys and values"

    def _stage_1_departures(self) -> Iterator[tuple[bool, str]]:
        graph, features = self.graph, self.features
        if "graph" not in self.needs:
            return
        yield not graph.user_hypergraph, "graph_user_hypergraph=False: users are not joined by the items they share"
        yield not graph.item_hypergraph, "graph_item_hypergraph=False: items are not joined by their features"
        items = graph.item_hypergraph and bool(features.item_features)
        yield graph.item_hypergraph and not items, "item_features=[]: no item hypergraph"
        for name, alpha, there in (
            ("user", graph.alpha_user, graph.user_hypergraph), ("item", graph.alpha_item, items)
        ):  # fmt: skip
            yield there and alpha == 0, f"graph_alpha_{name}=0: stage 1 does not contrast {name}s"
        yield graph.loss != "bpr", f"graph_loss={graph.loss}: stage 1 ranks against the items of the batch, on cosines"
        contrasts = (graph.user_hypergraph and graph.alpha_user > 0) or (items and graph.alpha_item > 0)
        batch = contrasts and graph.contrast == "batch"
        yield batch, "graph_contrast=batch: stage 1 contrasts the nodes of a batch, not all"
        zero = items and features.feature_missing == "zero"
        yield zero, "feature_missing=zero: an item without a feature joins no hyperedge of that modality"

    def _model_departures(self) -> Iterator[tuple[bool, str]]:
        llm, lora, tune = self.llm, self.lora, self.tune
        kept = "only the first layers of" if llm.layers else "the mean of the item slots instead of"
        yield lora.r == 0, "lora_r=0: no LoRA"
        yield lora.r > 0 and lora.dropout != 0.05, f"lora_dropout={lora.dropout} instead of 0.05"
        yield llm.layers != -1, f"llm_layers={llm.layers}: {kept} the language model"
        yield llm.layers != 0 and not llm.pretrained, "llm_pretrained=False: random language model"
        yield self.loss_type != "CE", f"loss_type={self.loss_type} instead of cross-entropy"
        yield tune.negatives > 0, f"finetune_negatives={tune.negatives}: cross-entropy over a sample of the catalogue"
        yield tune.label_smoothing > 0, f"finetune_label_smoothing={tune.label_smoothing}"
        yield tune.beta2 != 0.95, f"finetune_beta2={tune.beta2}: AdamW's memory is longer"
        yield tune.dropout > 0, f"finetune_dropout={tune.dropout} on item vectors and last hidden state"

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
            drawn = interaction[CONTEXT] if CONTEXT in interaction else None  # noqa: SIM401 (RecBole's rows)
            return self._causal_loss(item_seq, mask, target, drawn)
        states = self.core.last_hidden(item_seq, mask)
        if self.loss_type == "BPR":
            head, negative = self.core.head, interaction[self.NEG_ITEM_ID]
            return -functional.logsigmoid(head.of_items(states, target) - head.of_items(states, negative)).mean()
        offset = self.residual(item_seq, target) if self.residual is not None else None
        return self.core.loss(states, target, self.tune.label_smoothing, offset)

    def loss_rows(self, n_rows: int) -> int:
        """Return how many targets the loss just returned is the mean of."""
        return self.core.n_targets if self.tune.targets == "all" else n_rows

    def _context(self, lengths: Tensor) -> Tensor:
        """Return how many items of each history make up the graph prefix while its later ones are scored, ``[B]``."""
        if not (self.prefix.len and self.prefix.graph):
            return torch.ones_like(lengths)
        # Uniform over the positions, so that the prefix of a position is often that of its whole history, as it is
        # at test time, and never holds an item the position has not seen.
        return 1 + (torch.rand(lengths.shape, device=lengths.device) * lengths).long()

    def drawn(self, interaction: Any) -> Any:
        """Return a batch with the lengths of its graph prefixes."""
        if self.tune.targets == "all":
            lengths = interaction[self.ITEM_SEQ_LEN]
            interaction.update(Interaction({CONTEXT: self._context(lengths)}))
        return interaction

    def _causal_loss(self, item_seq: Tensor, mask: Tensor, target: Tensor, context: Tensor | None = None) -> Tensor:
        lengths = mask.sum(1)
        targets = torch.cat([item_seq[:, 1:], item_seq.new_zeros(len(item_seq), 1)], dim=1)
        targets[torch.arange(len(targets), device=targets.device), lengths - 1] = target
        context = self._context(lengths) if context is None else context
        return self.core.causal_loss(item_seq, mask, targets, context, self.tune.label_smoothing, self.residual)

    def _last_hidden(self, interaction: Any) -> Tensor:
        """Return the state that predicts the next item of every row, shape ``[B, D]``; rows of like length together."""
        lengths = interaction[self.ITEM_SEQ_LEN]
        order = torch.argsort(lengths, stable=True)
        states = torch.cat([self.core.last_hidden(*self._inputs(interaction[rows])) for rows in order.split(ROWS)])
        return torch.empty_like(states).index_copy_(0, order, states)
