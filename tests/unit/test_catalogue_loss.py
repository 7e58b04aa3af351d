import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from recbole_hellm.nn import catalogue_loss
from recbole_hellm.nn.catalogue_loss import catalogue_cross_entropy, sampled_cross_entropy


def inputs(n_rows, n_items, width=5, seed=0, dtype=torch.float64):
    draw = torch.Generator().manual_seed(seed)
    states = torch.randn(n_rows, width, generator=draw, dtype=dtype).requires_grad_()
    weight = torch.randn(n_items, width, generator=draw, dtype=dtype).requires_grad_()
    return states, weight, torch.randint(n_items, (n_rows,), generator=draw)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 40), st.integers(2, 30), st.sampled_from([0.0, 0.1, 0.9]), st.integers(1, 300), st.integers(1, 100),
    st.floats(-3, 3),
)  # fmt: skip
def test_loss_and_gradients_are_those_of_torch_whatever_the_blocks(n_rows, n_items, smoothing, block, cached, scale):
    states, weight, targets = inputs(n_rows, n_items)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalogue_loss, "BLOCK", block)
        patch.setattr(catalogue_loss, "CACHED", cached)
        loss = catalogue_cross_entropy(states, weight, targets, smoothing)
        found = torch.autograd.grad(scale * loss, (states, weight))
    want = functional.cross_entropy(states @ weight.T, targets, label_smoothing=smoothing)
    torch.testing.assert_close(loss, want)
    for one, two in zip(found, torch.autograd.grad(scale * want, (states, weight)), strict=True):
        torch.testing.assert_close(one, two)


def test_bf16_products_are_near_the_exact_ones_and_stay_finite_for_large_logits():
    states, weight, targets = inputs(200, 300, 64, dtype=torch.float32)
    with torch.no_grad():
        states.mul_(5)
    loss = catalogue_cross_entropy(states, weight, targets, half=True)
    want = functional.cross_entropy(states @ weight.T, targets)
    torch.testing.assert_close(loss, want, rtol=0.02, atol=0.02)
    found, exact = torch.autograd.grad(loss, weight)[0], torch.autograd.grad(want, weight)[0]
    assert torch.isfinite(found).all()
    assert functional.cosine_similarity(found.flatten(), exact.flatten(), dim=0) > 0.999


def test_without_gradients_only_the_loss_is_made():
    states, weight, targets = inputs(7, 9)
    with torch.no_grad():
        loss = catalogue_cross_entropy(states, weight, targets)
    assert not loss.requires_grad
    torch.testing.assert_close(loss, functional.cross_entropy(states @ weight.T, targets))


def test_autocast_outside_does_not_change_the_precision():
    states, weight, targets = inputs(7, 9, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = catalogue_cross_entropy(states, weight, targets)
    torch.testing.assert_close(loss, functional.cross_entropy(states @ weight.T, targets))


def test_a_sample_of_the_whole_catalogue_is_the_whole_catalogue():
    states, weight, targets = inputs(7, 9, dtype=torch.float32)
    loss = sampled_cross_entropy(states, weight, targets, torch.arange(9))
    logits = states @ weight.T  # every negative counts (I - 1) / I times here, its target once
    shift = torch.full_like(logits, 8 / 9).log().scatter(1, targets[:, None], 0.0)
    torch.testing.assert_close(loss, functional.cross_entropy(logits + shift, targets))


def test_the_sampled_partition_estimates_the_full_one():
    torch.manual_seed(0)
    states, weight, targets = inputs(50, 4000, dtype=torch.float32)
    with torch.no_grad():
        full = functional.cross_entropy(states @ weight.T, targets)
        draws = [sampled_cross_entropy(states, weight, targets, torch.randperm(4000)[:800]) for _ in range(20)]
    assert abs(torch.stack(draws).mean() - full) < 0.05 * full
