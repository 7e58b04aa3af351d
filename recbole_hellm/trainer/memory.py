"""Ranks and trains in parts what does not fit into memory, with equal results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from recbole_hellm.config.specs import RunSpec
from recbole_hellm.distributed import even_rows, own_rows
from recbole_hellm.errors import HellmError
from recbole_hellm.out_of_memory import is_memory_error
from recbole_hellm.results import give_back_memory
from recbole_hellm.trainer.collector import RankCollector
from recbole_hellm.trainer.halving import Halving, free_memory, said

GIVE_BACK = 32
"""Batches after which freed memory is given back to the system."""


class BadLoss(Exception):
    """A loss that is NaN or infinite."""


class MemoryMixin:
    """Goes in front of a RecBole trainer class: batches that do not fit are ranked, or trained on, in parts.

    Ranking rows apart gives every row the scores it has together with others. A step of training adds up the gradients
    of its parts, weighted by their shares of the targets, which is the gradient of the whole batch's mean loss; random
    numbers (dropout) are drawn part by part.

    Attributes:
        ranked: Users ranked at a time.
        trained: Rows trained on at a time.
        in_step: Whether all processes must make the same calls of the language model (``llm_sharded``).
    """

    eval_collector: RankCollector
    in_step: bool = False

    def __init__(self, config: Any, model: Any) -> None:
        super().__init__(config, model)  # type: ignore[call-arg]
        most = RunSpec.from_config(config.final_config_dict).train_rows_at_once
        self.ranked = Halving("evaluation", "eval_batch_size")
        self.trained = Halving("training", "train_rows_at_once", most)
        self._batches = 0

    def _full_sort_batch_eval(self, batched_data: Any) -> Any:
        """Score and collect a batch part by part; RecBole, which would collect what is returned, gets no scores."""
        interaction, history, rows, items = batched_data
        first = own_rows(len(interaction)).start
        own = (even_rows if self.in_step else own_rows)(len(interaction))  # all, where this process is alone

        def work(part: slice) -> None:
            part = slice(own.start + part.start, own.start + part.stop)
            here = _within(rows, part)
            data = (interaction[part], _history_of(history, part), rows[here] - part.start, items[here])
            collector = self.eval_collector
            before, kept = dict(collector.data_struct._data_dict), len(collector.rows)
            twice = max(0, min(first, part.stop) - part.start)  # rows that are another process's
            collector.place = collector.seen + part.start + twice
            try:
                of_part, scores, part_rows, part_items = super(MemoryMixin, self)._full_sort_batch_eval(data)  # type: ignore[misc]
                if twice:
                    of_part, scores, part_rows, part_items = _without(twice, of_part, scores, part_rows, part_items)
                collector.eval_batch_collect(scores, of_part, part_rows, part_items)
            except BaseException:
                # Taken back, since the part is begun again: tables are concatenated, never written into.
                collector.data_struct._data_dict = before
                del collector.rows[kept:]
                raise

        self.ranked.over(own.stop - own.start, work)
        self.eval_collector.seen += len(interaction)
        return interaction, None, rows, items

    def fit(self, *args: Any, **kwargs: Any) -> Any:
        """Train as RecBole does; what does not fit and cannot be halved ends in one line.

        Raises:
            HellmError: If memory does not suffice.
        """
        try:
            return super().fit(*args, **kwargs)  # type: ignore[misc]
        except (MemoryError, RuntimeError) as error:
            if not is_memory_error(error):
                raise
            rows = self.config["train_batch_size"]  # type: ignore[attr-defined]
            raise HellmError(
                f"training: memory does not suffice ({said(error)}); lower setting 'train_batch_size', now {rows}; "
                "'recbole-hellm estimate' tells what a run takes"
            ) from error

    def backward(self, interaction: Any, steps: int = 1) -> float | None:
        """Add the gradient of a batch's mean loss, divided by ``steps``, to the parameters'; return that loss.

        Args:
            interaction: The batch, on the model's device.
            steps: Batches whose gradients make up one step.

        Raises:
            HellmError: If the loss is NaN or infinite and such batches are not to be left out (else ``None`` is
                returned and nothing added), or a single row does not fit.
        """
        try:
            return self.gradients(interaction, steps)[0]
        except BadLoss as bad:
            self._bad(f"training loss is {bad}")  # type: ignore[attr-defined]
            return None

    def gradients(self, interaction: Any, steps: int) -> tuple[float, int]:
        """Add a gradient as :meth:`backward` does; return the mean loss, and of how many targets it is.

        Raises:
            BadLoss: If it is NaN or infinite; nothing is added then.
            HellmError: If a single row does not fit.
        """
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]  # type: ignore[attr-defined]
        # Put aside, so that an attempt that fails half way spoils nothing.
        earlier, random = [parameter.grad for parameter in trained], torch.get_rng_state()
        found = None
        while found is None:
            set_gradients(trained, [None] * len(trained))
            attempted, failed = min(self.trained.most or len(interaction), len(interaction)), None
            try:
                found = self._in_parts(interaction, steps, trained)
            except BadLoss:
                set_gradients(trained, earlier)
                raise
            except (MemoryError, RuntimeError) as error:
                if not is_memory_error(error):
                    raise
                failed = error.with_traceback(None)
            if failed is not None:
                free_memory()
                torch.set_rng_state(random)
                self.trained.halve(attempted, failed)
        self._batches += 1
        if self._batches % GIVE_BACK == 0:
            give_back_memory()
        add_gradients(trained, earlier)
        return found

    def _in_parts(self, interaction: Any, steps: int, trained: list[Any]) -> tuple[float, int]:
        """Fill the gradients, part by part; how many targets a part has is known only after its forward pass."""
        model: Any = self.model  # type: ignore[attr-defined]
        total, targets, parts = 0.0, 0, list(self.trained.parts(len(interaction)))
        for part in parts:
            loss = model.calculate_loss(interaction[part])
            bad = not bool(torch.isfinite(loss))
            if bad and not self.in_step:
                raise BadLoss(loss.item())
            if len(parts) == 1:
                (loss / steps).backward()
                if bad:
                    raise BadLoss(loss.item())
                return float(loss.item()), model.loss_rows(len(interaction))
            here = model.loss_rows(part.stop - part.start)
            (loss * here).backward()
            total, targets = total + float(loss.item()) * here, targets + here
        for parameter in trained:
            if parameter.grad is not None:
                parameter.grad /= targets * steps
        return total / targets, targets


def set_gradients(parameters: Sequence[Any], gradients: Sequence[Tensor | None]) -> None:
    """Give each parameter its gradient, or none."""
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient


def add_gradients(parameters: Sequence[Any], gradients: Sequence[Tensor | None]) -> None:
    """Add gradients, changed in place, to those the parameters have."""
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None:
            parameter.grad = gradient if parameter.grad is None else gradient.add_(parameter.grad)


def _without(count: int, interaction: Any, scores: Any, rows: Tensor, items: Tensor) -> tuple[Any, Any, Tensor, Tensor]:
    """Return a part without its first rows; no scores where no row is left."""
    left = rows >= count
    scores = scores[count:] if count < len(scores) else None
    return interaction[count:], scores, rows[left] - count, items[left]


def _within(rows: Tensor, part: slice) -> Tensor:
    return (rows >= part.start) & (rows < part.stop)


def _history_of(history: Any, part: slice) -> Any:
    if history is None:
        return None
    users, items = history
    here = _within(users, part)
    return users[here] - part.start, items[here]
