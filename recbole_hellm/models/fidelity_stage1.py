"""Recompute the stage-1 outputs of a golden file through this package's own modules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from recbole_hellm.errors import DataError
from recbole_hellm.hypergraph.builders import nearest_neighbour_hypergraph, shared_item_hypergraph
from recbole_hellm.hypergraph.encoder import HypergraphEncoder
from recbole_hellm.hypergraph.structure import Hypergraph, UserItemGraph
from recbole_hellm.nn.contrastive import bpr_loss, embedding_l2, synergistic_contrast

TABLES = {
    "user_ui": "user_ui_embedding",
    "item_ui": "item_ui_embedding",
    "user_hyper": "uu_embedding",
    "item_hyper": "ii_embedding",
}
"""Tables of `HypergraphEncoder` and their names in the file."""
INPUTS = ("interactions", "image_feat", "text_feat", *TABLES.values(), "users", "pos", "neg")
CONFIG_KEYS = ("topk", "ui_layers", "user_layers", "item_layers", "temperature")


def recompute_stage1(
    inputs: Mapping[str, np.ndarray], config: Mapping[str, Any], backend: str = "auto"
) -> dict[str, np.ndarray]:
    """Recompute every output array of a ``stage1.npz`` from its inputs.

    Ids are 0-based without a padding id and sizes are read from the tables, so any size will do.

    Args:
        inputs: At least the arrays named in `INPUTS`; others (the outputs to compare with) are not read.
        config: At least `CONFIG_KEYS` of ``config.json``.
        backend: Graph backend, ``"auto"``, ``"dgl"`` or ``"torch"``.

    Returns:
        ``ui_norm``, ``u2u_norm``, ``i2i_incidence``, ``i2i_norm`` as dense matrices; ``user_out``, ``item_out``,
        ``uu_out``, ``ii_out``; the scalars ``contrastive_user``, ``contrastive_item``, ``bpr``, ``reg``. float32.

    Raises:
        DataError: If an input or a setting is missing.
    """
    missing = [name for name in INPUTS if name not in inputs] + [key for key in CONFIG_KEYS if key not in config]
    if missing:
        raise DataError(f"the stage-1 golden file or its config.json lacks {', '.join(missing)}")
    data = {name: torch.from_numpy(np.asarray(inputs[name])) for name in INPUTS}
    item_graph = nearest_neighbour_hypergraph([data["image_feat"], data["text_feat"]], k=config["topk"])
    encoder = _encoder(data, item_graph, config, backend)
    with torch.no_grad():
        outputs = _operators(encoder, item_graph) | _vectors_and_losses(encoder, data, config["temperature"])
    return {name: tensor.numpy().astype(np.float32) for name, tensor in outputs.items()}


def _encoder(
    data: Mapping[str, Tensor], item_graph: Hypergraph, config: Mapping[str, Any], backend: str
) -> HypergraphEncoder:
    """Build the encoder over the file's interactions and load the file's tables."""
    n_users, width = data[TABLES["user_ui"]].shape
    n_items = data[TABLES["item_ui"]].shape[0]
    users, items = data["interactions"].long().unbind(dim=1)
    encoder = HypergraphEncoder(
        n_users=n_users,
        n_items=n_items,
        embedding_size=width,
        ui_layers=config["ui_layers"],
        user_layers=config["user_layers"],
        item_layers=config["item_layers"],
        graph=UserItemGraph(users, items, n_users, n_items),
        user_hypergraph=shared_item_hypergraph(users, items, n_users, n_items),
        item_hypergraph=item_graph,
        backend=backend,
    )
    encoder.load_state_dict({f"{name}.weight": data[stored] for name, stored in TABLES.items()})
    return encoder


def _operators(encoder: HypergraphEncoder, item_graph: Hypergraph) -> dict[str, Tensor]:
    """Return the dense operators, by propagating the identity, and the dense item incidence."""
    incidence = torch.zeros(item_graph.n_nodes, item_graph.n_edges)
    incidence[item_graph.node, item_graph.edge] = 1.0
    sizes: dict[str, tuple[nn.Module, int]] = {
        "ui_norm": (encoder.ui_conv, encoder.n_users + encoder.n_items),
        "u2u_norm": (encoder.user_conv, encoder.n_users),
        "i2i_norm": (encoder.item_conv, encoder.n_items),
    }
    dense = {name: conv(torch.eye(size)) for name, (conv, size) in sizes.items()}
    return {**dense, "i2i_incidence": incidence}


def _vectors_and_losses(
    encoder: HypergraphEncoder, data: Mapping[str, Tensor], temperature: float
) -> dict[str, Tensor]:
    """Return the encoder's vectors and the four loss terms of the file's batch."""
    out = encoder()
    assert out.user_hyper is not None
    assert out.item_hyper is not None
    users, pos, neg = (data[name].long() for name in ("users", "pos", "neg"))
    user, liked, other = out.user[users], out.item[pos], out.item[neg]

    def contrast(final: Tensor, hyper: Tensor) -> Tensor:
        return synergistic_contrast(final, hyper, final, hyper, temperature, torch.arange(final.shape[0]))

    return {
        "user_out": out.user,
        "item_out": out.item,
        "uu_out": out.user_hyper,
        "ii_out": out.item_hyper,
        "contrastive_user": contrast(out.user, out.user_hyper),
        "contrastive_item": contrast(out.item, out.item_hyper),
        "bpr": bpr_loss((user * liked).sum(dim=1), (user * other).sum(dim=1)),
        "reg": embedding_l2(user, liked, other),
    }
