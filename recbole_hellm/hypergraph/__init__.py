"""Hypergraphs of users and items: structures, builders, propagation and the stage-1 encoder."""

from recbole_hellm.hypergraph.builders import nearest_neighbour_hypergraph, shared_item_hypergraph
from recbole_hellm.hypergraph.conv import (
    NeighbourSum,
    SharedEdgeMean,
    SymmetricHypergraphSum,
    SymmetricUserItemSum,
    resolve_backend,
)
from recbole_hellm.hypergraph.encoder import EncoderOutput, HypergraphEncoder
from recbole_hellm.hypergraph.structure import Hypergraph, UserItemGraph

__all__ = [
    "EncoderOutput",
    "Hypergraph",
    "HypergraphEncoder",
    "NeighbourSum",
    "SharedEdgeMean",
    "SymmetricHypergraphSum",
    "SymmetricUserItemSum",
    "UserItemGraph",
    "nearest_neighbour_hypergraph",
    "resolve_backend",
    "shared_item_hypergraph",
]
