"""The plain side of stage 1 gives what the product gives."""

import pytest
import torch

from benchmarks.naive import graphs as dense
from benchmarks.naive.stage1 import NaiveStage1, Weights, contrast_blocks
from recbole_hellm.config.specs import GraphSpec
from recbole_hellm.hypergraph import (
    SharedEdgeMean,
    SymmetricHypergraphSum,
    nearest_neighbour_hypergraph,
    shared_item_hypergraph,
)
from recbole_hellm.models.mmhcl_core import MMHCLLoss, build_encoder

N_USERS, N_ITEMS, K = 31, 23, 4
SPEC = GraphSpec(
    embedding_size=8,
    user_hypergraph=True,
    neighbours=K,
    loss="bpr",
    contrast="all",
    alpha_user=0.3,
    alpha_item=0.7,
    reg_weight=0.1,
)


@pytest.fixture(scope="module")
def data():
    """Interactions with repeats, two modalities; id 0 is padding, item 5 lacks the first modality."""
    generator = torch.Generator().manual_seed(1)
    users = torch.randint(1, N_USERS, (160,), generator=generator)
    items = torch.randint(1, N_ITEMS, (160,), generator=generator)
    features = [torch.randn(N_ITEMS, width, generator=generator) for width in (6, 5)]
    present = [torch.ones(N_ITEMS, dtype=torch.bool) for _ in features]
    for mask in present:
        mask[0] = False
    present[0][5] = False
    return users, items, features, present


def test_the_user_graph_is_the_dense_one(data):
    users, items, *_ = data
    graph = shared_item_hypergraph(users, items, N_USERS, N_ITEMS)
    ours = SharedEdgeMean(graph)(torch.eye(N_USERS))
    for build in (dense.user_graph, dense.user_graph_from_sparse):
        theirs = build(users, items, N_USERS, N_ITEMS)
        assert theirs.count_nonzero() > N_USERS
        torch.testing.assert_close(theirs, ours, atol=1e-6, rtol=0)


def test_the_item_graph_is_the_dense_one(data):
    _, _, features, present = data
    graph = nearest_neighbour_hypergraph(features, K, present)
    incidence = torch.zeros(N_ITEMS, 2 * N_ITEMS)
    incidence[graph.node, graph.edge] = 1
    torch.testing.assert_close(dense.item_incidence(features, present, K), incidence, atol=0, rtol=0)
    ours = SymmetricHypergraphSum(graph)(torch.eye(N_ITEMS))
    torch.testing.assert_close(dense.item_graph(features, present, K), ours, atol=1e-6, rtol=0)


@pytest.fixture(scope="module")
def sides(data):
    """Both models with the same tables, and a batch."""
    users, items, features, present = data
    torch.manual_seed(2)
    encoder = build_encoder(SPEC, users, items, N_USERS, N_ITEMS, list(zip(features, present, strict=True)))
    names = ("ui_layers", "user_layers", "item_layers", "temperature", "alpha_user", "alpha_item", "reg_weight")
    naive = NaiveStage1(
        dense.user_item_graph(users, items, N_USERS, N_ITEMS),
        dense.user_graph(users, items, N_USERS, N_ITEMS),
        dense.item_graph(features, present, K),
        SPEC.embedding_size,
        Weights(**{name: getattr(SPEC, name) for name in names}),
    )
    naive.load_state_dict({f"{name}.weight": getattr(encoder, name).weight for name in TABLES})
    generator = torch.Generator().manual_seed(3)
    batch = (users[:20], items[:20], torch.randint(1, N_ITEMS, (20,), generator=generator))
    return encoder, naive, batch


TABLES = ("user_ui", "item_ui", "user_hyper", "item_hyper")


def test_the_loss_is_that_of_the_product_with_all_nodes(sides):
    encoder, naive, batch = sides
    ours, theirs = MMHCLLoss(SPEC)(encoder(), *batch), naive.loss(batch)
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=0)


def test_the_blocked_backward_gives_the_same_gradients(sides):
    encoder, naive, batch = sides
    loss = MMHCLLoss(SPEC)(encoder(), *batch)
    wanted = torch.autograd.grad(loss, [getattr(encoder, name).weight for name in TABLES])
    naive.zero_grad()
    assert naive.backward(batch, rows=7) == pytest.approx(loss.item(), abs=1e-5)
    for name, gradient in zip(TABLES, wanted, strict=True):
        assert gradient.any()
        torch.testing.assert_close(getattr(naive, name).weight.grad, gradient, atol=1e-6, rtol=1e-4)


def test_the_contrast_of_two_nodes_has_its_hand_value():
    # cos(a1, a2) = 0, cos(a1, b1) = 1, cos(a1, b2) = 0, and the mirror image for node 2; temperature 1
    view = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    found = sum(contrast_blocks(view, view * 3, 1.0, 1)).item()
    e = torch.e
    assert found == pytest.approx(-torch.log(torch.tensor(e / (1 + e + 1))).item(), abs=1e-6)
