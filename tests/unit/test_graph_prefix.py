import pytest
import torch
from torch import nn

from recbole_hellm.llm.graph_prefix import GraphPrefix


def build(graph_dim=3, rank=0, seed=0, **more):
    torch.manual_seed(seed)
    prefix = GraphPrefix(n_layers=2, length=4, width=8, graph_dim=graph_dim, rank=rank, **more)
    for parameter in prefix.parameters():  # norms start at one and would hide a missing weight
        nn.init.normal_(parameter)
    return prefix.eval()


@pytest.fixture
def vectors():
    return torch.randn(5, 6, 3, generator=torch.Generator().manual_seed(1))


def states(prefix, vectors):
    """The states themselves; `forward` gives their factors."""
    return tuple(factors.dense() for factors in prefix(vectors))


def rms(x, weight, eps):
    return x / torch.sqrt((x * x).mean() + eps) * weight


def by_hand(prefix, history, kind):
    """One state at a time, from the formula of the paper."""
    mlp, context = getattr(prefix, f"{kind}_mlp"), torch.zeros(3, 3)
    for vector in history:
        context += torch.outer(vector, vector)
    inner = nn.functional.gelu(mlp[0].weight @ context.flatten() + mlp[0].bias)
    outer = nn.functional.gelu(mlp[3].weight @ inner + mlp[3].bias)
    graph = rms(outer, getattr(prefix, f"{kind}_graph_norm").weight, 1e-5)
    learned, weight = getattr(prefix, f"learned_{kind}s")[0], getattr(prefix, f"{kind}_norm").weight
    rows = [rms(learned[i, p] + graph, weight, 1e-5) for i in range(2) for p in range(4)]
    return torch.stack(rows).view(2, 4, 8)


def test_states_are_those_of_the_formula(vectors):
    prefix = build()
    with torch.no_grad():
        keys, values = states(prefix, vectors)
        assert keys.shape == values.shape == (5, 2, 4, 8)
        for row in range(5):
            torch.testing.assert_close(keys[row], by_hand(prefix, vectors[row], "key"), rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(values[row], by_hand(prefix, vectors[row], "value"), rtol=1e-4, atol=1e-5)


def test_padding_and_order_do_not_enter(vectors):
    prefix = build()
    padded = torch.cat([torch.zeros(5, 2, 3), vectors.flip(1), torch.zeros(5, 3, 3)], dim=1)
    for one, two in zip(states(prefix, vectors), states(prefix, padded), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)


def test_another_history_gives_another_prefix(vectors):
    keys, values = states(build(), vectors)
    for made in (keys, values):
        assert (made[0] - made[1]).abs().max() > 1e-2


def test_a_rank_reduces_before_the_gram_matrix(vectors):
    prefix = build(rank=2)
    assert prefix.key_mlp[0].in_features == 4
    plain = build()
    with torch.no_grad():  # a square reduction by the identity is none
        full = build(rank=3)
        full.reduce.weight.copy_(torch.eye(3))
        full.load_state_dict(plain.state_dict(), strict=False)
        full.reduce.weight.copy_(torch.eye(3))
        for one, two in zip(states(full, vectors), states(plain, vectors), strict=True):
            torch.testing.assert_close(one, two)
        before = states(prefix, vectors)[0].clone()
        prefix.reduce.weight.mul_(2)
        assert (states(prefix, vectors)[0] - before).abs().max() > 1e-3


def test_without_graph_every_history_gets_the_learned_states(vectors):
    prefix = build(graph_dim=0)
    keys, values = states(prefix, vectors)
    assert keys.shape == values.shape == (5, 2, 4, 8)
    assert torch.equal(keys[0], keys[4])
    torch.testing.assert_close(keys[0, 1, 2], rms(prefix.learned_keys[0, 1, 2], prefix.key_norm.weight, 1e-5))
    assert {name for name, _ in prefix.named_parameters()} == {
        "learned_keys", "learned_values", "key_norm.weight", "value_norm.weight"}  # fmt: skip


def test_dropout_acts_in_training_only(vectors):
    prefix = build(dropout=0.5)
    assert torch.equal(states(prefix, vectors)[0], states(prefix, vectors)[0])
    prefix.train()
    assert not torch.equal(states(prefix, vectors)[0], states(prefix, vectors)[0])
    prefix = build(dropout=0.0).train()
    assert torch.equal(states(prefix, vectors)[0], states(prefix, vectors)[0])


@pytest.mark.parametrize("rank", [0, 2])
def test_every_parameter_gets_a_gradient(vectors, rank):
    prefix = build(rank=rank)
    keys, values = states(prefix, vectors)
    (keys.square().sum(-1).sqrt().sum() + values.sum() + keys[..., 0].sum()).backward()
    for name, parameter in prefix.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_keys_and_values_have_weights_of_their_own():
    prefix = build()
    names = [name for name, _ in prefix.named_parameters()]
    assert len(names) == len({id(parameter) for parameter in prefix.parameters()}) == 14
    assert sum("key" in name for name in names) == sum("value" in name for name in names) == 7


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("graph_dim", [0, 3])
def test_a_projection_of_the_factors_is_that_of_the_states(vectors, bias, graph_dim):
    factors = build(graph_dim=graph_dim)(vectors)[0]
    module = nn.Linear(8, 5, bias=bias)
    for layer in range(2):
        torch.testing.assert_close(factors.projected(layer, module), module(factors.dense()[:, layer]))
    assert factors.length == 4


def test_states_that_nearly_cancel_stay_finite():
    prefix = build()
    with torch.no_grad():
        prefix.key_graph_norm.weight.zero_()
        prefix.learned_keys.zero_()
        assert torch.isfinite(prefix(torch.ones(2, 3, 3))[0].dense()).all()
