"""The weights the search finds: brute force, planted signals, and no gain out of noise."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_hellm.nn.weight_search import Candidates, choose_weights, coordinate_search, hopeful, likely_weights


def drawn(n_parts, n_cases, n_others, seed=0, edge=()):
    """Random margins; ``edge[f]`` standard deviations the targets are ahead in part ``f``."""
    noise = torch.randn(n_parts, n_cases, n_others, generator=torch.Generator().manual_seed(seed))
    for part, ahead in enumerate(edge):
        noise[part] -= ahead
    return Candidates(noise, torch.ones(n_cases, n_others, dtype=torch.bool))


def value(candidates, weights, k):
    return float(candidates.ndcg(candidates.total(weights), k).double().mean())


def test_ndcg_has_the_known_values():
    margins = torch.tensor(
        [[[-1.0, -2.0, -3.0], [1.0, -1.0, -1.0], [0.0, 1.0, -1.0], [1.0, 2.0, 3.0], [0.0, 0.0, 1.0]]]
    )
    real = torch.ones(5, 3, dtype=torch.bool)
    real[4, :2] = False
    found = Candidates(margins, real).ndcg(margins[0], 3)
    third = 0.6309297535714575  # 1 / log2(3)
    torch.testing.assert_close(found, torch.tensor([1.0, third, 0.5, 0.0, third]))


def test_a_part_that_says_nothing_ranks_nobody_first():
    empty = Candidates(torch.zeros(1, 3, 20), torch.ones(3, 20, dtype=torch.bool))
    assert value(empty, [1.0], 10) == 0


@pytest.mark.parametrize("seed", range(4))
def test_two_weights_are_as_good_as_brute_force(seed):
    candidates = drawn(2, 400, 30, seed, edge=(1.0, 1.3))
    grid = [(1.0, float(ratio)) for ratio in torch.logspace(-2, 2, 400)] + [(1.0, 0.0), (0.0, 1.0)]
    best = max(value(candidates, weights, 5) for weights in grid)
    choice = choose_weights(candidates, 5, (False, False))
    assert choice.weights[0] == 1
    assert choice.fused == pytest.approx(value(candidates, choice.weights, 5))
    assert choice.fused > best - 0.01, (choice, best)
    assert choice.fused > choice.before + 0.05


def test_the_search_is_at_a_maximum_of_its_own_grid():
    candidates = drawn(3, 60, 12, edge=(0.5, 1.0, 0.7))
    weights = coordinate_search(candidates, 3, likely_weights(candidates, [False] * 3), [False] * 3)
    fine = 2.0**0.25
    steps = [[0.0, weight / fine, weight, weight * fine] for weight in weights]
    neighbours = [list(trial) for trial in itertools.product(*steps)
                  if sum(one != two for one, two in zip(trial, weights, strict=True)) <= 1]  # fmt: skip
    assert len(neighbours) >= 7
    assert value(candidates, weights, 3) == max(value(candidates, trial, 3) for trial in neighbours)


@pytest.mark.parametrize("cases", [1, 7, 60])
def test_how_many_cases_are_looked_at_together_changes_nothing(cases, monkeypatch):
    candidates, signed = drawn(3, 60, 12, edge=(0.5, 1.0, 0.7)), (False, False, True)
    candidates.margins[:, ::3, 8:] = 0
    candidates.real[::3, 8:] = False
    whole = coordinate_search(candidates, 3, [1.0, 1.0, 0.1], signed)
    monkeypatch.setattr("recbole_hellm.nn.weight_search.BLOCK", 12 * cases)
    blocks = list(candidates.blocks())
    assert [len(block.real) for block in blocks] == [*[cases] * (60 // cases), *([60 % cases] if 60 % cases else [])]
    for part in range(3):
        assert torch.equal(torch.cat([block.margins[part] for block in blocks]), candidates.margins[part])
    assert coordinate_search(candidates, 3, [1.0, 1.0, 0.1], signed) == whole


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.tuples(st.floats(0, 9), st.floats(0, 9), st.floats(-9, 9)))
def test_cases_left_out_add_nothing_whatever_the_weights(seed, weights):
    candidates, signed = drawn(3, 50, 12, seed, edge=(0.7, 0.7, 0.0)), (False, False, True)
    candidates.margins[2] = candidates.margins[2].round().clamp(0, 1)
    candidates.margins[:, :, -1:] = 0
    candidates.real[:25, -1:] = False
    kept = hopeful(candidates, 2, signed)
    assert 0 < len(kept.real) < 50
    whole, part = (float(some.ndcg(some.total(weights), 2).double().sum()) for some in (candidates, kept))
    assert part == pytest.approx(whole, abs=1e-6)


def test_a_case_is_left_out_from_the_kth_hopeless_candidate_on():
    margins = torch.zeros(2, 3, 2)
    margins[0, 0], margins[0, 1] = torch.tensor([1.0, -0.1]), torch.tensor([0.0, 2.0])  # one above, two at or above
    margins[0, 2], margins[1, 2] = 1.0, torch.tensor([1.0, 0.0])  # of either sign: a negative weight may help
    candidates = Candidates(margins, torch.ones(3, 2, dtype=torch.bool))
    assert torch.equal(hopeful(candidates, 2, (False, True)).margins, margins[:, [0, 2]])
    assert len(hopeful(candidates, 2, (False, False)).real) == 1
    assert len(hopeful(candidates, 3, (False, True)).real) == 3


def test_a_planted_part_dominates():
    candidates = drawn(4, 500, 40, edge=(0.0, 3.0, 0.0, 0.0))
    choice = choose_weights(candidates, 10, (False,) * 4)
    others = [weight for part, weight in enumerate(choice.weights) if part != 1]
    assert choice.weights[1] > 5 * max(others)
    assert choice.fused > 0.9 > 0.2 > choice.before


def test_a_repeat_gets_a_penalty_where_nobody_repeats():
    candidates = drawn(2, 500, 40, edge=(2.0, 0.0))
    candidates.margins[1] = 0
    candidates.margins[1, :, :4] = 1  # four items of each history, never the target
    candidates.margins[0, :, :4] += 4  # which the model likes best
    choice = choose_weights(candidates, 10, (False, True))
    assert choice.weights[0] == 1
    assert choice.weights[1] < -2
    assert choice.fused > choice.before + 0.3
    never = choose_weights(candidates, 10, (False, False))
    assert never.weights[1] == 0


def test_a_repeat_gets_a_bonus_where_targets_are_repeats():
    candidates = drawn(2, 500, 40, edge=(1.0, 0.0))
    candidates.margins[1] = -1  # only the target was in the history
    assert choose_weights(candidates, 10, (False, True)).weights[1] > 0


@pytest.mark.parametrize("n_cases", [1, 5, 40])
def test_few_cases_and_noise_leave_the_first_part_alone(n_cases):
    for seed in range(5):
        candidates = drawn(4, n_cases, 50, seed, edge=(1.5, 0.0, 0.0, 0.0))
        choice = choose_weights(candidates, 10, (False, False, False, True))
        if choice.weights != (1.0, 0.0, 0.0, 0.0):
            assert n_cases >= 30
            gain = candidates.ndcg(candidates.total(choice.weights), 10) - candidates.ndcg(candidates.margins[0], 10)
            assert float(gain.mean()) > 2 * float(gain.std(correction=0)) / n_cases**0.5
        else:
            assert choice.fused == choice.before


@pytest.mark.parametrize(("n_cases", "chosen"), [(29, False), (30, True)])
def test_too_few_cases_choose_nothing_however_clear(n_cases, chosen):
    choice = choose_weights(drawn(2, n_cases, 40, edge=(0.0, 4.0)), 10, (False, False))
    assert (choice.weights != (1.0, 0.0)) == chosen


def test_the_start_sees_cases_of_every_kind():
    """Cases come sorted by the length of their histories: here the first half says the opposite of the second."""
    candidates = drawn(2, 4000, 20)
    candidates.margins[0, :2000] -= 3
    candidates.margins[1, 2000:] -= 3
    one, two = likely_weights(candidates, (False, False))
    assert 0.8 < one / two < 1.25


def test_no_case_and_one_part_are_no_choice():
    assert choose_weights(drawn(3, 0, 4), 10, (False,) * 3).weights == (1.0, 0.0, 0.0)
    assert choose_weights(drawn(1, 4, 4), 10, (False,)).weights == (1.0,)


def test_the_same_cases_give_the_same_weights():
    one, two = (choose_weights(drawn(3, 200, 20, edge=(1, 1, 1)), 10, (False, False, True)) for _ in range(2))
    assert one == two


@given(st.integers(0, 10_000), st.integers(1, 90), st.integers(1, 12))
@settings(max_examples=25, deadline=None)
def test_never_worse_than_alone_and_never_a_forbidden_sign(seed, n_cases, n_others):
    candidates = drawn(3, n_cases, n_others, seed, edge=(0.5, 1.0, -1.0))
    choice = choose_weights(candidates, 4, (False, False, True))
    assert choice.fused >= choice.before
    assert choice.weights[0] in (0.0, 1.0)
    assert choice.weights[1] >= 0
    assert value(candidates, choice.weights, 4) == pytest.approx(choice.fused, abs=1e-6)
