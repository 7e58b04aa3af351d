import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_hellm.errors import ConfigError, DataError
from recbole_hellm.hypergraph import Hypergraph, builders, nearest_neighbour_hypergraph, shared_item_hypergraph


def dense(graph: Hypergraph) -> torch.Tensor:
    matrix = torch.zeros(graph.n_nodes, graph.n_edges)
    matrix[graph.node, graph.edge] = 1
    return matrix


def slow_neighbours(features: torch.Tensor, k: int) -> torch.Tensor:
    """The definition, one item at a time."""
    n = features.shape[0]
    matrix = torch.zeros(n, n)
    similarity = torch.nn.functional.cosine_similarity(features[:, None].double(), features[None].double(), dim=2)
    for i in range(n):
        if features[i].any():
            order = sorted((j for j in range(n) if features[j].any()), key=lambda j: (j != i, -similarity[i, j], j))
            for j in order[:k]:
                matrix[i, j] = float(i == j or similarity[i, j] > 0)
    return matrix


def random_features(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def test_shared_items_give_the_binary_interaction_matrix():
    users, items = torch.tensor([1, 1, 2, 2, 2]), torch.tensor([3, 1, 3, 3, 2])
    graph = shared_item_hypergraph(users, items, n_users=3, n_items=4)
    assert dense(graph).tolist() == [[0, 0, 0, 0], [0, 1, 0, 1], [0, 0, 1, 1]]


def test_known_neighbours():
    # 1 and 2 point nearly the same way, 3 is opposite to 1, 4 is orthogonal to 1; 0 is padding.
    features = torch.tensor([[0.0, 0.0], [1.0, 0.0], [5.0, 1.0], [-1.0, 0.0], [0.0, 2.0]])
    graph = nearest_neighbour_hypergraph([features], k=3)
    assert dense(graph).tolist() == [
        [0, 0, 0, 0, 0],
        [0, 1, 1, 0, 0],
        [0, 1, 1, 0, 1],
        [0, 0, 0, 1, 0],
        [0, 0, 1, 0, 1],
    ]


def test_modalities_stand_beside_each_other():
    image, text = random_features(30, 6), random_features(30, 9, seed=1)
    graph = nearest_neighbour_hypergraph([image, text], k=4)
    assert (graph.n_nodes, graph.n_edges) == (30, 60)
    assert torch.equal(dense(graph), torch.cat([slow_neighbours(image, 4), slow_neighbours(text, 4)], dim=1))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 25), st.integers(1, 6), st.integers(1, 9), st.integers(0, 10**6))
def test_blocks_of_any_size_give_the_definition(n, k, block_rows, seed):
    features = random_features(n, 5, seed)
    graph = nearest_neighbour_hypergraph([features], k=k, block_rows=block_rows)
    assert torch.equal(dense(graph), slow_neighbours(features, k))


def test_ties_go_to_the_smaller_id_whatever_the_block_size():
    features = random_features(7, 33).repeat(30, 1)  # 30 copies of each vector
    graphs = [nearest_neighbour_hypergraph([features], k=5, block_rows=rows) for rows in (1, 13, 210)]
    for graph in graphs:
        assert torch.equal(graph.node, graphs[0].node)
        assert torch.equal(graph.edge, graphs[0].edge)
    assert dense(graphs[0])[100].nonzero().flatten().tolist() == [2, 9, 16, 23, 100]  # itself and the first four copies


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_permuting_items_permutes_the_hypergraph(seed):
    features = random_features(20, 8, seed)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(seed))
    before = dense(nearest_neighbour_hypergraph([features], k=4))
    after = dense(nearest_neighbour_hypergraph([features[order]], k=4))
    assert torch.equal(after, before[order][:, order])


def test_missing_items_have_no_neighbours_and_are_none():
    features = random_features(12, 3)
    features[4] = 0
    features[7] = torch.nan  # absent: may hold anything
    present = torch.ones(12, dtype=torch.bool)
    present[[0, 7]] = False
    matrix = dense(nearest_neighbour_hypergraph([features], k=12, present=[present]))
    missing = [0, 4, 7]
    assert not matrix[missing].any()
    assert not matrix[:, missing].any()
    rest = [i for i in range(12) if i not in missing]
    assert torch.equal(matrix[rest][:, rest], slow_neighbours(features[rest], 12))


def test_an_item_missing_in_one_modality_stands_in_the_other():
    image, text = random_features(6, 4), random_features(6, 4, seed=1)
    absent = torch.tensor([True, True, False, True, True, True])
    matrix = dense(nearest_neighbour_hypergraph([image, text], k=2, present=[absent, torch.ones(6, dtype=torch.bool)]))
    assert not matrix[2, :6].any()
    assert matrix[2, 6 + 2] == 1


def test_all_items_missing_gives_an_empty_hypergraph():
    graph = nearest_neighbour_hypergraph([torch.zeros(4, 2)], k=2)
    assert (graph.node.numel(), graph.n_nodes, graph.n_edges) == (0, 4, 4)


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (ConfigError, "k must be >= 1, got 0", {"k": 0}),
        (ConfigError, "block_rows must be >= 1, got 0", {"block_rows": 0}),
        (DataError, "at least one modality", {"modalities": []}),
        (
            DataError,
            r"must have shape \[4, d\] as the first one, got \(3, 2\)",
            {"modalities": [torch.ones(4, 2), torch.ones(3, 2)]},
        ),
        (DataError, "need as many 'present' masks, got 2", {"present": [torch.ones(4, dtype=torch.bool)] * 2}),
        (DataError, "must be bool with shape", {"present": [torch.ones(4)]}),
        (
            DataError,
            "1 rows that are not finite, the first is item 2",
            {"modalities": [torch.tensor([1.0, 1, torch.inf, 1])[:, None]]},
        ),
    ],
)
def test_errors_say_what_is_wrong(error, message, arguments):
    with pytest.raises(error, match=message):
        nearest_neighbour_hypergraph(**{"modalities": [torch.ones(4, 2)], "k": 2, **arguments})


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.sampled_from(["normal", "copies", "sparse", "near"]))
def test_proposed_candidates_change_nothing(seed, k, kind):
    """Of more than ``k + SPARE`` items; copies, zeros and near copies leave doubts that all comparisons settle."""
    draw = torch.Generator().manual_seed(seed)
    vectors = torch.randn(90, 6, generator=draw)
    if kind == "copies":
        vectors = vectors[torch.randint(5, (90,), generator=draw)]
    elif kind == "sparse":
        vectors = vectors.clamp(min=0) * (torch.rand(90, 6, generator=draw) < 0.3)
    elif kind == "near":
        vectors = vectors[:1] + 1e-4 * vectors
    unit = builders._unit_rows(vectors, None, 90, 0)[1]
    room = builders._Room(unit, 40, k)
    for start in range(0, len(unit), 40):
        stop = min(start + 40, len(unit))
        found = builders._block_neighbours(unit, unit.float(), start, stop, k, room)
        want = builders._all_compared(unit, torch.arange(start, stop), k)
        assert sorted(zip(*(x.tolist() for x in found), strict=True)) == list(
            zip(*(x.tolist() for x in want), strict=True)
        )
