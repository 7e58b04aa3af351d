"""Factors by maximum likelihood against what is known."""

import math

import pytest
import torch

from recbole_hellm.nn.softmax_fit import PENALTY, likely_factors


def test_one_score_of_two_candidates_is_a_logistic_regression():
    """Three times in four the target is higher by one: its log-odds are log 3, but for the penalty."""
    scores = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]])
    (found,) = likely_factors(scores, torch.ones(4, 2, dtype=torch.bool)).tolist()
    assert found == pytest.approx(math.log(3), abs=0.02)
    sigmoid = 1 / (1 + math.exp(-found))
    assert sigmoid - 0.75 + 2 * PENALTY * found == pytest.approx(0, abs=1e-4), "the gradient is zero there"


def test_a_place_without_a_candidate_counts_for_nothing():
    torch.manual_seed(0)
    scores, real = torch.randn(2, 50, 4), torch.ones(50, 5, dtype=torch.bool)
    real[:, 4] = False
    padded = torch.cat([scores, torch.full((2, 50, 1), 7.0)], dim=2)
    assert torch.allclose(likely_factors(padded, real), likely_factors(scores, real[:, :4]), atol=1e-4)


def test_the_start_does_not_decide():
    torch.manual_seed(1)
    scores, real = torch.randn(3, 80, 6), torch.ones(80, 6, dtype=torch.bool)
    scores[0, :, 0] += 1
    found = likely_factors(scores, real, start=0.5)
    assert torch.allclose(found, likely_factors(scores, real), atol=1e-3)
    assert float(found[0]) > 0.5


def test_scores_that_tell_every_target_apart_have_finite_factors():
    scores = torch.zeros(1, 10, 3)
    scores[0, :, 0] = 1.0
    found = float(likely_factors(scores, torch.ones(10, 3, dtype=torch.bool)))
    wrong = 2 / (math.exp(found) + 2)  # mass of the two others
    assert 2 * PENALTY * found == pytest.approx(wrong, rel=0.02), "the penalty holds against the likelihood"
