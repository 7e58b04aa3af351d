import pytest
import torch
from torch.nn.functional import normalize

from recbole_hellm.errors import ConfigError, DataError
from recbole_hellm.hypergraph import (
    HypergraphEncoder,
    UserItemGraph,
    nearest_neighbour_hypergraph,
    shared_item_hypergraph,
)

N_USERS, N_ITEMS = 8, 7


def make(backend="auto", user=True, item=True, **changes):
    generator = torch.Generator().manual_seed(0)
    users = torch.randint(1, N_USERS - 1, (30,), generator=generator)  # 0 is padding, the last one is new
    items = torch.randint(1, N_ITEMS - 1, (30,), generator=generator)
    features = torch.randn(N_ITEMS, 5, generator=generator)
    features[0] = 0
    arguments = {
        "n_users": N_USERS,
        "n_items": N_ITEMS,
        "embedding_size": 4,
        "ui_layers": 2,
        "user_layers": 3,
        "item_layers": 1,
        "graph": UserItemGraph(users, items, N_USERS, N_ITEMS),
        "user_hypergraph": shared_item_hypergraph(users, items, N_USERS, N_ITEMS) if user else None,
        "item_hypergraph": nearest_neighbour_hypergraph([features], k=3) if item else None,
        "backend": backend,
    }
    torch.manual_seed(1)
    return HypergraphEncoder(**{**arguments, **changes})


def power(module, x, times):
    for _ in range(times):
        x = module(x)
    return x


def test_output_is_the_formula():
    encoder = make()
    out = encoder()
    tables = torch.cat([encoder.user_ui.weight, encoder.item_ui.weight])
    mean = torch.stack([power(encoder.ui_conv, tables, layer) for layer in range(3)]).mean(0)
    user_hyper = power(encoder.user_conv, encoder.user_hyper.weight, 3)
    item_hyper = power(encoder.item_conv, encoder.item_hyper.weight, 1)
    torch.testing.assert_close(out.user_hyper, user_hyper)
    torch.testing.assert_close(out.item_hyper, item_hyper)
    torch.testing.assert_close(out.user, mean[:N_USERS] + normalize(user_hyper, dim=1))
    torch.testing.assert_close(out.item, mean[N_USERS:] + normalize(item_hyper, dim=1))


def test_zero_layers_give_the_tables():
    encoder = make(ui_layers=0, user_layers=0, item_layers=0)
    out = encoder()
    torch.testing.assert_close(out.user, encoder.user_ui.weight + normalize(encoder.user_hyper.weight, dim=1))
    assert torch.equal(out.item_hyper, encoder.item_hyper.weight)


def test_state_dict_holds_exactly_the_tables():
    assert set(make().state_dict()) == {"user_ui.weight", "item_ui.weight", "user_hyper.weight", "item_hyper.weight"}
    assert set(make(item=False).state_dict()) == {"user_ui.weight", "item_ui.weight", "user_hyper.weight"}
    other = make()
    torch.nn.init.zeros_(other.user_ui.weight)
    other.load_state_dict(make().state_dict())
    assert torch.equal(other().user, make()().user)


def test_every_table_is_trained_and_xavier_bounded():
    encoder = make()
    out = encoder()
    (out.user.square().sum() + out.item.square().sum()).backward()
    for name, table in encoder.named_parameters():
        assert torch.isfinite(table.grad).all(), name
        assert table.grad.any(), name
        assert table.abs().max() <= (6 / (table.shape[0] + table.shape[1])) ** 0.5


def test_padding_and_new_nodes_are_isolated():
    encoder = make()
    before = encoder()
    assert not before.user_hyper[[0, -1]].any()
    assert not before.item_hyper[0].any()
    torch.testing.assert_close(before.user[0], encoder.user_ui.weight[0] / 3)
    with torch.no_grad():
        for table in encoder.parameters():
            table[0] = 1e6
    after = encoder()
    for old, new in zip(before, after, strict=True):
        assert torch.equal(old[1:], new[1:])


@pytest.mark.parametrize(("user", "item"), [(True, False), (False, True), (False, False)])
def test_a_missing_hypergraph_leaves_lightgcn(user, item):
    part, whole = make(user=user, item=item), make()
    part.load_state_dict({k: v for k, v in whole.state_dict().items() if k in part.state_dict()})
    out, full = part(), whole()
    assert (out.user_hyper is None, out.item_hyper is None) == (not user, not item)
    torch.testing.assert_close(out.user, full.user - (0 if user else normalize(full.user_hyper, dim=1)))
    torch.testing.assert_close(out.item, full.item - (0 if item else normalize(full.item_hyper, dim=1)))


def test_backends_give_equal_vectors_and_gradients():
    pytest.importorskip("dgl")
    results = []
    for backend in ("torch", "dgl"):
        encoder = make(backend)
        out = encoder()
        (out.user.sum(1).square().sum() + out.item.sum(1).square().sum()).backward()
        results.append([out.user, out.item, *(p.grad for p in encoder.parameters())])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("error", "message", "changes"),
    [
        (ConfigError, "'embedding_size' must be >= 1, got 0", {"embedding_size": 0}),
        (ConfigError, "'item_layers' must be >= 0, got -1", {"item_layers": -1}),
        (ConfigError, "unknown graph backend 'tensorflow'", {"backend": "tensorflow"}),
        (DataError, "has 8 users and 7 items, expected 9 and 7", {"n_users": 9}),
        (
            DataError,
            "the item hypergraph has 3 nodes, expected 7 items",
            {"item_hypergraph": nearest_neighbour_hypergraph([torch.ones(3, 1)], k=1)},
        ),
    ],
)
def test_errors_say_what_is_wrong(error, message, changes):
    with pytest.raises(error, match=message):
        make(**changes)
