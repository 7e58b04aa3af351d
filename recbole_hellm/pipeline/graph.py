"""Stage ``graph``: trains the hypergraph encoder and hands on its user and item vectors."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from logging import getLogger
from typing import Any, Self

import torch
from recbole.sampler import Sampler
from torch import Tensor

from recbole_hellm.checkpoints.parts import Parts
from recbole_hellm.config.specs import FeatureSpec, GraphSpec, PretrainSpec
from recbole_hellm.errors import DataError
from recbole_hellm.hypergraph.encoder import EncoderOutput, HypergraphEncoder
from recbole_hellm.models.mmhcl_core import MMHCLLoss, build_encoder
from recbole_hellm.pipeline.base import Results, StageContext
from recbole_hellm.pipeline.loop import StageLoop
from recbole_hellm.views import TrainView

logger = getLogger(__name__)


class GraphStage:
    """Train MMHCL (https://arxiv.org/abs/2504.16576) for a fixed number of epochs on training interactions only.

    Args:
        graph: Graphs, encoder and loss.
        pretrain: Epochs, batch size, learning rate.
        modalities: Item features that make up the item hypergraph; none: there is no item hypergraph.
        seed: Seed of tables, order and negatives.
    """

    name = "graph"
    version = 2

    def __init__(self, graph: GraphSpec, pretrain: PretrainSpec, modalities: tuple[str, ...], seed: int) -> None:
        self.graph, self.pretrain, self.seed = graph, pretrain, seed
        self.modalities = modalities if graph.item_hypergraph else ()
        self.needs: tuple[str, ...] = ("features",) if self.modalities else ()

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Build the stage from flat settings."""
        names = tuple(entry.partition("=")[0] for entry in FeatureSpec.from_config(settings).item_features)
        graph, pretrain = GraphSpec.from_config(settings), PretrainSpec.from_config(settings)
        return cls(graph, pretrain, names, int(settings["seed"]))

    def settings(self) -> Mapping[str, Any]:
        """Return every setting that decides the result (the backend does not: both give the same)."""
        graph = {name: value for name, value in asdict(self.graph).items() if name != "backend"}
        return {**graph, **{f"train_{k}": v for k, v in asdict(self.pretrain).items()},
                "modalities": list(self.modalities), "seed": self.seed}  # fmt: skip

    def inputs(self, context: StageContext) -> Mapping[str, Any]:
        """Return nothing: features come from their own stage."""
        return {}

    def run(self, context: StageContext, earlier: Results) -> Mapping[str, Tensor]:
        """Return ``user`` ``[n_users, D]``, ``item`` ``[n_items, D]`` (row 0 zero) and ``loss`` per epoch."""
        train = context.train
        if not self.modalities:
            left = "the user hypergraph stands alone" if self.graph.user_hypergraph else "interactions alone decide"
            logger.info("stage graph: no item hypergraph (graph_item_hypergraph and item_features), %s", left)
        features = [(earlier["features"][m], earlier["features"][f"{m}.present"]) for m in self.modalities]
        logger.info("stage graph: building the hypergraphs of %d interactions", len(train.user))
        encoder = build_encoder(
            self.graph, train.user, train.item, train.n_users, train.n_items, features, context.show_progress
        )
        losses = self._train(encoder, train, context)
        logger.info("stage graph: loss %.4f -> %.4f", losses[0], losses[-1])
        with torch.no_grad():
            out = encoder()
        padding = torch.zeros(1, out.item.size(1))
        return {"user": torch.cat([padding, out.user[1:]]), "item": torch.cat([padding, out.item[1:]]),
                "loss": torch.tensor(losses)}  # fmt: skip

    def _train(self, encoder: HypergraphEncoder, train: TrainView, context: StageContext) -> list[float]:
        """Train the encoder; return the mean loss of every epoch."""
        spec, loss_of = self.pretrain, MMHCLLoss(self.graph)
        optimizer = torch.optim.Adam(encoder.parameters(), lr=spec.learning_rate, fused=True)
        n_batches = math.ceil(len(train.user) / spec.batch_size)
        shared = math.ceil(n_batches / spec.max_steps)  # batches of a step
        n_steps = spec.epochs * math.ceil(n_batches / shared)
        decay = torch.optim.lr_scheduler.LambdaLR(optimizer, learning_rate_factor(spec.schedule, spec.epochs, n_steps))
        sampler = negative_sampler(train) if self.graph.loss == "bpr" else None
        generator = torch.Generator().manual_seed(self.seed)
        parts = Parts({"encoder": encoder}, {"adam": optimizer}, {"decay": decay}, {"order": generator})
        with StageLoop(self.name, context.unfinished, lambda: parts) as loop:
            for _ in loop.epochs(spec.epochs, context.show_progress):
                batches = torch.randperm(len(train.user), generator=generator).split(spec.batch_size)
                for step in loop.batches(batches[at : at + shared] for at in range(0, n_batches, shared)):
                    optimizer.zero_grad()
                    total, n_rows = step_loss(encoder, loss_of, train, step, sampler), sum(len(rows) for rows in step)
                    optimizer.step()
                    decay.step()
                    loop.add(total / n_rows, n_rows)
        return loop.losses


def step_loss(
    encoder: HypergraphEncoder, loss_of: MMHCLLoss, train: TrainView, batches: Sequence[Tensor], sampler: Any
) -> float:
    """Put the gradient of the mean loss of some batches on the encoder, which propagates once for all of them.

    Args:
        encoder: Propagates over the whole graph, whatever the size of a batch.
        loss_of: Loss of a batch, given the vectors of all nodes.
        train: The interactions.
        batches: Rows of ``train`` by batch.
        sampler: RecBole's sampler of negatives, or ``None`` for a loss without.

    Returns:
        The sum of the batches' losses, each times its rows.
    """
    out, total = encoder(), 0.0
    # The loss of a batch needs the vectors alone: its gradient waits on them, one backward pass serves all batches.
    leaves = out if len(batches) == 1 else _detached(out)
    n_rows = sum(len(rows) for rows in batches)
    for rows in batches:
        users, items = train.user[rows], train.item[rows]
        negative = sampler.sample_by_user_ids(users.numpy(), items.numpy(), 1) if sampler else None
        loss = loss_of(leaves, users, items, negative)
        (loss * (len(rows) / n_rows) if len(batches) > 1 else loss).backward()
        total += loss.item() * len(rows)
    if len(batches) > 1:
        reached = [(part, leaf.grad) for part, leaf in zip(out, leaves, strict=True) if leaf is not None]
        reached = [(part, gradient) for part, gradient in reached if gradient is not None]
        torch.autograd.backward([part for part, _ in reached], [gradient for _, gradient in reached])
    return total


def _detached(out: EncoderOutput) -> EncoderOutput:
    """Return the vectors as leaves that collect gradients."""
    user, item = out.user.detach().requires_grad_(), out.item.detach().requires_grad_()
    user_hyper = None if out.user_hyper is None else out.user_hyper.detach().requires_grad_()
    item_hyper = None if out.item_hyper is None else out.item_hyper.detach().requires_grad_()
    return EncoderOutput(user, item, user_hyper, item_hyper)


def learning_rate_factor(schedule: str, epochs: int, n_steps: int) -> Callable[[int], float]:
    """Return the factor of the learning rate by step.

    Args:
        schedule: ``"cosine"``: from 1 to 0 over all steps; ``"exponential"``: 0.96 every 50 epochs.
        epochs: Epochs of the training.
        n_steps: Steps of the training.
    """
    if schedule == "cosine":
        return lambda step: 0.5 * (1 + math.cos(math.pi * min(1.0, step / n_steps)))
    return lambda step: 0.96 ** ((step * epochs // n_steps) / 50)


class _SamplerData:
    """What RecBole's negative sampler reads of a data set, from training interactions alone."""

    def __init__(self, train: TrainView) -> None:
        self.uid_field, self.iid_field = "user_id", "item_id"
        self.user_num, self.item_num = train.n_users, train.n_items
        self.inter_feat = {"user_id": train.user, "item_id": train.item}


def negative_sampler(train: TrainView) -> Any:
    """Return RecBole's uniform negative sampler, which never gives a user an item of their training history.

    Raises:
        DataError: If a user took every item.
    """
    try:
        return Sampler(["train"], [_SamplerData(train)], "uniform").set_phase("train")
    except ValueError as error:
        raise DataError(f"no item is left to sample as a negative: {error}") from error
