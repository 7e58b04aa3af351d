"""A training loop that can be left between two steps and entered again there, bit for bit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch

from recbole_hellm.checkpoints import random_state
from recbole_hellm.checkpoints.parts import Parts, capture_parts, restore_parts
from recbole_hellm.errors import ArtifactError


@dataclass
class Mark:
    """Where a loop stood between two steps."""

    epoch: int
    batch: int
    """Batches of the epoch that are done."""
    step: int
    """Optimiser steps since the beginning."""
    n_losses: int
    """Losses of the batches of this epoch that are done."""
    seconds: float
    """Spent in this epoch."""
    random: Mapping[str, Any]


class StepLoop:
    """Counts steps and notes, between two of them, all that is needed to go on there.

    Use::

        for epoch in range(loop.epoch, epochs):
            loop.begin_epoch(epoch)
            batches = ...                          # their order is drawn after begin_epoch
            for index, batch in loop.batches(batches):
                ...                                # forward, backward, optimizer.step()
                loop.add(loss.item())

    A batch order that is drawn anew on re-entry comes out the same, because the generators stand where they stood at
    the beginning of the epoch; the batches that are done are then passed over.

    Args:
        parts: Gives what a step changes; asked when needed, so that parts may be made late.
        between: Called between two steps, after the place was noted, and before the first step of an epoch.
    """

    def __init__(self, parts: Callable[[], Parts], between: Callable[[], None] = lambda: None) -> None:
        self.parts, self.between = parts, between
        self.epoch = self.batch = self.step = 0
        self.place = 0
        """Place of the running batch in its epoch, from 0."""
        self.losses: list[Any] = []
        self.dirty = False
        """Whether a parameter was changed since the last mark."""
        self.mark: Mark | None = None
        self._start: Mapping[str, Any] | None = None
        self._resumed: Mapping[str, Any] | None = None
        self._entered, self._before = time.perf_counter(), 0.0
        self._stepped = 0

    def watch(self, optimizer: torch.optim.Optimizer) -> Callable[[], None]:
        """Count the steps of an optimiser; returns what ends it."""
        hooks = [optimizer.register_step_pre_hook(self._will_step), optimizer.register_step_post_hook(self._did_step)]

        def end() -> None:
            for hook in hooks:
                hook.remove()

        return end

    def _will_step(self, *_: Any) -> None:
        self.dirty = True

    def _did_step(self, *_: Any) -> None:
        self._stepped += 1

    def begin_epoch(self, epoch: int) -> None:
        """Start an epoch, or enter again the one that was left."""
        generators = self.parts().generators
        if self._resumed is not None and epoch == self.epoch:
            random_state.restore(self._resumed["start"], generators)
            self._start = self._resumed["start"]
        else:
            self.epoch, self.batch, self.losses, self._before = epoch, 0, [], 0.0
            self._start = random_state.capture(generators)
        self._entered = time.perf_counter()

    def batches(self, items: Iterable[Any]) -> Iterator[tuple[int, Any]]:
        """Yield the batches that are left with their place in the epoch."""
        self._stepped, done = 0, 0
        if self._resumed is None:
            self._note(0)
        elif self.batch == 0:
            self._enter()
        left = iter(items)
        if self._resumed is not None:
            # Drawn and passed over: what draws them (order, negatives, workers) then stands where it stood.
            done = sum(1 for _ in islice(left, self.batch))
            if done != self.batch:
                raise ArtifactError(f"the saved training had done {self.batch} batches of an epoch that has {done}")
            self._enter()  # before the next batch is drawn, as the place was noted before it
        for index, item in enumerate(left, start=done):
            self.place = index
            yield index, item
            if self._stepped:
                self._note(index + 1)

    def add(self, loss: Any) -> None:
        """Note the loss of a batch: a number or a tuple of numbers."""
        self.losses.append(loss)

    @property
    def seconds(self) -> float:
        """Seconds spent in the running epoch, those before it was left included."""
        return self._before + time.perf_counter() - self._entered

    def _note(self, batch: int) -> None:
        self.step += self._stepped
        self._stepped = 0
        self.batch = batch
        self._mark()
        self.between()

    def _mark(self) -> None:
        random = random_state.capture(self.parts().generators)
        self.mark = Mark(self.epoch, self.batch, self.step, len(self.losses), self.seconds, random)
        self.dirty = False

    def mark_again(self) -> None:
        """Note the generators anew, after something between two steps has used them."""
        self._mark()

    def _enter(self) -> None:
        """Put back what an interrupted run had at this place."""
        assert self._resumed is not None
        state, self._resumed = self._resumed, None
        restore_parts(self.parts(), state["parts"])
        random_state.restore(state["now"], self.parts().generators)
        self._stepped = 0
        self._mark()
        self.between()

    def state(self) -> dict[str, Any]:
        """Return the last mark and all parts as they are now, to be packed.

        Raises:
            ArtifactError: If nothing was noted yet, a parameter was changed since, or one is NaN or infinite.
        """
        if self.mark is None or self.dirty:
            raise ArtifactError("the training is in the middle of a step: it can only be saved between two")
        mark = self.mark
        return {
            "epoch": mark.epoch,
            "batch": mark.batch,
            "step": mark.step,
            "losses": self.losses[: mark.n_losses],
            "seconds": mark.seconds,
            "start": self._start,
            "now": mark.random,
            "parts": capture_parts(self.parts()),
        }

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state`` was noted: with its epoch, after its batches."""
        self.epoch, self.batch, self.step = state["epoch"], state["batch"], state["step"]
        self.losses, self._before, self._resumed = list(state["losses"]), float(state["seconds"]), state
