import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recbole_hellm.errors import DataError
from recbole_hellm.hypergraph import Hypergraph, UserItemGraph


def ids(*values):
    return torch.tensor(values, dtype=torch.int64)


def test_pairs_are_stored_once_and_sorted():
    graph = Hypergraph(ids(2, 0, 2, 2), ids(1, 3, 0, 1), n_nodes=4, n_edges=5)
    assert graph.node.tolist() == [0, 2, 2]
    assert graph.edge.tolist() == [3, 0, 1]
    assert graph.node_degrees.tolist() == [1, 0, 2, 0]
    assert graph.edge_sizes.tolist() == [1, 1, 0, 1, 0]


def test_user_item_graph_is_binary():
    graph = UserItemGraph(ids(1, 1, 2), ids(2, 2, 1), n_users=3, n_items=3)
    assert (graph.users.tolist(), graph.items.tolist()) == ([1, 2], [2, 1])
    assert graph.user_degrees.tolist() == [0, 1, 1]
    assert graph.item_degrees.tolist() == [0, 1, 1]


def test_structures_are_frozen_and_may_be_empty():
    graph = Hypergraph(ids(), ids(), n_nodes=2, n_edges=0)
    assert graph.node_degrees.tolist() == [0, 0]
    assert graph.walk_counts().tolist() == [0, 0]
    with pytest.raises(dataclasses.FrozenInstanceError):
        graph.n_nodes = 3


@pytest.mark.parametrize("kind", [Hypergraph, UserItemGraph])
@pytest.mark.parametrize(
    ("left", "right", "message"),
    [
        (ids(0, 3), ids(0, 0), r"has ids from 0 to 3; they must lie in 0\.\.2"),
        (ids(0, 1), ids(0, -1), r"has ids from -1 to 0; they must lie in 0\.\.3"),
        (ids(0, 1), ids(0), "must have one length, got 2 and 1"),
        (ids(0, 1).int(), ids(0, 1), "must be an int64 vector, got torch.int32"),
        (ids(0, 1)[None], ids(0, 1), "must be an int64 vector"),
    ],
)
def test_broken_pairs_are_refused(kind, left, right, message):
    with pytest.raises(DataError, match=message):
        kind(left, right, 3, 4)


def test_negative_sizes_are_refused():
    with pytest.raises(DataError, match="'edge' must be >= 0, got -1"):
        Hypergraph(ids(), ids(), n_nodes=2, n_edges=-1)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 4)), max_size=40))
def test_degree_sums_and_walk_counts_equal_the_dense_incidence(pairs):
    node, edge = ids(*(p[0] for p in pairs)), ids(*(p[1] for p in pairs))
    graph = Hypergraph(node, edge, n_nodes=7, n_edges=5)
    dense = torch.zeros(7, 5, dtype=torch.int64)
    dense[node, edge] = 1
    assert torch.equal(graph.node_degrees, dense.sum(1))
    assert torch.equal(graph.edge_sizes, dense.sum(0))
    assert torch.equal(graph.walk_counts(), (dense @ dense.T).sum(1))
