"""Weights of several scores of the same items, chosen for the rank of known targets.

Letters: F parts, N cases (a history and its target), C other candidates of a case.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import pad

from recbole_hellm.nn.softmax_fit import likely_factors

FACTORS = (2.0, 2.0**0.5, 2.0**0.25)
"""Steps of the search, coarse to fine: weights are multiplied and divided by them."""
ROUNDS = 6
"""Passes over all weights for each step, at most."""
ENTRY = (0.1, 0.3, 1.0)
"""What a weight of 0 is tried at, in shares of the part that spreads the scores most."""
START_CASES = 1024
"""Cases of the likelihood that gives the start, at most."""
START_ITERATIONS = 20
"""Of that likelihood, at most: a start need not be exact."""
SURE = 2.0
"""Standard errors a gain has to exceed: the search finds some gain in any noise."""
BLOCK = 2**17
"""Candidates looked at together: few enough for the processor's cache, where a search takes a quarter of the time."""
FEWEST = 30
"""Cases without which nothing is chosen: of fewer, the standard error itself is a guess."""


@dataclass(frozen=True)
class Candidates:
    """How far every candidate of a case is above its target, by part."""

    margins: Tensor
    """Score of the candidate minus that of the target, shape ``[F, N, C]``; 0 where ``real`` is False."""
    real: Tensor
    """False for places that hold no candidate, shape ``[N, C]``."""

    def ndcg(self, total: Tensor, k: int) -> Tensor:
        """Return NDCG@k of each case, ``[N]``, for weighted sums of the margins ``[N, C]``; ties count against it."""
        # Into floats, which are compared and counted five times as fast as booleans.
        above = torch.ge(total, 0, out=torch.empty_like(total)).sum(1) - self._absent
        return torch.where(above < k, 1 / torch.log2(above + 2.0), 0.0)

    @cached_property
    def _absent(self) -> Tensor:
        return (~self.real).sum(1)

    def total(self, weights: Sequence[float]) -> Tensor:
        """Return the weighted sum of the margins, shape ``[N, C]``."""
        return torch.tensordot(self.margins.new_tensor(weights), self.margins, dims=1)

    @cached_property
    def spread(self) -> Tensor:
        """The root mean square of each part's margins, shape ``[F]``; 1 for a part that says nothing."""
        squares = torch.stack([part.square().sum() for part in self.margins]) / self.real.sum().clamp(min=1)
        return torch.where(squares > 0, squares.sqrt(), 1.0)

    def blocks(self) -> Iterator[Candidates]:
        """Yield views of these, :data:`BLOCK` candidates each on a processor, all together elsewhere."""
        some = BLOCK // max(self.real.size(1), 1) if self.real.device.type == "cpu" else len(self.real)
        for margins, real in zip(self.margins.split(max(1, some), dim=1), self.real.split(max(1, some)), strict=True):
            yield Candidates(margins, real)


@dataclass(frozen=True)
class Choice:
    """Weights and what they are worth on the cases they were chosen on."""

    weights: tuple[float, ...]
    """By part; the first is 1, or, where it is 0, the largest."""
    before: float
    """NDCG with the given weights."""
    fused: float
    """NDCG with the weights; never below ``before``."""


def choose_weights(
    candidates: Candidates, k: int, signed: Sequence[bool], given: Sequence[float] | None = None
) -> Choice:
    """Choose the weights with the best mean NDCG@k; the given ones where that is no sure gain.

    Maximum likelihood over the candidates gives the start, a coordinate search by multiplicative steps the rest. Equal
    values go to the smaller weight. Deterministic.

    Args:
        candidates: Margins by part.
        k: Length of the list.
        signed: Whether a part's weight may be negative.
        given: Weights that stay in doubt, and that a choice is compared with; default: the first part alone.
    """
    n_parts = len(candidates.margins)
    first = [1.0, *[0.0] * (n_parts - 1)] if given is None else list(given)
    before = candidates.ndcg(candidates.total(first), k)
    if n_parts == 1 or len(before) < FEWEST:
        value = float(before.mean()) if len(before) else 0.0
        return Choice(tuple(first), value, value)
    weights = coordinate_search(candidates, k, likely_weights(candidates, signed), signed)
    fused = candidates.ndcg(candidates.total(weights), k)
    gain = (fused - before).double()
    error = float(gain.std(correction=0)) / len(gain) ** 0.5
    if float(gain.mean()) <= SURE * error:
        return Choice(tuple(first), float(before.mean()), float(before.mean()))
    scale = weights[0] or max(abs(weight) for weight in weights)
    return Choice(tuple(weight / scale for weight in weights), float(before.mean()), float(fused.mean()))


def likely_weights(candidates: Candidates, signed: Sequence[bool]) -> list[float]:
    """Return the weights under which a softmax over its candidates gives the targets most mass, nearly.

    A small penalty keeps them finite where the parts tell every target apart.
    """
    some = slice(None, None, -(-candidates.margins.size(1) // START_CASES))  # evenly: cases may come sorted
    spread = candidates.spread
    margins, real = candidates.margins[:, some] / spread[:, None, None], candidates.real[some]
    both, there = pad(margins, (1, 0)), pad(real, (1, 0), value=True)  # the target, at a margin of 0 to itself
    found = (likely_factors(both, there, 1 / len(spread), START_ITERATIONS) / spread).tolist()
    return [weight if sign else max(weight, 0.0) for weight, sign in zip(found, signed, strict=True)]


def coordinate_search(candidates: Candidates, k: int, start: Sequence[float], signed: Sequence[bool]) -> list[float]:
    """Change one weight at a time while the mean NDCG@k rises, or stays with a smaller weight.

    Args:
        candidates: Margins by part.
        k: Length of the list.
        start: Weights to start from.
        signed: Whether a weight may be negative.
    """
    weights, spread = list(start), candidates.spread.tolist()
    blocks = list(hopeful(candidates, k, signed).blocks())  # the others add 0 whatever the weights

    def worth(part: int, trials: Sequence[float]) -> list[float]:
        """Return the NDCG, summed over cases, with each of the trials as the weight of ``part``."""
        others, sums = [0.0 if other == part else w for other, w in enumerate(weights)], [0.0] * len(trials)
        for block in blocks:
            rest = block.total(others)
            for index, trial in enumerate(trials):
                total = torch.add(rest, block.margins[part], alpha=trial)
                sums[index] += float(block.ndcg(total, k).double().sum())
        return sums

    best = worth(0, weights[:1])[0]
    for factor in FACTORS:
        for _ in range(ROUNDS):
            before = list(weights)
            for part in range(len(weights)):
                widest = max(abs(weight) * size for weight, size in zip(weights, spread, strict=True)) or 1.0
                unit = widest / spread[part]
                trials = _trials(weights[part], factor, unit, signed[part])
                for trial, value in zip(trials, worth(part, trials), strict=True):
                    if value > best or (value == best and abs(trial) < abs(weights[part])):
                        best, weights[part] = value, trial
            if weights == before:
                break
    return weights


def hopeful(candidates: Candidates, k: int, signed: Sequence[bool]) -> Candidates:
    """Leave out the cases whose target no weights bring among the first ``k``.

    Those have ``k`` candidates that no part puts below the target, and about which parts of either sign say the same.
    """
    never_below = candidates.real.clone()
    for margins, sign in zip(candidates.margins, signed, strict=True):
        never_below &= margins == 0 if sign else margins >= 0
    kept = never_below.sum(1) < k
    return candidates if bool(kept.all()) else Candidates(candidates.margins[:, kept], candidates.real[kept])


def _trials(weight: float, factor: float, unit: float, signed: bool) -> list[float]:
    """Return the values to try instead of ``weight``, the smallest first."""
    if weight == 0:
        sizes = [share * unit for share in ENTRY]
        return sorted([*sizes, *(-size for size in sizes)] if signed else sizes, key=abs)
    return [0.0, weight / factor, weight * factor, *([-weight] if signed else [])]
