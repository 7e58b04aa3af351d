"""MMHCL, the hypergraph pre-training of HeLLM, as a RecBole general recommender of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import InputType
from torch import Tensor

from recbole_hellm.config.specs import FeatureSpec, GraphSpec
from recbole_hellm.errors import HellmError
from recbole_hellm.hypergraph.encoder import HypergraphEncoder
from recbole_hellm.models.base import StagedRecommender
from recbole_hellm.models.mmhcl_core import MMHCLLoss, build_encoder
from recbole_hellm.views import train_view


class MMHCL(StagedRecommender, GeneralRecommender):
    """Multi-modal hypergraph contrastive learning (Guo et al. 2025, https://arxiv.org/abs/2504.16576).

    Trained by RecBole's trainer with its negative sampler (BPR) and a synergistic contrast; scores are inner products
    of the final user and item vectors, which a checkpoint holds, so that it can be evaluated without the graphs.

    **Differences:** see :class:`~recbole_hellm.models.mmhcl_core.MMHCLLoss` for the in-batch contrast; learning rate
    without decay.
    """

    input_type = InputType.PAIRWISE
    n_users: int
    n_items: int
    device: torch.device
    user_vectors: Tensor
    item_vectors: Tensor

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        settings: Mapping[str, Any] = config.final_config_dict
        self.spec, features = GraphSpec.from_config(settings), FeatureSpec.from_config(settings)
        self.modalities = tuple(entry.partition("=")[0] for entry in features.item_features)
        self.modalities = self.modalities if self.spec.item_hypergraph else ()
        self.needs = ("features",) if self.modalities else ()
        self.train_view = train_view(dataset)
        self.loss_of = MMHCLLoss(self.spec)
        self.register_buffer("user_vectors", torch.zeros(self.n_users, self.spec.embedding_size))
        self.register_buffer("item_vectors", torch.zeros(self.n_items, self.spec.embedding_size))
        self.encoder: HypergraphEncoder | None = None
        self._stale = False
        if not self.needs:
            self._set_encoder(())

    def attach(self, results: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Take the item features and build the graphs."""
        if self.needs:
            found = results["features"]
            self._set_encoder(tuple((found[name], found[f"{name}.present"]) for name in self.modalities))

    def _set_encoder(self, features: tuple[tuple[Tensor, Tensor], ...]) -> None:
        view = self.train_view
        encoder = build_encoder(self.spec, view.user, view.item, self.n_users, self.n_items, features)
        self.encoder, self._stale = encoder.to(self.device), True

    def checkpoint_keys(self) -> frozenset[str]:
        """Return the two tables of final vectors: all that scoring needs."""
        return frozenset({"user_vectors", "item_vectors"})

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """Return the final vectors, brought up to date."""
        self._refresh()
        return super().state_dict(*args, **kwargs)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load the final vectors; they count until training goes on."""
        self._stale = False
        return super().load_state_dict(state_dict, strict=strict, assign=assign)

    def calculate_loss(self, interaction: Any) -> Tensor:
        """Return the loss of a batch of (user, item, sampled item)."""
        if self.encoder is None:
            raise HellmError("MMHCL has no graphs yet: train it with run_recbole_hellm, which runs stage 'features'")
        self._stale = True
        ids = (interaction[self.USER_ID], interaction[self.ITEM_ID], interaction[self.NEG_ITEM_ID])
        return self.loss_of(self.encoder(), *ids)

    def _refresh(self) -> None:
        if self.encoder is None or not self._stale:
            return
        with torch.no_grad():
            out = self.encoder()
            self.user_vectors.copy_(out.user)
            self.item_vectors.copy_(out.item)
        self._stale = False

    def predict(self, interaction: Any) -> Tensor:
        """Return the score of each (user, item), shape ``[B]``."""
        self._refresh()
        return (self.user_vectors[interaction[self.USER_ID]] * self.item_vectors[interaction[self.ITEM_ID]]).sum(-1)

    def full_sort_predict(self, interaction: Any) -> Tensor:
        """Return the scores of the whole catalogue, shape ``[B * n_items]`` as RecBole wants it."""
        self._refresh()
        return (self.user_vectors[interaction[self.USER_ID]] @ self.item_vectors.T).flatten()
