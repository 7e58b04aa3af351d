"""MMHCL without RecBole: hypergraph encoder plus its loss, ids in, loss or vectors out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from recbole_hellm.config.specs import GraphSpec
from recbole_hellm.hypergraph.builders import nearest_neighbour_hypergraph, shared_item_hypergraph
from recbole_hellm.hypergraph.encoder import EncoderOutput, HypergraphEncoder
from recbole_hellm.hypergraph.structure import UserItemGraph
from recbole_hellm.nn.catalogue_loss import catalogue_cross_entropy
from recbole_hellm.nn.contrastive import bpr_loss, embedding_l2, synergistic_contrast


def build_encoder(
    spec: GraphSpec,
    users: Tensor,
    items: Tensor,
    n_users: int,
    n_items: int,
    features: Sequence[tuple[Tensor, Tensor]] = (),
    show_progress: bool = False,
) -> HypergraphEncoder:
    """Build the graphs of a training split and the encoder over them.

    Args:
        spec: Settings of stage 1.
        users: User of every training interaction, shape ``[N]``.
        items: Item of every training interaction, shape ``[N]``.
        n_users: User ids, padding included.
        n_items: Item ids, padding included.
        features: By modality: vectors ``[n_items, d]`` and which items have one ``[n_items]``. Empty: no item
            hypergraph.
        show_progress: Whether to draw a progress bar over the search for neighbours.
    """
    user_graph = shared_item_hypergraph(users, items, n_users, n_items) if spec.user_hypergraph else None
    item_graph = None
    if spec.item_hypergraph and features:
        item_graph = nearest_neighbour_hypergraph(
            [vectors for vectors, _ in features],
            spec.neighbours,
            [present.bool() for _, present in features],
            show_progress=show_progress,
        )
    return HypergraphEncoder(
        n_users=n_users,
        n_items=n_items,
        embedding_size=spec.embedding_size,
        ui_layers=spec.ui_layers,
        user_layers=spec.user_layers,
        item_layers=spec.item_layers,
        graph=UserItemGraph(users, items, n_users, n_items),
        user_hypergraph=user_graph,
        item_hypergraph=item_graph,
        backend=spec.backend,
    )


class MMHCLLoss(nn.Module):
    """Ranking loss, synergistic contrast and L2 of one batch (MMHCL, arXiv 2504.16576).

    **Differences:** with ``loss="softmax"`` the ranking loss is the cross-entropy of each user's item among the
    distinct items of the batch, on cosines (sampled softmax, Wu et al. 2022, arXiv 2201.02327), instead of BPR on one
    sampled item. With ``contrast="batch"`` the contrast is over distinct users and positive items of the batch,
    ``contrast_nodes`` at most, instead of all nodes at every step.

    Args:
        spec: Weights and temperatures.
    """

    def __init__(self, spec: GraphSpec) -> None:
        super().__init__()
        self.spec = spec

    def forward(self, out: EncoderOutput, users: Tensor, positive: Tensor, negative: Tensor | None = None) -> Tensor:
        """Return the loss of pairs of ids, with BPR of triples, each of shape ``[B]``."""
        user, item = out.user[users], out.item[positive]
        if self.spec.loss == "softmax":
            loss = self._softmax(user, out.item, positive) + self.spec.reg_weight * embedding_l2(user, item)
        else:
            assert negative is not None
            other = out.item[negative]
            loss = bpr_loss((user * item).sum(-1), (user * other).sum(-1))
            loss = loss + self.spec.reg_weight * embedding_l2(user, item, other)
        if out.user_hyper is not None and self.spec.alpha_user:
            loss = loss + self.spec.alpha_user * self._contrast(out.user, out.user_hyper, users)
        if out.item_hyper is not None and self.spec.alpha_item:
            loss = loss + self.spec.alpha_item * self._contrast(out.item, out.item_hyper, positive)
        return loss

    def _softmax(self, user: Tensor, items: Tensor, positive: Tensor) -> Tensor:
        """Cross-entropy of ``positive`` among the distinct items of the batch."""
        candidates, target = torch.unique(positive, return_inverse=True)
        queries = functional.normalize(user, dim=1) / self.spec.softmax_temperature
        return catalogue_cross_entropy(queries, functional.normalize(items[candidates], dim=1), target)

    def _contrast(self, view: Tensor, hyper: Tensor, nodes: Tensor) -> Tensor:
        """Contrast two views of nodes; id 0 is padding and takes no part."""
        batch = self.spec.contrast == "batch"
        kept = torch.unique(nodes) if batch else torch.arange(1, len(view), device=view.device)
        if batch and 0 < self.spec.contrast_nodes < len(kept):
            kept = kept[torch.randperm(len(kept), device=kept.device)[: self.spec.contrast_nodes]]
        one, two = view[kept], hyper[kept]
        here = torch.arange(len(kept), device=kept.device)
        # A batch's similarities fit into memory at once; those of all nodes are computed again in the backward pass.
        rows = len(kept) if batch else 512
        return synergistic_contrast(one, two, one, two, self.spec.temperature, here, block_rows=rows)
