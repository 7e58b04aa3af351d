"""RecBole's ``Trainer`` with the model's stages in front of it, and the trainer of HeLLM's second stage."""

from __future__ import annotations

import math
from collections.abc import Iterator
from logging import getLogger
from pathlib import Path
from typing import Any

import torch
from recbole.trainer import Trainer
from torch.nn.utils import clip_grad_norm_
from tqdm import tqdm

from recbole_hellm import distributed, signals
from recbole_hellm.artifacts import ArtifactStore
from recbole_hellm.config.specs import FinetuneSpec, RunSpec
from recbole_hellm.errors import ConfigError
from recbole_hellm.nn.batching import length_batches
from recbole_hellm.pipeline.base import StageContext, StageRecord, order_stages, run_stages
from recbole_hellm.trainer.epochs import EpochsMixin
from recbole_hellm.trainer.evaluation import EvaluationMixin
from recbole_hellm.trainer.memory import MemoryMixin
from recbole_hellm.trainer.ranks import RanksMixin
from recbole_hellm.trainer.resume import ResumeMixin
from recbole_hellm.trainer.saving import SavingMixin
from recbole_hellm.views import train_view

logger = getLogger(__name__)


class RankingMixin:
    """Goes right in front of RecBole's trainer, behind what loads a model: inside the loop over users none changes."""

    model: Any

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate as RecBole does, with what all users share made once."""
        with self.model.ranking():
            return super().evaluate(*args, **kwargs)  # type: ignore[misc]


class StagedTrainer(
    RanksMixin, MemoryMixin, EvaluationMixin, ResumeMixin, EpochsMixin, SavingMixin, RankingMixin, Trainer
):
    """Run the stages the model needs, hand it their results, then train as RecBole does.

    Attributes:
        stage_records: What happened to each stage.
    """

    def __init__(self, config: Any, model: Any) -> None:
        super().__init__(config, model)
        self.stage_records: list[StageRecord] = []
        self._attached = False

    def run_stages(self, train_data: Any) -> list[StageRecord]:
        """Run or reuse the stages and hand their results to the model, once."""
        if self._attached:
            return self.stage_records
        settings = self.config.final_config_dict
        run = RunSpec.from_config(settings)
        folder = Path(settings["data_path"])
        show = bool(settings["show_progress"])
        context = StageContext(
            train_view(train_data._dataset),
            folder / f"{settings['dataset']}.item",
            folder / "features",
            show,
            resume=run.resume != "no",
            save_every=run.save_every,
        )
        stages = order_stages(self.model.needs, settings)
        store = ArtifactStore(Path(run.stage_cache_dir))
        with distributed.main_first():  # makes them; the others read them
            results, self.stage_records = run_stages(stages, context, store, may_run=run.train_stage != "finetune")
        self.model.attach(results)
        self.optimizer = self._build_optimizer()  # a model may have got its parameters only now
        self._attached = True
        # A stage counts with what it cost when it ran: a warm cache must not buy training time.
        self.seconds_before = sum(record.computed_seconds for record in self.stage_records)
        return self.stage_records

    def fit(self, train_data: Any, *args: Any, **kwargs: Any) -> Any:
        """Run the stages, then train; same arguments and result as RecBole's."""
        self.run_stages(train_data)
        self.model.before_training()
        for line in self.model.departures():
            logger.info("departs from the paper: %s", line)
        return super().fit(train_data, *args, **kwargs)

    def _valid_epoch(self, valid_data: Any, *args: Any, **kwargs: Any) -> Any:
        with signals.at_once():  # what it chooses, the continued run chooses again
            self.model.before_validation(valid_data)
        return super()._valid_epoch(valid_data, *args, **kwargs)

    def _build_optimizer(self, **kwargs: Any) -> Any:
        # A model whose parameters depend on the stages (graphs) has none before they ran.
        return super()._build_optimizer(**kwargs) if any(True for _ in self.model.parameters()) else None


class FinetuneTrainer(StagedTrainer):
    """AdamW over the trained parameters, warm-up and cosine by step, batches of equal length, accumulation.

    Source: HeLLM (arXiv 2504.10541): betas .9 / .95, one warm-up epoch, cosine to 5e-6.
    """

    steps_are_named = splits_batches = True

    def __init__(self, config: Any, model: Any) -> None:
        self.tune = FinetuneSpec.from_config(config.final_config_dict)
        super().__init__(config, model)
        self._generator = torch.Generator().manual_seed(int(config["seed"]))
        self._scheduler: torch.optim.lr_scheduler.LambdaLR | None = None

    def _build_optimizer(self, **kwargs: Any) -> torch.optim.Optimizer:
        if self.learner.lower() not in ("adam", "adamw"):  # RecBole's default is adam
            raise ConfigError(f"setting 'learner' must be adamw for this model, got {self.learner!r}")
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        groups = [
            {"params": [p for p in trained if p.dim() > 1], "weight_decay": self.weight_decay},
            {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=self.learning_rate, betas=(0.9, self.tune.beta2), fused=True)

    def _train_epoch(
        self, train_data: Any, epoch_idx: int, loss_func: Any = None, show_progress: bool = False
    ) -> float:
        if not self.model.learns:
            for _ in self.batches_left(()):  # a place to go on from all the same
                pass
            return 0.0
        self.model.train()
        batches = TrainBatches(train_data, self.tune.targets == "all", self._generator)
        steps = math.ceil(len(batches) / self.tune.accumulation_steps)
        if self._scheduler is None:
            self._scheduler = self._schedule(steps)
        bar = tqdm(batches, total=len(batches), desc=f"epoch {epoch_idx}", ncols=100, disable=not show_progress)
        parts = self.tune.accumulation_steps
        for index, interaction in self.batches_left(bar):
            if index % parts == 0:
                self.optimizer.zero_grad()
            self.note(self.backward(interaction.to(self.device), parts))
            if (index + 1) % parts == 0 or index + 1 == len(batches):
                self.sum_gradients()
                if self.clip_grad_norm:
                    clip_grad_norm_(self.model.parameters(), **self.clip_grad_norm)
                self.optimizer.step()
                self._scheduler.step()
        self.model.after_epoch()
        return self.mean_loss()

    def _schedule(self, steps: int) -> torch.optim.lr_scheduler.LambdaLR:
        """Linear warm-up, then a cosine down to the final rate at the last step of the last epoch, or, if that comes
        first, at the end of the training time.
        """  # noqa: D205
        warmup, total = self.tune.warmup_epochs * steps, max(1, (self.planned_epochs or self.epochs) * steps)
        floor = min(1.0, self.tune.min_learning_rate / self.learning_rate)

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / (warmup + 1)
            done = max((step - warmup) / max(1.0, total - warmup), self.time_share or 0.0)
            return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

        return torch.optim.lr_scheduler.LambdaLR(self.optimizer, factor)


class TrainBatches:
    """Batches of RecBole's training rows of about equal history length, collated by RecBole's own loader.

    Args:
        train_data: RecBole's training loader (its negative sampling is kept).
        longest_only: Keep only the rows whose histories, taken together, hold every training item of a user once.
        generator: Source of the order.
    """

    def __init__(self, train_data: Any, longest_only: bool, generator: torch.Generator) -> None:
        self.train_data = train_data
        dataset = train_data._dataset
        lengths = dataset.inter_feat[dataset.item_list_length_field]
        rows = torch.arange(len(lengths))
        if longest_only:
            rows = covering_rows(dataset.inter_feat[dataset.uid_field], lengths)
        self.batches = [rows[index] for index in length_batches(lengths[rows], train_data.step, generator)]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        for rows in self.batches:
            yield self.train_data.collate_fn(rows.numpy())


def covering_rows(users: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Choose augmented rows so that every target of a user is covered by one of them.

    Row k of a user holds the items before its target, the last ``max_len`` at most. A row covers its own target and all
    items of its history but the first, so from the last row back every ``lengths[row]``-th row is enough.

    Args:
        users: User of each row, shape ``[N]``, rows of a user in time order.
        lengths: History length of each row, shape ``[N]``.

    Returns:
        Row indices, ascending.
    """
    order = torch.argsort(users, stable=True)
    counts = torch.bincount(users)
    last = torch.cumsum(counts, 0) - 1  # place of each user's last row in ``order``
    owner = users[order]
    from_end = last[owner] - torch.arange(len(order), device=order.device)
    # The last row of a user is their longest; those before it are as long as far as they are needed.
    reach = lengths[order][last.clamp(min=0)][owner]
    return order[from_end % reach == 0].sort().values
