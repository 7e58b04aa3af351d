"""Is A better than B, or is it chance? Paired tests over users and over seeds.

Two tests over users, both exact for "A and B may be exchanged for every user":

* Wilcoxon's signed ranks with ``zero_method="pratt"``. Under leave-one-out most users have 0 with either model, so
  most differences are 0. Pratt ranks those too and then leaves them out: unlike ``"wilcox"``, which drops them first,
  a difference cannot lose rank because a zero came in; unlike ``"zsplit"``, whose normal approximation counts the
  zeros' ranks as variance (three times too much where 9 in 10 are zero), it keeps its error rate. As all ranks start
  behind the zeros, it is close to a sign test among the users on whom A and B differ: *who wins more often*.
* A permutation test on the mean difference, signs flipped at random: *who wins more*. That is the number printed.

The effect size is Cohen's d_z, as its numerator is the printed difference and its square times the number of users
gives the power of a paired test; rank correlations would depend on how zeros are ranked.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats
from statsmodels.stats.multitest import multipletests

LEVEL = 0.05
"""Below it, after correction, a difference counts as significant."""
CONFIDENCE = 0.95
"""Of every interval."""
FLIPS = 9999
"""Random sign flips of the permutation test: the smallest p is 1 / 10,000."""
RESAMPLES = 1999
"""Bootstrap samples of an interval."""
FEWEST_SEEDS = 3
"""Seeds from which a test over seeds is made."""
BLOCK = 4_000_000
"""Numbers held at once by a resampling test (32 MB), whatever the number of users."""
SEED = 2020
"""Of every resampling: the same lines give the same report."""
NAN = float("nan")


@dataclass(frozen=True)
class PairedResult:
    """One model against another, paired by user (each user's metric averaged over the model's seeds).

    Where ``reason`` is set the pair was not tested, and everything after it is empty.
    """

    dataset: str
    metric: str
    label: str
    """A: the model that is claimed to be better."""
    other: str
    """B: the one it is compared with."""
    alternative: str = "greater"
    """``"greater"`` (right tail, A better than B) or ``"two-sided"``."""
    reason: str | None = None
    """Why the pair was not tested; ``None`` if it was."""
    n_users: int = 0
    n_differ: int = 0
    """Users for whom A and B differ."""
    seeds: tuple[int, ...] = ()
    """Seeds that both have."""
    difference: float = NAN
    """Mean over users of A - B."""
    interval: tuple[float, float] = (NAN, NAN)
    """95 % bootstrap interval over users of ``difference``."""
    relative: float = NAN
    """``difference`` as a share of B's mean; ``nan`` where that is 0."""
    effect: float = NAN
    """Cohen's d_z: mean difference in units of the differences' standard deviation; 0 if A and B never differ."""
    p_wilcoxon: float = NAN
    p_permutation: float = NAN
    p_seeds: float | None = None
    """Paired t-test over ``seeds``; ``None`` with fewer than 3 of them, or where no seed changes the difference."""
    holm_wilcoxon: float = NAN
    """``p_wilcoxon`` after Holm's correction over the baselines of the data set."""
    holm_permutation: float = NAN
    holm_seeds: float | None = None

    @property
    def p_users(self) -> float:
        """The larger p of both tests over users, after correction."""
        return max(self.holm_wilcoxon, self.holm_permutation)

    @property
    def significant(self) -> bool:
        """Whether both tests over users stay below 0.05 after correction."""
        return self.p_users < LEVEL


def compare_pair(result: PairedResult, a: Mapping[int, np.ndarray], b: Mapping[int, np.ndarray]) -> PairedResult:
    """Return ``result`` with the tests of A against B filled in, not yet corrected for several baselines.

    Args:
        result: Names the pair and the alternative.
        a: By seed: A's metric of every user, shape ``[n_users]``.
        b: The same of B, for the same users in the same order; its seeds may be others.
    """
    of_a, of_b = (np.mean(list(vectors.values()), axis=0) for vectors in (a, b))
    # Means over seeds of equal values may differ in the last bit: that would be a difference, or part a tie of ranks.
    difference = np.round(of_a - of_b, 12)
    mean, spread, base = float(difference.mean()), float(difference.std(ddof=1)), float(of_b.mean())
    seeds = tuple(seed for seed in a if seed in b)
    return replace(
        result,
        n_users=len(difference),
        n_differ=int(np.count_nonzero(difference)),
        seeds=seeds,
        difference=mean,
        interval=mean_interval(difference),
        relative=mean / base if base else NAN,
        effect=mean / spread if spread else 0.0,
        p_wilcoxon=wilcoxon(difference, result.alternative),
        p_permutation=sign_flips(difference, result.alternative),
        p_seeds=over_seeds([a[s].mean() - b[s].mean() for s in seeds], result.alternative),
    )


def wilcoxon(difference: np.ndarray, alternative: str = "greater") -> float:
    """Return the p-value of Wilcoxon's signed-rank test that ``difference`` leans to the right (or to a side)."""
    if not difference.any():
        return 1.0
    return float(stats.wilcoxon(difference, zero_method="pratt", alternative=alternative).pvalue)


def sign_flips(difference: np.ndarray, alternative: str = "greater") -> float:
    """Return the p-value of the paired permutation test on the mean of ``difference``.

    Exact where all flips are few; else :data:`FLIPS` random ones, in blocks.
    """
    moved = difference[difference != 0]  # the sign of a zero changes no sum
    if not len(moved):
        return 1.0

    def total(x: np.ndarray, axis: int) -> np.ndarray:
        return x.sum(axis=axis)

    if len(moved) <= np.log2(FLIPS):
        padded = np.append(moved, 0.0)  # scipy wants two numbers at least
        exact = stats.permutation_test(
            (padded,), total, permutation_type="samples", n_resamples=np.inf, alternative=alternative
        )
        return float(exact.pvalue)
    rng = np.random.default_rng(SEED)

    # The null distribution of permutation_test's "samples", which shuffles arrays of indices: 20 times as slow.
    def flipped(size: tuple[int, ...]) -> np.ndarray:
        return moved * (2 * rng.integers(0, 2, size=size, dtype=np.int8) - 1)

    batch = max(1, BLOCK // len(moved))
    test = stats.monte_carlo_test(
        moved, flipped, total, vectorized=True, n_resamples=FLIPS, batch=batch, alternative=alternative
    )
    return float(test.pvalue)


def over_seeds(difference: Sequence[float], alternative: str = "greater") -> float | None:
    """Return the p-value of the paired t-test over seeds, ``None`` where there is nothing to test.

    Args:
        difference: A's mean metric minus B's, one entry per shared seed.
        alternative: As scipy names it.
    """
    values = np.asarray(difference)
    if len(values) < FEWEST_SEEDS or np.ptp(values) < 1e-12:  # two models that no seed changes have no spread
        return None
    return float(stats.ttest_rel(values, np.zeros_like(values), alternative=alternative).pvalue)


def holm(results: Sequence[PairedResult]) -> tuple[PairedResult, ...]:
    """Return ``results`` with Holm's correction over those that were tested."""
    tested = [i for i, result in enumerate(results) if result.reason is None]
    corrected = list(results)
    columns = (
        _holm([results[i].p_wilcoxon for i in tested]),
        _holm([results[i].p_permutation for i in tested]),
        _holm([results[i].p_seeds for i in tested]),
    )
    for i, wilcoxon_p, permutation_p, seeds_p in zip(tested, *columns, strict=True):
        assert wilcoxon_p is not None
        assert permutation_p is not None
        corrected[i] = replace(results[i], holm_wilcoxon=wilcoxon_p, holm_permutation=permutation_p, holm_seeds=seeds_p)
    return tuple(corrected)


def _holm(values: Sequence[float | None]) -> list[float | None]:
    """Return the corrected p-values; what was not tested stays ``None`` and is not counted."""
    known = [value for value in values if value is not None]
    with _cheap_collection():
        corrected = iter(multipletests(known, method="holm")[1]) if known else iter(())
    return [None if value is None else float(next(corrected)) for value in values]


@contextmanager
def _cheap_collection() -> Iterator[None]:
    """Keep what lives now out of garbage collections: multipletests forces one a call, 0.1 s and more beside torch."""
    ours = gc.get_freeze_count() == 0
    if ours:
        gc.freeze()
    try:
        yield
    finally:
        if ours:
            gc.unfreeze()


def mean_interval(values: np.ndarray) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the mean of ``values``; ``nan`` for fewer than 2 of them.

    Percentiles: bias correction and acceleration (BCa) needs the jackknife of every user, and moves an interval over
    thousands of users by less than its last printed digit.
    """
    if len(values) < 2:
        return NAN, NAN
    found = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=RESAMPLES,
        batch=max(1, BLOCK // len(values)),
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(SEED),
    ).confidence_interval
    return float(found.low), float(found.high)
