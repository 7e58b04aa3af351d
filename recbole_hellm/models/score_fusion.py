"""The language model's scores summed with what counts and features say of a history; without RecBole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from logging import getLogger
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from recbole_hellm.models.transitions import Transitions
from recbole_hellm.nn.best import n_best, sorted_ids
from recbole_hellm.nn.history_scores import add_neighbours, add_repeats, add_sparse, profiles, unit_rows
from recbole_hellm.nn.weight_search import Candidates, choose_weights

logger = getLogger(__name__)
NEAREST = 200
"""Best items of each part that compete with a target when weights are chosen."""
CELLS = 2**21
"""Scores of one part held at a time when weights are chosen."""
LLM_MEAN = "llm mean"
"""Name of the part with each item's mean logit."""
SIGNED = ("repeat", LLM_MEAN)
"""Parts that may have a negative weight."""
Case = tuple[Tensor | None, Tensor, Tensor]
"""Logits ``[B, I]`` (``None`` without the part ``llm``), histories ``[B, L]``, targets ``[B]``."""


class ScoreFusion(nn.Module):
    """``score = sum over parts of weight * part``; the weights are chosen on validation, nothing is trained.

    Parts, each ``[B, I]``: ``llm``, the language model's logits (its log-probabilities but for a constant of the
    history, which changes no ranking); ``transitions``, the counts of :class:`Transitions`; ``neighbours <modality>``,
    the mean cosine with the items of the history, newer ones counting more; ``graph``, the same by the item vectors of
    stage 1; ``repeat``, 1 for items of the history; after :meth:`add_llm_mean` also ``llm mean``, each item's mean
    logit over histories: with a weight against that of ``llm``, the logits are relative to it.

    A checkpoint holds the weights, what they were worth, and the vectors (float16, which scoring uses from the start,
    so that it scores as before to the bit). The counts follow from the training data.

    Args:
        names: Parts, of ``llm``, ``transitions``, ``neighbours``, ``graph``, ``repeat``.
        modalities: Item features, each a part of its own in the place of ``neighbours``.
        transitions: Fitted counts; needed for ``transitions``.
        n_items: I, the padding item 0 included.
        decay: Weight of a history item, per item newer than it, in ``neighbours``.

    Attributes:
        parts: The parts in order.
        modalities: Item features that have a part.
        cosines: The parts that are mean cosines with the history.
        weights: By part, shape ``[F]``; ``given`` until they are chosen.
        given: Weights until others are chosen: the first part alone unless :meth:`start_from` says otherwise.
        worth: Validation cases the weights were chosen on, NDCG with the given weights, and with those chosen.
    """

    weights: Tensor
    worth: Tensor
    llm_mean: Tensor

    def __init__(
        self,
        names: Sequence[str],
        modalities: Sequence[str],
        transitions: Transitions | None,
        n_items: int,
        decay: float,
    ) -> None:
        super().__init__()
        self.modalities = tuple(modalities) if "neighbours" in names else ()
        kinds = {
            "llm": ["llm"],
            "transitions": ["transitions"],
            "neighbours": [f"neighbours {name}" for name in self.modalities],
            "graph": ["graph"],
            "repeat": ["repeat"],
        }
        self.parts = tuple(part for kind, parts in kinds.items() if kind in names for part in parts)
        self.cosines = tuple(part for part in self.parts if part in {*kinds["neighbours"], "graph"})
        self.transitions, self.n_items, self.decay = transitions, n_items, decay
        self.given = (1.0, *[0.0] * (len(self.parts) - 1))
        self.register_buffer("weights", torch.tensor(self.given))
        self.register_buffer("worth", torch.zeros(3))
        for index in range(len(self.cosines)):
            self.register_buffer(f"vectors_{index}", torch.zeros(n_items, 0, dtype=torch.float16))
            # The processor multiplies float32, and converting every batch would take longer than the product.
            self.register_buffer(f"rows_{index}", torch.zeros(n_items, 0), persistent=False)

    def add_llm_mean(self) -> None:
        """Add the part ``llm mean``; its scores, :attr:`llm_mean` ``[I]``, are the caller's to set."""
        self.parts, self.given = (*self.parts, LLM_MEAN), (*self.given, 0.0)
        self.register_buffer("weights", torch.tensor(self.given))
        self.register_buffer("llm_mean", torch.zeros(self.n_items))

    def attach(self, features: Mapping[str, Tensor], graph: Tensor | None = None) -> None:
        """Take the vectors ``[I, D]`` of the items; rows of zeros have no part in it.

        Args:
            features: By modality.
            graph: Of stage 1, for the part ``graph``.
        """
        for index, part in enumerate(self.cosines):
            vectors = graph if part == "graph" else features[part.removeprefix("neighbours ")]
            assert vectors is not None
            self._set(index, unit_rows(vectors).half().to(self.weights.device))

    def _set(self, index: int, vectors: Tensor) -> None:
        setattr(self, f"vectors_{index}", vectors)
        setattr(self, f"rows_{index}", vectors.float())

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        # How wide the vectors are is known from the features, or, where no stage has run, from the checkpoint alone.
        for index in range(len(self.cosines)):
            stored = state_dict.get(f"{prefix}vectors_{index}")
            if stored is not None and stored.size(0) == self.n_items:
                self._set(index, stored.to(self.weights.device, torch.float16, copy=True))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def vectors(self, part: str) -> Tensor:
        """Return the unit vectors of one of the ``cosines``, float32 ``[I, D]``, rounded to float16."""
        rows = getattr(self, f"rows_{self.cosines.index(part)}")
        assert isinstance(rows, Tensor)
        return rows

    def start_from(self, scales: Mapping[str, float]) -> None:
        """Let a model trained beside other parts stand with them, by these factors, until weights are chosen.

        It is also what a choice has to be better than.
        """
        self.given = tuple(1.0 if part == "llm" else scales.get(part, 0.0) for part in self.parts)
        if not float(self.worth[0]):  # nothing was chosen yet, here or by the run this one repeats
            self.weights.copy_(self.weights.new_tensor(self.given))

    @property
    def uses_llm(self) -> bool:
        """Whether the language model has a say at the present weights."""
        return "llm" in self.parts and float(self.weights[0]) != 0

    def used(self) -> dict[str, float]:
        """Return the weights by part."""
        return dict(zip(self.parts, self.weights.tolist(), strict=True))

    def add(self, scores: Tensor, part: str, weight: float, item_seq: Tensor) -> Tensor:
        """Add ``weight`` times a part other than ``llm`` to ``scores`` ``[B, I]``, in place."""
        if part == "repeat":
            return add_repeats(scores, item_seq, weight)
        if part == LLM_MEAN:
            return scores.add_(self.llm_mean, alpha=weight)
        if part == "transitions":
            assert self.transitions is not None
            add_sparse(scores, self.transitions.mix(item_seq, (item_seq > 0).sum(1)), weight)
            if self.transitions.spec.popularity_penalty:
                scores += weight * torch.from_numpy(self.transitions.offset).to(scores.device)
            return scores
        return add_neighbours(scores, item_seq, self.vectors(part), self.decay, weight)

    def forward(self, logits: Tensor | None, item_seq: Tensor) -> Tensor:
        """Return the fused scores ``[B, I]``, made in ``logits`` where there are any; column 0 has ``-inf``.

        Args:
            logits: Of the language model, ``[B, I]``; ``None`` if it has no say.
            item_seq: Histories, shape ``[B, L]``, 0 on padding.
        """
        scores = self._zeros(item_seq) if logits is None else logits
        for part, weight in self.used().items():
            if part == "llm":
                scores *= weight
            elif weight:
                self.add(scores, part, weight, item_seq)
        scores[:, 0] = -torch.inf
        return scores

    def of_items(self, llm: Tensor | None, item_seq: Tensor, items: Tensor) -> Tensor:
        """Return the fused score of one item per row, ``[B]``.

        Args:
            llm: The language model's score of it, ``[B]``; ``None`` if it has no say.
            item_seq: Histories, shape ``[B, L]``.
            items: Item ids, shape ``[B]``.
        """
        scores = self.weights.new_zeros(len(items)) if llm is None else llm * self.weights[0]
        for part, weight in self.used().items():
            if weight and part != "llm":
                scores = scores + weight * self._of_items(part, item_seq, items)
        return scores

    def _of_items(self, part: str, item_seq: Tensor, items: Tensor) -> Tensor:
        if part == "repeat":
            return (item_seq == items.unsqueeze(1)).any(1).float()
        if part == LLM_MEAN:
            return self.llm_mean[items]
        if part == "transitions":
            assert self.transitions is not None
            chosen = items.cpu().numpy().copy()  # scipy refuses an index whose memory is torch's
            mixed = self.transitions.mix(item_seq, (item_seq > 0).sum(1))[np.arange(len(chosen)), chosen]
            return torch.from_numpy(np.asarray(mixed).ravel() + self.transitions.offset[chosen]).to(items.device)
        rows = self.vectors(part)
        return (profiles(item_seq, rows, self.decay) * rows[items]).sum(1)

    def _zeros(self, item_seq: Tensor) -> Tensor:
        return torch.zeros(len(item_seq), self.n_items, device=item_seq.device)

    def choose(self, cases: Iterable[Case], k: int) -> None:
        """Choose the weights for the NDCG@k of targets that no part was fitted on.

        Args:
            cases: Logits, histories and targets, by batch; histories of one width.
            k: Length of the list.
        """
        rows = max(1, CELLS // self.n_items)
        margins, real = [], []
        for logits, item_seq, targets in cases:
            for some in torch.arange(len(targets), device=targets.device).split(rows):
                part = self._margins(None if logits is None else logits[some], item_seq[some], targets[some])
                margins.append(part[0])
                real.append(part[1])
        if not margins:
            return
        width = max(block.size(1) for block in real)
        candidates = Candidates(
            torch.cat([nn.functional.pad(block, (0, width - block.size(2))) for block in margins], dim=1),
            torch.cat([nn.functional.pad(block, (0, width - block.size(1))) for block in real]),
        )
        choice = choose_weights(candidates, k, [part in SIGNED for part in self.parts], self.given)
        self.weights.copy_(self.weights.new_tensor(choice.weights))
        self.worth.copy_(self.worth.new_tensor([len(candidates.real), choice.before, choice.fused]))
        logger.info("fusion: %s", self.in_words(k))

    def _margins(self, logits: Tensor | None, item_seq: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return what :class:`Candidates` holds, of the items that are among the best of a part or in the history."""
        said, ids = [], [item_seq]
        for part in self.parts:
            scores = logits if part == "llm" else self.add(self._zeros(item_seq), part, 1.0, item_seq)
            assert scores is not None
            said.append(scores)
            if part == LLM_MEAN:
                scores = said[0] - scores  # what rises when it gets a negative weight
            if part != "repeat":
                ids.append(n_best(scores[:, 1:], NEAREST) + 1)
        items = sorted_ids(torch.cat(ids, dim=1))
        twice = nn.functional.pad(items[:, 1:] == items[:, :-1], (1, 0))
        items = sorted_ids(items.masked_fill(twice | (items == targets.unsqueeze(1)), 0))
        items = items[:, (items > 0).any(0)]  # (b, C)
        found = torch.stack([scores.gather(1, items) - scores.gather(1, targets.unsqueeze(1)) for scores in said])
        real = items > 0
        return torch.where(real, found, 0.0), real

    def in_words(self, k: int) -> str:
        """Return the weights by part, and what they are worth on the validation cases they were chosen on."""
        n_cases, before, fused = self.worth.tolist()
        first = f"{self.parts[0]} alone" if not any(self.given[1:]) else "the weights of training"
        weights = ", ".join(f"{part} {weight:.3g}" for part, weight in self.used().items())
        if not n_cases:
            return f"{weights} (nothing was validated, so no weights are chosen)"
        gain = "" if fused > before else "; no sure gain, so they stay"
        return (
            f"{weights}; NDCG@{k} of {int(n_cases)} validation histories {before:.4f} -> {fused:.4f} "
            f"against {first}{gain}"
        )
