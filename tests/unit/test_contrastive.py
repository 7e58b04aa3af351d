import math

import pytest
import torch
from torch.nn.functional import normalize

from recbole_hellm.errors import ConfigError
from recbole_hellm.nn import contrastive
from recbole_hellm.nn.contrastive import bpr_loss, embedding_l2, synergistic_contrast


def views(n, d=6, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, d, dtype=dtype, generator=generator).requires_grad_() for _ in range(2)]


def written_out(a, b, tau):
    """The formula as printed, over all nodes."""
    a, b = normalize(a, dim=1), normalize(b, dim=1)
    within, across = torch.exp(a @ a.T / tau), torch.exp(a @ b.T / tau)
    return -torch.log(across.diag() / (within.sum(1) - within.diag() + across.sum(1))).mean()


@pytest.mark.parametrize("block_rows", [1, 7, 20, 512])
@pytest.mark.parametrize("tau", [0.2, 0.5])
def test_all_nodes_equal_the_formula_with_gradients(tau, block_rows):
    a, b = views(20)
    expected = torch.autograd.grad(written_out(a, b, tau), [a, b])
    loss = synergistic_contrast(a, b, a, b, tau, torch.arange(20), block_rows)
    torch.testing.assert_close(loss, written_out(a, b, tau))
    torch.testing.assert_close(torch.autograd.grad(loss, [a, b]), expected)


def test_some_anchors_against_all_candidates():
    a, b = views(20)
    index = torch.tensor([3, 17, 3])
    each = [synergistic_contrast(a[[i]], b[[i]], a, b, 0.5, torch.tensor([i])) for i in index.tolist()]
    loss = synergistic_contrast(a[index], b[index], a, b, 0.5, index)
    torch.testing.assert_close(loss, torch.stack(each).mean())
    everyone = [synergistic_contrast(a[[i]], b[[i]], a, b, 0.5, torch.tensor([i])) for i in range(20)]
    torch.testing.assert_close(torch.stack(everyone).mean(), written_out(a, b, 0.5))


def test_in_batch_equals_the_formula_on_the_batch():
    a, b = views(20)
    batch = torch.tensor([2, 5, 11, 19])
    loss = synergistic_contrast(a[batch], b[batch], a[batch], b[batch], 0.3, torch.arange(4))
    torch.testing.assert_close(loss, written_out(a[batch], b[batch], 0.3))


def test_hand_value():
    # Two orthogonal nodes, both views equal: the denominator is exp(0) + exp(1/tau) + exp(0).
    a = torch.eye(2)
    loss = synergistic_contrast(a, 3 * a, a, 3 * a, 0.5, torch.arange(2))
    assert loss.item() == pytest.approx(math.log(2 + math.exp(2)) - 2, abs=1e-6)


def test_one_node_and_zero_vectors_are_finite():
    a, b = views(1, dtype=torch.float32)
    loss = synergistic_contrast(a, b, a, b, 0.5, torch.arange(1))
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert torch.isfinite(a.grad).all()
    zero = torch.zeros(3, 4, requires_grad=True)
    synergistic_contrast(zero, zero, zero, zero, 0.5, torch.arange(3)).backward()
    assert torch.isfinite(zero.grad).all()


def test_stable_at_a_small_temperature():
    a, _ = views(6, dtype=torch.float32)
    loss = synergistic_contrast(a, a, a, a, 1e-3, torch.arange(6))
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-3)
    assert torch.isfinite(a.grad).all()


def test_memory_is_a_block_at_a_time(monkeypatch):
    shapes, kept = [], []
    original = contrastive._log_denominators
    monkeypatch.setattr(
        contrastive, "_log_denominators", lambda a, c, i: (shapes.append((len(a), len(c))), original(a, c, i))[1]
    )
    a, b = views(100)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.append(t.numel()), t)[1], lambda t: t):
        loss = synergistic_contrast(a, b, a, b, 0.5, torch.arange(100), block_rows=16)
    assert set(shapes) == {(16, 200), (4, 200)}
    assert max(kept) <= 200 * 6  # vectors only, no [16, 200] block survives the forward pass
    loss.backward()
    assert len(shapes) == 14  # each block once more in the backward pass


def test_bpr_and_l2_by_hand():
    assert bpr_loss(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 0.0])).item() == pytest.approx(
        (math.log1p(math.exp(-1)) + math.log(2)) / 2
    )
    assert bpr_loss(torch.tensor([-1e4]), torch.tensor([1e4])).item() == pytest.approx(2e4)
    assert embedding_l2(torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[3.0], [1.0]])).item() == pytest.approx(
        15 / 4
    )


@pytest.mark.parametrize(
    ("error", "message", "changes"),
    [
        (ConfigError, "'temperature' must be > 0, got 0", {"temperature": 0}),
        (ConfigError, "'temperature' must be > 0, got nan", {"temperature": float("nan")}),
        (ConfigError, "'block_rows' must be >= 1, got 0", {"block_rows": 0}),
        (ValueError, "expected shapes", {"all_b": torch.ones(5, 2)}),
        (ValueError, "expected one self_index", {"self_index": torch.arange(3)}),
        (ValueError, r"must lie in 0\.\.3", {"self_index": torch.arange(1, 5)}),
    ],
)
def test_contrast_errors(error, message, changes):
    x = torch.ones(4, 2)
    arguments = {
        "anchor_a": x,
        "anchor_b": x,
        "all_a": x,
        "all_b": x,
        "temperature": 0.5,
        "self_index": torch.arange(4),
    }
    with pytest.raises(error, match=message):
        synergistic_contrast(**{**arguments, **changes})


def test_bpr_and_l2_errors():
    with pytest.raises(ValueError, match="one shape"):
        bpr_loss(torch.zeros(2), torch.zeros(2, 1))
    with pytest.raises(ValueError, match="one batch size"):
        embedding_l2(torch.zeros(2, 1), torch.zeros(3, 1))
    with pytest.raises(ValueError, match="one batch size"):
        embedding_l2()
