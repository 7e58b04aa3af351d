"""A planted better model is found, an equal one is not, and the sign is right."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from recbole_hellm.benchmark.per_user import metric_vectors
from recbole_hellm.benchmark.significance import (
    PairedResult,
    compare_pair,
    holm,
    mean_interval,
    over_seeds,
    sign_flips,
    wilcoxon,
)

SEEDS = (1, 2, 3)


def planted(effect, seed, n_users=1500, seeds=SEEDS):
    """Return every user's NDCG@10 by seed: mostly zeros, as leave-one-out gives them."""
    rng = np.random.default_rng(seed)
    hard = np.random.default_rng(0).normal(4.0, 1.5, n_users)
    found = {}
    for one in seeds:
        ranks = np.floor(np.exp(hard + rng.normal(0, 0.8, n_users) - effect)).astype(int) + 1
        found[one] = metric_vectors(ranks, np.arange(n_users), ("ndcg",), (10,))["ndcg@10"]
    return found


def pair(a, b, alternative="greater", other="B"):
    return compare_pair(PairedResult("toys", "ndcg@10", "A", other, alternative), a, b)


def named(p, other, **changes):
    fields = {"p_wilcoxon": p, "p_permutation": p, **changes}
    return PairedResult("toys", "ndcg@10", "A", other, **fields)


def test_planted_vectors_are_mostly_ties_at_zero():
    a, b = planted(0.0, 1)[1], planted(0.0, 2)[1]
    assert 0.6 < (a == b).mean() < 0.95


def test_better_model_is_found():
    results = holm([pair(planted(0.3, 1), planted(0.0, seed), other=str(seed)) for seed in (2, 3, 4, 5)])
    assert len(results) == 4
    for result in results:
        assert result.difference > 0
        assert result.interval[0] > 0
        assert result.effect > 0
        assert result.relative == pytest.approx(
            result.difference / np.mean(list(planted(0.0, int(result.other)).values()))
        )
        assert result.holm_wilcoxon < 0.001
        assert result.holm_permutation < 0.001
        assert result.holm_seeds < 0.05
        assert result.significant


def test_swapping_turns_the_sign_and_the_tail():
    one, two = planted(0.3, 1), planted(0.0, 2)
    there, back = pair(one, two), pair(two, one)
    assert back.difference == pytest.approx(-there.difference)
    assert back.effect == pytest.approx(-there.effect)
    assert min(back.p_wilcoxon, back.p_permutation, back.p_seeds) > 0.99
    assert max(there.p_wilcoxon, there.p_permutation) < 0.001
    assert not holm([back])[0].significant
    both = pair(two, one, "two-sided")
    assert max(both.p_wilcoxon, both.p_permutation) < 0.001


def test_equal_model_is_found_as_rarely_as_the_level_says():
    runs = 200
    p = [pair(planted(0.0, 2 * i, 400), planted(0.0, 2 * i + 1, 400)) for i in range(runs)]
    assert len(p) == runs
    for kind in ("p_wilcoxon", "p_permutation", "p_seeds"):
        values = np.array([getattr(result, kind) for result in p])
        low, high = proportion_confint(int((values < 0.05).sum()), runs, alpha=0.001, method="beta")
        assert low < 0.05 < high, f"{kind}: {(values < 0.05).mean()} of equal models found better"
        assert stats.kstest(values, "uniform").pvalue > 0.001


def test_one_of_many_equal_models_is_rarely_found_after_holm():
    runs, found = 60, 0
    for run in range(runs):
        a = planted(0.0, 1000 * run, 300, (1,))
        found += any(
            r.significant for r in holm([pair(a, planted(0.0, 1000 * run + i, 300, (1,))) for i in range(1, 6)])
        )
    assert found / runs <= proportion_confint(3, runs, alpha=0.002, method="beta")[1]


def test_wilcoxon_by_hand():
    """|d| ranked with the zeros: 0 0 1 2 3 -> ranks 1.5 1.5 3 4 5; the zeros' are left out: W+ = 3 + 5, W- = 4."""
    d = np.array([0.0, 0.0, 1.0, -2.0, 3.0])
    # Of the 8 ways to give 3, 4 and 5 a sign, W+ >= 8 in: 3+5, 4+5, 3+4+5.
    assert wilcoxon(d) == pytest.approx(3 / 8)
    # Without zeros, all positive: one way in 2^5.
    assert wilcoxon(np.array([1.0, 2.0, 3.0, 4.0, 5.0])) == pytest.approx(1 / 32)


def test_wilcoxon_ranks_zeros_before_it_drops_them():
    """Pratt: 6 small losses against 2 large gains, behind zeros that level the ranks, is a loss."""
    d = np.concatenate([np.zeros(200), -np.arange(1.0, 31.0), np.full(12, 100.0)])
    ranks = stats.rankdata(np.abs(d))[d != 0]
    plus = ranks[d[d != 0] > 0].sum()
    mean, spread = ranks.sum() / 2, np.sqrt((ranks**2).sum()) / 2
    assert wilcoxon(d) == pytest.approx(stats.norm.sf((plus - mean) / spread), rel=1e-6)
    assert wilcoxon(d) > 0.9 > stats.wilcoxon(d, zero_method="wilcox", alternative="greater").pvalue


def test_sign_flips_by_hand_and_against_scipy():
    assert sign_flips(np.array([1.0, 2.0, 0.0, 3.0])) == pytest.approx(1 / 8)
    assert sign_flips(np.array([2.0])) == pytest.approx(1 / 2)
    assert sign_flips(np.array([-1.0, -2.0, -3.0])) == 1
    d = np.random.default_rng(0).normal(0.12, 1, 300)
    expected = stats.permutation_test(
        (d,), np.mean, permutation_type="samples", alternative="greater", n_resamples=20_000, rng=1
    ).pvalue
    assert 0.005 < expected < 0.2
    assert sign_flips(d) == pytest.approx(expected, abs=0.01)
    assert sign_flips(np.concatenate([d, np.zeros(1000)])) == sign_flips(d)


def test_many_users_do_not_need_much_memory(monkeypatch):
    sizes = []
    generator = np.random.default_rng(0)

    class Counting:
        def integers(self, low, high, size, dtype):
            sizes.append(np.prod(size))
            return generator.integers(low, high, size=size, dtype=dtype)

    monkeypatch.setattr("recbole_hellm.benchmark.significance.np.random.default_rng", lambda seed: Counting())
    sign_flips(generator.normal(size=40_000))
    assert sum(sizes) == 9999 * 40_000
    assert max(sizes) <= 4_000_000


def test_the_same_input_gives_the_same_numbers():
    assert pair(planted(0.1, 1), planted(0.0, 2)) == pair(planted(0.1, 1), planted(0.0, 2))


def test_no_difference_at_all():
    one = planted(0.0, 1)
    result = holm([pair(one, one)])[0]
    assert (result.difference, result.effect, result.n_differ, result.interval) == (0, 0, 0, (0, 0))
    assert (result.holm_wilcoxon, result.holm_permutation) == (1, 1)
    assert result.p_seeds is None
    assert not result.significant


def test_means_over_seeds_that_differ_in_the_last_bit_are_equal():
    values = np.full(50, 0.1)
    result = pair({1: values * 3, 2: values * 3, 3: values * 3}, {1: values, 2: values * 2, 3: values * 6})
    assert result.n_differ == 0


def test_seeds_are_paired_where_both_have_them():
    result = pair(planted(0.3, 1, seeds=(1, 2, 3, 4)), planted(0.0, 2, seeds=(2, 3, 4, 5)))
    assert result.seeds == (2, 3, 4)
    assert result.p_seeds is not None
    assert pair(planted(0.3, 1, seeds=(1, 2)), planted(0.0, 2, seeds=(1, 2))).p_seeds is None


def test_seeds_by_hand():
    """Differences 1, 2, 3: mean 2, standard error 1 / sqrt(3), t = 2 sqrt(3) with 2 degrees of freedom."""
    assert over_seeds([1.0, 2.0, 3.0]) == pytest.approx(stats.t.sf(2 * np.sqrt(3), 2))
    assert over_seeds([1.0, 2.0, 3.0], "two-sided") == pytest.approx(2 * stats.t.sf(2 * np.sqrt(3), 2))
    assert over_seeds([1.0, 2.0]) is None
    assert over_seeds([0.5, 0.5, 0.5]) is None


def test_holm_by_hand():
    """Sorted p times 4, 3, 2, 1, never falling: .005 -> .02, .01 -> .03, .03 -> .06, .04 -> .06."""
    results = holm([named(p, str(p)) for p in (0.01, 0.04, 0.03, 0.005)])
    assert [r.holm_wilcoxon for r in results] == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert [r.holm_permutation for r in results] == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert [r.significant for r in results] == [True, False, False, True]


def test_holm_counts_only_what_was_tested():
    left_out = PairedResult("toys", "ndcg@10", "A", "C", reason="history_masked is False and True")
    results = holm([named(0.02, "B", p_seeds=0.04), left_out, named(0.01, "D")])
    assert [r.holm_wilcoxon for r in results][::2] == pytest.approx([0.02, 0.02])
    assert results[0].holm_seeds == pytest.approx(0.04)
    assert results[1] == left_out
    assert results[2].holm_seeds is None
    assert not results[1].significant
    assert holm([]) == ()


def test_interval_covers_the_true_difference():
    true, covered = 0.05, 0
    runs = 200
    for run in range(runs):
        rng = np.random.default_rng(run)
        # Three users in ten differ, by 0.5 more often than by -0.5.
        d = rng.choice([0.5, -0.5, 0.0], p=[0.2, 0.1, 0.7], size=500)
        low, high = mean_interval(d)
        assert low < d.mean() < high
        covered += low <= true <= high
    low, high = proportion_confint(covered, runs, alpha=0.001, method="beta")
    assert low < 0.95 < high


def test_interval_against_theory_and_of_too_few():
    d = np.random.default_rng(0).normal(1.0, 2.0, 5000)
    half = 1.96 * d.std() / np.sqrt(len(d))
    assert mean_interval(d) == pytest.approx((d.mean() - half, d.mean() + half), abs=0.1 * half)
    assert np.isnan(mean_interval(np.array([1.0]))).all()
    assert mean_interval(np.array([1.0, 1.0])) == (1, 1)
