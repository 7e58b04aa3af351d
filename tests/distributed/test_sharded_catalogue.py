"""A catalogue split over two and three processes against the dense one."""

import pytest
import torch
from processes import together
from torch.nn import functional

from recbole_hellm import distributed
from recbole_hellm.nn import catalogue_loss
from recbole_hellm.nn.catalogue_loss import catalogue_cross_entropy
from recbole_hellm.nn.sharded_catalogue import (
    gather_rows,
    shard_of,
    sharded_cross_entropy,
    sharded_ranks,
    sharded_rows,
    sharded_top_k,
)

N_ITEMS, WIDTH, N_ROWS = 23, 6, 11  # 23 items: shares of 12 and 11, or 8, 8 and 7


def inputs(scale=1.0):
    draw = torch.Generator().manual_seed(3)
    states = torch.randn(N_ROWS, WIDTH, generator=draw, dtype=torch.float64) * scale
    weight = torch.randn(N_ITEMS, WIDTH, generator=draw, dtype=torch.float64)
    return states, weight, torch.randint(N_ITEMS, (N_ROWS,), generator=draw)


def split_loss(smoothing, scale, block):
    catalogue_loss.BLOCK = block
    states, weight, targets = inputs(scale)
    with distributed.joined(torch.device("cpu")):
        shard = shard_of(N_ITEMS)
        states.requires_grad_()
        own = weight[shard.start : shard.stop].clone().requires_grad_()
        loss = sharded_cross_entropy(states, own, targets, shard, smoothing)
        (3 * loss).backward()
        with torch.no_grad():
            again = sharded_cross_entropy(states, own, targets, shard, smoothing)
        ids = torch.tensor([[0, 22], [11, 12], [22, 22]])
        rows = sharded_rows(own, ids, shard)
        (of_rows,) = torch.autograd.grad((rows * torch.arange(6.0).view(3, 2, 1)).sum(), own)
        k = 13  # longer than any share
        best = sharded_top_k(states.detach(), own.detach(), k, shard)
        ranks = sharded_ranks(states.detach(), own.detach(), targets, shard)
        return [t.detach().numpy() for t in (loss, again, states.grad, own.grad, rows, of_rows, *best, ranks)]


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize(("smoothing", "scale", "block"), [(0.0, 1.0, 1 << 25), (0.1, 1.0, 30), (0.0, 300.0, 1)])
def test_all_is_as_with_the_whole_catalogue(tmp_path, one_thread, count, smoothing, scale, block):
    told = together(count, tmp_path, split_loss, smoothing, scale, block)
    states, weight, targets = inputs(scale)
    states.requires_grad_()
    weight.requires_grad_()
    want = catalogue_cross_entropy(states, weight, targets, smoothing)
    torch.testing.assert_close(want, functional.cross_entropy(states @ weight.T, targets, label_smoothing=smoothing))
    (3 * want).backward()
    ids = torch.tensor([[0, 22], [11, 12], [22, 22]])
    (of_rows,) = torch.autograd.grad((weight[ids] * torch.arange(6.0).view(3, 2, 1)).sum(), weight)
    scores = (states @ weight.T).detach()
    best = torch.topk(scores, 13, dim=1)
    place = 1 + (scores > scores.gather(1, targets[:, None])).sum(1)
    for loss, again, d_states, _, rows, _, values, items, ranks in (map(torch.from_numpy, part) for part in told):
        torch.testing.assert_close(loss, want.detach())
        torch.testing.assert_close(again, want.detach())
        torch.testing.assert_close(d_states, states.grad)
        torch.testing.assert_close(rows, weight[ids].detach())
        torch.testing.assert_close(values, best.values)
        assert torch.equal(items, best.indices)
        assert torch.equal(ranks, place)
    for index, whole in ((3, weight.grad), (5, of_rows)):
        torch.testing.assert_close(torch.cat([torch.from_numpy(part[index]) for part in told]), whole)


def split_rows():
    states, weight, targets = inputs()
    with distributed.joined(torch.device("cpu")):
        shard = shard_of(N_ITEMS)
        mine = slice(0, 4) if distributed.rank() == 0 else slice(4, N_ROWS)
        own_states = states[mine].clone().requires_grad_()
        own = weight[shard.start : shard.stop]
        loss = sharded_cross_entropy(gather_rows(own_states), own, gather_rows(targets[mine]), shard)
        loss.backward()
        nothing = gather_rows(states[:0] if distributed.rank() == 0 else states[:2])
        return loss.item(), own_states.grad.numpy(), len(nothing)


def test_each_process_has_rows_of_its_own(tmp_path, one_thread):
    (loss, first, some), (same, second, _) = together(2, tmp_path, split_rows)
    states, weight, targets = inputs()
    states.requires_grad_()
    want = functional.cross_entropy(states @ weight.T, targets)
    want.backward()
    assert loss == same == pytest.approx(want.item())
    assert some == 2
    torch.testing.assert_close(torch.cat([torch.from_numpy(first), torch.from_numpy(second)]), states.grad)


def too_small():
    with distributed.joined(torch.device("cpu")):
        shard_of(1)


def test_a_catalogue_smaller_than_the_group_is_refused(tmp_path, one_thread):
    with pytest.raises(AssertionError, match="a catalogue of 1 items cannot be split over 2 processes"):
        together(2, tmp_path, too_small)
