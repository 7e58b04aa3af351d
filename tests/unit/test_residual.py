"""The offset of training histories equals the dense scores of the parts, and knows nothing of its own target."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from recbole_hellm.config.specs import TransitionSpec
from recbole_hellm.models.residual import Residual, likely_scales, reduced, repeated
from recbole_hellm.models.score_fusion import ScoreFusion
from recbole_hellm.models.transitions import Transitions
from recbole_hellm.nn.catalogue_loss import Offset, catalogue_cross_entropy, sampled_cross_entropy
from recbole_hellm.nn.history_scores import unit_rows
from recbole_hellm.views import TrainView

N_ITEMS = 23
PARTS = ("llm", "transitions", "neighbours text", "graph", "repeat")


def view(sequences):
    user = np.repeat(np.arange(1, len(sequences) + 1), [len(s) for s in sequences])
    tokens = tuple(str(i) for i in range(N_ITEMS))
    users = tuple(str(i) for i in range(len(sequences) + 1))
    return TrainView(torch.from_numpy(user), torch.tensor([i for s in sequences for i in s]), users, tokens)


def sequences(seed, n=40):
    draw = torch.Generator().manual_seed(seed)
    return [torch.randint(1, N_ITEMS, (int(torch.randint(2, 8, (1,), generator=draw)),), generator=draw).tolist()
            for _ in range(n)]  # fmt: skip


def rows(some):
    """Every training history with what follows it."""
    pairs = [(s[:k], s[k]) for s in some for k in range(1, len(s))]
    width = max(len(history) for history, _ in pairs)
    histories = torch.tensor([history + [0] * (width - len(history)) for history, _ in pairs])
    return histories, torch.tensor([target for _, target in pairs])


def counts_of(some):
    return torch.bincount(torch.tensor([item for sequence in some for item in sequence]), minlength=N_ITEMS)


@pytest.fixture
def spec():
    return TransitionSpec(gap_decay=0.5, max_gap=4, tau=50.0, recency_decay=0.7)


@pytest.fixture
def fitted(spec):
    some = sequences(0)
    transitions = Transitions(spec, view(some))
    text = unit_rows(torch.randn(N_ITEMS, 6, generator=torch.Generator().manual_seed(1)))
    residual = Residual(PARTS, transitions, counts_of(some), 0.6)
    histories, targets = rows(some)
    residual.fit({"neighbours text": text}, histories, targets)
    return residual, some, transitions, text


def dense(offset, n_rows):
    return offset.add(torch.zeros(n_rows, N_ITEMS), 0)


def test_parts_that_were_trained_on_the_targets_are_left_out(fitted):
    assert fitted[0].parts == ("transitions", "neighbours text", "repeat", "popularity")


def test_the_offset_is_the_sum_the_fusion_makes_and_popularity_without_the_target_itself(fitted):
    residual, some, transitions, text = fitted
    histories, targets = rows(some)
    fusion = ScoreFusion(("llm", "transitions", "neighbours", "repeat"), ["text"], transitions, N_ITEMS, 0.6)
    fusion.attach({"text": text})
    want = torch.zeros(len(targets), N_ITEMS)
    for part, scale in zip(residual.parts[:-1], residual.scales.tolist(), strict=False):
        fusion.add(want, part, scale, histories)
    found = dense(residual(histories, targets), len(targets))
    mine = torch.arange(len(targets)), targets
    own = transitions.own_share(histories, (histories > 0).sum(1), targets)
    assert bool((own > 0).all())
    want[mine] -= residual.scales[0] * own
    counts = counts_of(some).float()
    popular = counts.log1p().repeat(len(targets), 1)
    popular[mine] = (counts[targets] - 1).log1p()
    want += residual.scales[-1] * popular
    want[:, 0] = 0  # the padding item, which the fusion leaves to be masked
    torch.testing.assert_close(found, want, atol=3e-3, rtol=0)  # the fusion's vectors are rounded to float16


@pytest.mark.parametrize("seed", range(4))
def test_without_its_own_pairs_a_target_scores_as_if_they_had_never_been(seed, spec):
    """Oracle: the table fitted on all but the pairs of one occurrence, by counting it anew."""
    some = sequences(seed, 12)
    some[0] = [3, 5, 3, 7]  # an item twice in one history
    transitions = Transitions(spec, view(some))
    gaps = [(between + 1) ** -spec.gap_decay for between in range(spec.max_gap)]
    for user, sequence in enumerate(some):
        for k in range(1, len(sequence)):
            counts = np.zeros((N_ITEMS, N_ITEMS))
            for other, their in enumerate(some):
                for j in range(1, len(their)):
                    for i in range(max(0, j - spec.max_gap), j):
                        if (other, j) != (user, k):
                            counts[their[i], their[j]] += gaps[j - i - 1]
            table = np.log1p(counts * (N_ITEMS - 1) / spec.tau)
            want = sum(spec.recency_decay ** (k - 1 - i) * table[sequence[i], sequence[k]] for i in range(k))
            history, length, target = torch.tensor([sequence[:k]]), torch.tensor([k]), torch.tensor([sequence[k]])
            mixed = transitions.mix(history, length).toarray()[0, sequence[k]]
            own = float(transitions.own_share(history, length, target))
            assert mixed - own == pytest.approx(want, abs=1e-5)


def test_the_scales_make_training_targets_most_likely():
    draw = torch.Generator().manual_seed(3)
    said = torch.randn(3, 4000, 12, generator=draw)
    truth = torch.tensor([1.5, 0.4, -0.8])
    logits = torch.tensordot(truth, said, dims=1)
    drawn = torch.multinomial(logits.softmax(1), 1, generator=draw)
    first = torch.arange(12).repeat(4000, 1)
    first = first.scatter(1, drawn, 0)
    first[:, 0] = drawn[:, 0]
    shuffled = said.gather(2, first.expand(3, -1, -1))
    found = likely_scales(shuffled, torch.ones(4000, 12, dtype=torch.bool), [False, False, True])
    torch.testing.assert_close(found, truth, atol=0.06, rtol=0)
    assert likely_scales(shuffled, torch.ones(4000, 12, dtype=torch.bool), [False, False, False])[2] == 0


def test_a_part_that_says_nothing_gets_no_scale():
    said = torch.zeros(2, 10, 3)
    said[0] = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))
    assert likely_scales(said, torch.ones(10, 3, dtype=torch.bool), [False, True])[1] == 0


def test_reduced_vectors_keep_the_products_of_low_rank():
    low = torch.randn(30, 4, generator=torch.Generator().manual_seed(5)) @ torch.randn(4, 9)
    torch.testing.assert_close(reduced(low, 4) @ reduced(low, 4).T, low @ low.T, atol=1e-4, rtol=1e-4)
    assert reduced(low, 9) is low


def test_every_item_of_a_history_is_named_once():
    row, item = repeated(torch.tensor([[4, 2, 4, 0], [1, 1, 1, 1]]))
    assert sorted(zip(row.tolist(), item.tolist(), strict=True)) == [(0, 2), (0, 4), (1, 1)]


def made(seed, n_rows=9, n_entries=25):
    draw = torch.Generator().manual_seed(seed)
    row = torch.randint(n_rows, (n_entries,), generator=draw).sort().values
    column = torch.randint(N_ITEMS, (n_entries,), generator=draw)
    value = torch.randn(n_entries, generator=draw)
    left, right = torch.randn(n_rows, 3, generator=draw), torch.randn(N_ITEMS, 3, generator=draw)
    whole = (left @ right.T).index_put((row, column), value, accumulate=True)
    return Offset(left, right, row, column, value), whole


@pytest.mark.parametrize("block", [1 << 25, 2 * N_ITEMS])
def test_the_loss_with_an_offset_is_that_of_the_whole_logits(block, monkeypatch):
    monkeypatch.setattr("recbole_hellm.nn.catalogue_loss.BLOCK", block)
    offset, whole = made(0)
    draw = torch.Generator().manual_seed(1)
    states = torch.randn(9, 5, generator=draw, requires_grad=True)
    weight = torch.randn(N_ITEMS, 5, generator=draw, requires_grad=True)
    targets = torch.randint(1, N_ITEMS, (9,), generator=draw)
    found = catalogue_cross_entropy(states, weight, targets, 0.1, offset=offset)
    want = functional.cross_entropy(states @ weight.T + whole, targets, label_smoothing=0.1)
    torch.testing.assert_close(found, want)
    for one, other in zip(torch.autograd.grad(found, [states, weight]), torch.autograd.grad(want, [states, weight]),
                          strict=True):  # fmt: skip
        torch.testing.assert_close(one, other)


def test_the_loss_over_a_sample_adds_the_offset_of_its_items():
    offset, whole = made(2)
    draw = torch.Generator().manual_seed(3)
    states, weight = torch.randn(9, 5, generator=draw), torch.randn(N_ITEMS, 5, generator=draw)
    targets = torch.randint(1, N_ITEMS, (9,), generator=draw)
    every = 1 + torch.randperm(N_ITEMS - 1, generator=draw)
    found = sampled_cross_entropy(states, weight, targets, every, offset=offset)
    want = functional.cross_entropy((states @ weight.T + whole)[:, 1:], targets - 1)
    torch.testing.assert_close(found, want)
