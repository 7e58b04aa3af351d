"""What runs before a model's own training, in which order, and when it may be skipped."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from logging import getLogger
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from recbole_hellm import registry, signals
from recbole_hellm.artifacts import ArtifactStore, fingerprint
from recbole_hellm.config.every import Every
from recbole_hellm.errors import ArtifactError, HellmError
from recbole_hellm.pipeline.loop import Unfinished
from recbole_hellm.results import peak_memory_mb, reset_peak_memory
from recbole_hellm.views import TrainView

logger = getLogger(__name__)
Results = Mapping[str, Mapping[str, Tensor]]
UNFINISHED = "unfinished"
"""Folder of trainings that were interrupted, in that of the finished stages."""


@dataclass(frozen=True)
class StageContext:
    """What a stage may read.

    Attributes:
        train: The training interactions.
        item_file: RecBole's ``.item`` file of the data set.
        features_dir: Folder of ready feature arrays.
        show_progress: Whether to draw progress bars.
        resume: Whether an interrupted training of a stage is continued.
        save_every: How often the training of a stage is kept, as the setting ``save_every``.
        unfinished: Where it is kept; set for the stage that runs.
    """

    train: TrainView
    item_file: Path
    features_dir: Path
    show_progress: bool = False
    resume: bool = False
    save_every: str = "auto"
    unfinished: Unfinished | None = None


class Stage(Protocol):
    """One step that turns training data and earlier results into tensors."""

    name: str
    version: int
    """Raise it whenever the same inputs would give other tensors than before."""
    needs: tuple[str, ...]
    """Names of the stages whose results ``run`` reads."""

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Stage:
        """Build the stage from flat settings."""
        ...

    def settings(self) -> Mapping[str, Any]:
        """Return every setting that decides the result, and no other."""
        ...

    def inputs(self, context: StageContext) -> Mapping[str, Any]:
        """Return what identifies the files the stage reads (digests); the training data is added by the caller."""
        ...

    def run(self, context: StageContext, earlier: Results) -> Mapping[str, Tensor]:
        """Return named tensors; must not depend on anything but settings, inputs and the arguments."""
        ...


@dataclass(frozen=True)
class StageRecord:
    """What happened to one stage in a run."""

    name: str
    status: str
    """``ran`` or ``reused``."""
    seconds: float
    computed_seconds: float
    """What the stage took when it ran, be it in an earlier run."""
    peak_memory_mb: float
    path: str
    loss: tuple[float, ...] = ()
    """Training loss by epoch, of a stage that trains."""


def order_stages(names: Sequence[str], settings: Mapping[str, Any]) -> list[Stage]:
    """Return the named stages and all they need, each after what it needs."""
    ordered: dict[str, Stage] = {}

    def visit(name: str) -> None:
        if name not in ordered:
            stage = registry.stages.get(name).from_settings(settings)
            for need in stage.needs:
                visit(need)
            ordered[name] = stage

    for name in names:
        visit(name)
    return list(ordered.values())


def run_stages(
    stages: Sequence[Stage], context: StageContext, store: ArtifactStore, may_run: bool = True
) -> tuple[dict[str, Mapping[str, Tensor]], list[StageRecord]]:
    """Run ``stages`` in order and reuse each result whose inputs did not change.

    Args:
        stages: Each after the ones it needs.
        context: What they may read.
        store: Where finished results lie.
        may_run: ``False`` refuses to run a stage that is missing.

    Returns:
        Tensors by stage, and a record by stage.

    Raises:
        ArtifactError: If a stage is missing and may not run, or a stored result does not fit.
    """
    keys: dict[str, str] = {}
    results: dict[str, Mapping[str, Tensor]] = {}
    records: list[StageRecord] = []
    train = context.train
    for stage in stages:
        started = time.perf_counter()
        reset_peak_memory()
        key = stage_key(stage, context, keys)
        result: Mapping[str, Tensor] | None = store.load(stage.name, key, train.ids)
        status, before = "reused", 0.0
        if result is None:
            if not may_run:
                raise ArtifactError(
                    f"setting 'train_stage' = 'finetune', but stage {stage.name!r} has no finished result for these "
                    f"settings and data in {store.root}; run once with --train_stage=auto or --train_stage=pretrain"
                )
            earlier = {name: results[name] for name in stage.needs}
            result, status, before = _run_alone(stage, key, _about(stage), context, earlier, store)
        keys[stage.name], results[stage.name] = key, result
        path, seconds = str(store.path(stage.name, key)), time.perf_counter() - started
        computed = before + seconds if status == "ran" else store.seconds(stage.name, key)
        loss = tuple(float(value) for value in result.get("loss", ()))
        records.append(StageRecord(stage.name, status, seconds, computed, peak_memory_mb(), path, loss))
        logger.info("stage %s: %s in %.1f s, %s", stage.name, status, records[-1].seconds, path)
    return results, records


def stage_key(stage: Stage, context: StageContext, keys: Mapping[str, str]) -> str:
    """Return the key of a stage's result: a digest of everything that decides it.

    Args:
        stage: The stage.
        context: What it may read.
        keys: Keys of the stages it needs, by name.
    """
    train = context.train
    return fingerprint(
        **_about(stage),
        inputs=dict(stage.inputs(context)),
        earlier=[keys[name] for name in stage.needs],
        user=train.user,
        item=train.item,
        ids=train.ids,
    )


def _about(stage: Stage) -> dict[str, Any]:
    return {"stage": stage.name, "version": stage.version, "settings": dict(stage.settings())}


def _run_alone(
    stage: Stage, key: str, about: Mapping[str, Any], context: StageContext, earlier: Results, store: ArtifactStore
) -> tuple[Mapping[str, Tensor], str, float]:
    """Run a stage while no other run does, and keep its result; where another one had begun before, take its result.

    Returns:
        The result, ``ran`` or ``reused``, and the seconds of an interrupted run that this one continued.
    """
    ids = context.train.ids
    with store.lock(stage.name, key):
        found = store.load(stage.name, key, ids)
        if found is not None:
            return found, "reused", 0.0
        logger.info("stage %s: running", stage.name)
        folder = store.root / UNFINISHED / store.path(stage.name, key).name
        unfinished = Unfinished(folder, key, context.resume, Every.parse("save_every", context.save_every))
        started = time.perf_counter()
        with isolated_random_state(int(stage.settings().get("seed", 0))):
            result = stage.run(replace(context, unfinished=unfinished), earlier)
        _check_finite(stage.name, result)
        seconds = unfinished.seconds + time.perf_counter() - started
        store.save(stage.name, key, ids, result, {**about, "seconds": seconds})
        unfinished.clear()
    signals.check()  # one that came after its last step
    return result, "ran", unfinished.seconds


def _check_finite(stage: str, result: Mapping[str, Tensor]) -> None:
    bad = [name for name, tensor in result.items() if not bool(torch.isfinite(tensor).all())]
    if bad:
        raise HellmError(
            f"stage {stage!r} ended with NaN or infinity in {', '.join(bad)}, so it is not kept; lower its learning "
            "rate (pretrain_learning_rate, sequence_learning_rate)"
        )


@contextmanager
def isolated_random_state(seed: int) -> Iterator[None]:
    """Seed every generator inside, and give back the state before: a reused stage changes nothing after it."""
    python, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy_state)


def as_dict(record: StageRecord) -> dict[str, Any]:
    """Return a record as plain values, for the result file."""
    return asdict(record)
