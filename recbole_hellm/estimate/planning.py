"""The estimate of a run: its sizes, what they cost, which stages are reused, whether it fits."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from recbole_hellm import distributed
from recbole_hellm.config.specs import RunSpec
from recbole_hellm.costs.choose import Change, what_helps
from recbole_hellm.costs.efficiency import Machine, seconds
from recbole_hellm.costs.free_memory import available_bytes, resident_bytes
from recbole_hellm.costs.run import candidates, changed, peak, run_costs
from recbole_hellm.costs.shapes import RunShape
from recbole_hellm.costs.work import StageCost, peaks
from recbole_hellm.estimate.answer import GB, Estimate, StageEstimate
from recbole_hellm.estimate.sizes import run_shape

BASE = 520 * 2**20
"""Bytes of a process that has imported RecBole, torch and transformers, before it reads any data."""


def estimate(config: Any, machine: Machine | None = None, reused: Collection[str] = (), base: int = 0) -> Estimate:
    """Return what a run will take, from its settings and the heads of its files; nothing is loaded or run.

    Args:
        config: Its settings (:class:`~recbole_hellm.config.recbole_config.HellmConfig`). Batch sizes that are ``auto``
            must be numbers by now (:func:`recbole_hellm.estimate.admission.resolve_batches`).
        machine: Its rates (:func:`recbole_hellm.costs.calibration.calibrate`); ``None``: no times.
        reused: Stages whose results are there (:func:`recbole_hellm.estimate.cached.reused_stages`).
        base: Bytes the process has before the run; 0: what it has now.

    Raises:
        HellmError: If a file that decides the sizes is missing or broken.
    """
    names = config["model"], config["dataset"]
    return of_shape(run_shape(config), free_bytes(config), names, machine, reused, base)


def of_shape(
    run: RunShape,
    free: int | None,
    names: tuple[str, str],
    machine: Machine | None = None,
    reused: Collection[str] = (),
    base: int = 0,
) -> Estimate:
    """Return the estimate of a run of known sizes.

    Args:
        run: Its sizes.
        free: Bytes there are, those the process has now included.
        names: Of model and data set.
        machine: Its rates; ``None``: no times.
        reused: Stages whose results are there.
        base: Bytes the process has before the run; 0: what it has now.
    """
    base, costs = max(BASE, base or resident_bytes()), [_without_work(cost, reused) for cost in run_costs(run)]
    stages = tuple(
        _stage(cost, bytes_then, machine, cost.name in reused)
        for cost, bytes_then in zip(costs, peaks(costs, base), strict=True)
    )
    needed = max(stage.memory_bytes for stage in stages)
    taken: tuple[Change, ...] = ()
    helped = needed
    if free is not None and needed > free:

        def need(changes: Sequence[Change]) -> int:
            other = [_without_work(cost, reused) for cost in run_costs(changed(run, changes))]
            return max(peaks(other, base))

        taken, helped = what_helps(candidates(run), need, free)
    threads = machine.threads if machine is not None else 0
    return Estimate(*names, stages, free, tuple(map(str, taken)), helped, threads)


def free_bytes(config: Any) -> int | None:
    """Return the bytes a run may take in all: ``memory_limit_gb``, or what is free and what the process has.

    The processes of a run on one machine get equal shares of what is free.
    """
    limit = RunSpec.from_config(config.final_config_dict).memory_limit_gb
    if limit:
        return int(limit * GB)
    free = available_bytes()
    return None if free is None else free // distributed.on_this_machine() + resident_bytes()


def peak_bytes(run: RunShape) -> int:
    """Return the largest memory of a run that reuses no stage."""
    return peak(run, max(BASE, resident_bytes()))


def _without_work(cost: StageCost, reused: Collection[str]) -> StageCost:
    """Return what a reused stage still costs: its result."""
    return StageCost(cost.name, held=cost.held, about=cost.about) if cost.name in reused else cost


def _stage(cost: StageCost, bytes_then: int, machine: Machine | None, reused: bool) -> StageEstimate:
    parts = sorted([*cost.held.items(), *cost.own.items()], key=lambda part: -part[1])
    spent = None if machine is None or cost.work is None else seconds(cost.work, machine)
    return StageEstimate(cost.name, reused, bytes_then, tuple(parts), 0.0 if reused else spent, cost.about)
