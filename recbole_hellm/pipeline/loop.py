"""The training loop of a stage: kept between steps, stopped by a signal, continued where it was left, bit for bit."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tqdm import tqdm

from recbole_hellm import signals
from recbole_hellm.checkpoints.folders import read_manifest, write_folder
from recbole_hellm.checkpoints.migration import FORMAT, migrated
from recbole_hellm.checkpoints.model_folder import read_packed, write_packed
from recbole_hellm.checkpoints.parts import Parts, check_finite
from recbole_hellm.checkpoints.steps import StepLoop
from recbole_hellm.config.every import Every
from recbole_hellm.errors import ArtifactError, HellmError

logger = getLogger(__name__)
STATE = "training"
"""Stem of the files with the state of a training."""


@dataclass
class Unfinished:
    """Where the training of a stage is kept until the stage is finished, and how often.

    Attributes:
        folder: Of this stage under this key.
        key: The stage's key: what is kept belongs to it alone.
        resume: Whether to go on from what is kept.
        every: How often it is kept.
        seconds: Spent on it before it was interrupted; set when it is continued.
    """

    folder: Path
    key: str
    resume: bool = False
    every: Every = Every(0, "auto")
    seconds: float = 0.0

    def clear(self) -> None:
        """Delete what is kept: the stage is finished, or begins anew."""
        shutil.rmtree(self.folder, ignore_errors=True)


class StageLoop:
    """Epochs and batches of a stage's training.

    Use::

        with StageLoop("graph", context.unfinished, lambda: Parts(...)) as loop:
            for _ in loop.epochs(60, context.show_progress):
                for rows in loop.batches(order.split(2048)):  # the order is drawn inside the epoch
                    ...  # forward, backward, optimizer.step()
                    loop.add(loss.item(), len(rows))
        loop.losses  # by epoch

    Args:
        stage: Name, for logs and errors.
        unfinished: Where the training is kept; ``None``: nowhere.
        parts: Gives what a step changes.
    """

    def __init__(self, stage: str, unfinished: Unfinished | None, parts: Callable[[], Parts]) -> None:
        self.stage, self.unfinished = stage, unfinished
        self.losses: list[float] = []
        """Mean loss of every finished epoch."""
        self._loop = StepLoop(parts, self._between)
        self._saved_at: tuple[int, int, float] = (0, 0, time.monotonic())
        self._started = time.perf_counter()
        self._ends: list[Callable[[], None]] = []

    def __enter__(self) -> Self:
        kept = self.unfinished
        if kept is not None and kept.resume and kept.folder.is_dir():
            self._resume(kept)
        elif kept is not None:
            kept.clear()
        self._ends = [self._loop.watch(optimizer) for optimizer in self._loop.parts().optimizers.values()]
        self._deferred = signals.deferred(lambda: not self._loop.dirty)
        self._deferred.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        try:
            if isinstance(error, signals.Stopped):
                error.kept = self._keep_at_stop()
        finally:
            self._deferred.__exit__(None, None, None)
            for end in self._ends:
                end()

    def epochs(self, count: int, show_progress: bool = False) -> Iterator[int]:
        """Yield the epochs that are left, from 0."""
        first = self._loop.epoch
        bar = tqdm(total=count, initial=first, desc=f"stage {self.stage}", disable=not show_progress)
        with bar:
            for epoch in range(first, count):
                self._loop.begin_epoch(epoch)
                yield epoch
                total = 0.0
                for loss, _ in self._loop.losses:
                    total += loss
                self.losses.append(total / sum(rows for _, rows in self._loop.losses))
                bar.update()
                bar.set_postfix_str(f"loss {self.losses[-1]:.4f}")

    def batches(self, items: Iterable[Any]) -> Iterator[Any]:
        """Yield the batches of the epoch that are left."""
        return (item for _, item in self._loop.batches(items))

    def add(self, loss: float, rows: int) -> None:
        """Note the mean loss of a batch of some rows.

        Raises:
            HellmError: If it is NaN or infinite.
        """
        if not math.isfinite(loss):
            where = f"batch {self._loop.place + 1} of epoch {self._loop.epoch + 1} (step {self._loop.step + 1})"
            raise HellmError(
                f"stage {self.stage!r}: loss is {loss} at {where}; {self._kept()}; lower its learning rate "
                "(pretrain_learning_rate, sequence_learning_rate)"
            )
        self._loop.add((loss * rows, rows))

    def _kept(self) -> str:
        there = self.unfinished is not None and self.unfinished.folder.is_dir()
        return f"the last good state is {self.unfinished.folder}" if there and self.unfinished else "no state was saved"

    def _between(self) -> None:
        loop, kept = self._loop, self.unfinished
        done = loop.epoch if loop.batch == 0 else None
        step, epochs, since = self._saved_at
        again = loop.step == step and (done is None or done == epochs)
        if kept is not None and not again and kept.every.due(loop.step, done, time.monotonic() - since):
            self._save(kept)
        signals.check()

    def _save(self, kept: Unfinished) -> None:
        broken = check_finite(self._loop.parts())
        if broken is not None:
            raise HellmError(f"stage {self.stage!r}: {broken} became NaN or infinite; {self._kept()}; lower its rate")
        spent = kept.seconds + time.perf_counter() - self._started
        state = {"loop": self._loop.state(), "losses": self.losses, "seconds": spent}
        about = {"format": FORMAT, "key": kept.key, "about": {}}
        write_folder(kept.folder, about, lambda scratch: write_packed(scratch, STATE, state),
                     "free space there, or set stage_cache_dir to a folder that can be written to")  # fmt: skip
        self._saved_at = (self._loop.step, self._loop.epoch, time.monotonic())

    def _keep_at_stop(self) -> str:
        kept, loop = self.unfinished, self._loop
        if kept is None or loop.mark is None or loop.dirty:
            return ""
        self._save(kept)
        return f"stage {self.stage!r}, epoch {loop.epoch + 1}, step {loop.step} is kept in {kept.folder}"

    def _resume(self, kept: Unfinished) -> None:
        manifest = migrated(kept.folder, read_manifest(kept.folder))
        if manifest.get("key") != kept.key:
            raise ArtifactError(f"{kept.folder} belongs to another stage or other data; delete it and run again")
        state = read_packed(kept.folder, STATE)
        self.losses, kept.seconds = list(state["losses"]), float(state["seconds"])
        self._loop.resume(state["loop"])
        self._saved_at = (self._loop.step, self._loop.epoch, time.monotonic())
        logger.info("stage %s: going on after step %d (epoch %d)", self.stage, self._loop.step, self._loop.epoch + 1)
