"""Stage ``sequence``: a SASRec on the training sequences, whose item table is the sequence vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from logging import getLogger
from typing import Any, Self

import torch
from recbole.model.sequential_recommender.sasrec import SASRec
from torch import Tensor

from recbole_hellm.checkpoints.parts import Parts
from recbole_hellm.config.specs import SequenceSpec
from recbole_hellm.errors import DataError
from recbole_hellm.nn.batching import length_batches
from recbole_hellm.nn.catalogue_loss import catalogue_cross_entropy
from recbole_hellm.pipeline.base import Results, StageContext
from recbole_hellm.pipeline.loop import StageLoop
from recbole_hellm.precision import use_bf16

logger = getLogger(__name__)


class SequenceStage:
    """Train RecBole's SASRec with full-softmax cross-entropy on every next item of every training sequence.

    Source: SASRec (Kang and McAuley 2018, https://arxiv.org/abs/1808.09781), layers of RecBole.
    **Differences** from RecBole's training: one causal pass a user instead of one row a prefix (same targets).
    """

    name = "sequence"
    version = 2
    needs: tuple[str, ...] = ()

    def __init__(self, spec: SequenceSpec, max_len: int, seed: int) -> None:
        self.spec, self.max_len, self.seed = spec, max_len, seed

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Build the stage from flat settings."""
        return cls(SequenceSpec.from_config(settings), int(settings["MAX_ITEM_LIST_LENGTH"]), int(settings["seed"]))

    def settings(self) -> Mapping[str, Any]:
        """Return every setting that decides the result."""
        return {**asdict(self.spec), "max_len": self.max_len, "seed": self.seed}

    def inputs(self, context: StageContext) -> Mapping[str, Any]:
        """Return nothing: the stage reads only training interactions."""
        return {}

    def run(self, context: StageContext, earlier: Results) -> Mapping[str, Tensor]:
        """Return ``item``, shape ``[n_items, sequence_embedding_size]``, and ``loss`` per epoch."""
        rows, lengths = context.train.windows(self.max_len)
        if len(rows) == 0:
            raise DataError("no user has two training interactions: a sequence encoder cannot be trained")
        model = self._model(context.train.n_items)
        optimizer = torch.optim.Adam(model.parameters(), lr=self.spec.learning_rate, fused=True)
        half = use_bf16(self.spec.precision, torch.device("cpu"))
        generator = torch.Generator().manual_seed(self.seed)
        parts = Parts({"sasrec": model}, {"adam": optimizer}, generators={"order": generator})
        with StageLoop(self.name, context.unfinished, lambda: parts) as loop:
            for _ in loop.epochs(self.spec.epochs, context.show_progress):
                model.train()
                for index in loop.batches(length_batches(lengths, self.spec.batch_size, generator)):
                    batch = rows[index, : int(lengths[index].max())]
                    optimizer.zero_grad()
                    loss = next_item_loss(model, batch, half)
                    loss.backward()
                    optimizer.step()
                    loop.add(loss.item(), len(index))
        losses = loop.losses
        logger.info("stage sequence: loss %.3f -> %.3f", losses[0], losses[-1])
        return {"item": model.item_embedding.weight.detach(), "loss": torch.tensor(losses)}

    def _model(self, n_items: int) -> Any:
        spec = self.spec
        config = {
            "USER_ID_FIELD": "user_id",
            "ITEM_ID_FIELD": "item_id",
            "LIST_SUFFIX": "_list",
            "ITEM_LIST_LENGTH_FIELD": "item_length",
            "NEG_PREFIX": "neg_",
            "MAX_ITEM_LIST_LENGTH": self.max_len,
            "device": "cpu",
            "n_layers": spec.n_layers,
            "n_heads": spec.n_heads,
            "hidden_size": spec.embedding_size,
            "inner_size": spec.inner_size,
            "hidden_dropout_prob": spec.dropout,
            "attn_dropout_prob": spec.dropout,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-12,
            "initializer_range": 0.02,
            "loss_type": "CE",
        }
        return SASRec(config, _Catalogue(n_items))


class _Catalogue:
    """The one thing RecBole's SASRec asks of a data set."""

    def __init__(self, n_items: int) -> None:
        self._n_items = n_items

    def num(self, field: str) -> int:
        return self._n_items


def next_item_loss(model: Any, rows: Tensor, half: bool = False) -> Tensor:
    """Cross-entropy of every next item of padded sequences ``[B, L]``, in one causal pass; ``half``: bf16 products."""
    inputs, targets = rows[:, :-1], rows[:, 1:]
    positions = torch.arange(inputs.size(1), device=inputs.device)
    states = model.item_embedding(inputs) + model.position_embedding(positions)
    states = model.dropout(model.LayerNorm(states))
    states = model.trm_encoder(states, model.get_attention_mask(inputs), output_all_encoded_layers=True)[-1]
    scored = targets > 0
    return catalogue_cross_entropy(states[scored], model.item_embedding.weight, targets[scored], half=half)
