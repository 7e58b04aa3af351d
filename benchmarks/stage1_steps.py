"""How long the steps of stage 1 take, looked at from outside: every step asks the loss once for every batch."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

from torch import Tensor

from benchmarks.inputs import Stage1Inputs
from recbole_hellm.config.specs import GraphSpec, PretrainSpec
from recbole_hellm.models.mmhcl_core import MMHCLLoss
from recbole_hellm.pipeline.base import StageContext
from recbole_hellm.pipeline.graph import GraphStage


class _Enough(Exception):
    """Enough steps were seen; the training ends here."""


@dataclass
class Steps:
    """When each batch was asked its loss, and how many interactions it holds."""

    started: list[float] = field(default_factory=list)
    interactions: list[int] = field(default_factory=list)

    def before(self) -> list[int]:
        """Return the interactions of all batches before each one."""
        return [0, *accumulate(self.interactions)][:-1]

    def epoch_seconds(self, size: int) -> float:
        """Return the time between the first batch of the second epoch and that of the third.

        Raises:
            RuntimeError: If the batches do not make up epochs of ``size`` interactions.
        """
        before = self.before()
        if size not in before or 2 * size not in before:
            raise RuntimeError(f"stage 1 asked its loss for {sum(self.interactions)} interactions; no epochs of {size}")
        return self.started[before.index(2 * size)] - self.started[before.index(size)]

    def seconds_per_interaction(self, skip: int = 1) -> float:
        """Return the cost after ``skip`` batches of warm-up, up to the start of the last batch."""
        if len(self.started) < skip + 2:
            raise RuntimeError(f"{len(self.started)} batches are too few to time after {skip} of warm-up")
        return (self.started[-1] - self.started[skip]) / sum(self.interactions[skip:-1])


def record_steps(train: Callable[[], Any], enough: Callable[[Steps], bool]) -> Steps:
    """Run a training of stage 1 and note its batches until they are enough, then leave it."""
    steps, original = Steps(), MMHCLLoss.forward

    def forward(self: MMHCLLoss, out: Any, users: Tensor, *rest: Any, **named: Any) -> Tensor:
        steps.started.append(time.perf_counter())
        steps.interactions.append(len(users))
        if enough(steps):
            raise _Enough
        return original(self, out, users, *rest, **named)

    MMHCLLoss.forward = forward  # type: ignore[method-assign]
    try:
        train()
    except _Enough:
        pass
    finally:
        MMHCLLoss.forward = original  # type: ignore[method-assign]
    return steps


def stage1(inputs: Stage1Inputs, graph: GraphSpec, pretrain: PretrainSpec, seed: int) -> Callable[[], Any]:
    """Return a call that trains stage 1 on the inputs as a run does."""
    names, earlier = inputs.as_stage_results()
    stage = GraphStage(graph, pretrain, names, seed)
    context = StageContext(inputs.view(), Path(), Path())
    return lambda: stage.run(context, earlier)
