"""What counts and features say of training histories, so that the language model learns what they leave unsaid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from recbole_hellm.models.transitions import Transitions
from recbole_hellm.nn.batching import spread_evenly
from recbole_hellm.nn.catalogue_loss import Offset
from recbole_hellm.nn.history_scores import profiles
from recbole_hellm.nn.softmax_fit import likely_factors
from recbole_hellm.views import TrainView

RANK = 256
"""Width item features are reduced to: an offset needs no more of a cosine, and its product is made for every target."""
POPULARITY = "popularity"
EXAMPLES = 1024
"""Training histories the scales are fitted on, at most."""
COLUMNS = 2**15
"""Items the scales are fitted on, at most."""


class Residual(nn.Module):
    """Scores of the parts of a sum that training does not reach, as an offset of the language model's logits.

    A sum of scores is wanted in the end. Trained by itself, a model spends its weights on what counts and features say
    anyway, and little of it is left in the sum; trained with their scores added to its logits it learns the rest, as in
    stagewise additive modelling (Friedman et al. 2000, Annals of Statistics 28(2)). Counts are taken without the pairs
    of the history itself and its target, which a training table holds (:func:`pctm.own_share`). Parts that were trained
    on the targets, such as the vectors of stage 1, are left out: they would look better than they are.

    The logarithm of an item's training count is added too, though no sum of scores has it: popularity lowers a
    cross-entropy first and helps a ranking of this kind least, so it is not the model's to learn (logit adjustment,
    Menon et al. 2021, arXiv 2007.07314).

    Holds nothing that is saved: it follows from the training data.

    Args:
        names: Parts, of ``transitions``, ``neighbours <modality>`` and ``repeat``; others are left out.
        transitions: Fitted counts; needed for ``transitions``.
        counts: Training events of every item, shape ``[I]``, the padding item 0 included.
        decay: Weight of a history item, per item newer than it, in ``neighbours``.

    Attributes:
        parts: The parts in order, and ``popularity``.
        scales: Factor of each part, shape ``[P]``; zeros until :meth:`fit`.
    """

    scales: Tensor
    popularity: Tensor

    def __init__(self, names: Sequence[str], transitions: Transitions | None, counts: Tensor, decay: float) -> None:
        super().__init__()
        self.parts = (*(name for name in names if _fits(name)), POPULARITY)
        self.transitions, self.n_items, self.decay = transitions, len(counts), decay
        self.cosines = tuple(name for name in self.parts if name.startswith("neighbours "))
        self.register_buffer("scales", torch.zeros(len(self.parts)), persistent=False)
        for index in range(len(self.cosines)):
            self.register_buffer(f"vectors_{index}", torch.zeros(self.n_items, 0), persistent=False)
        self.register_buffer("popularity", torch.log1p(counts.float()), persistent=False)
        self.register_buffer("right", torch.zeros(self.n_items, 0), persistent=False)

    def fit(self, vectors: Mapping[str, Tensor], histories: Tensor, targets: Tensor, half: bool = False) -> None:
        """Choose the scales under which the parts alone make training targets most likely.

        Args:
            vectors: Unit vectors ``[I, D]`` of each part that is a cosine.
            histories: Training histories, right-padded with 0, shape ``[N, L]``.
            targets: What followed each of them, shape ``[N]``.
            half: Multiply in bf16 from here on.
        """
        for index, name in enumerate(self.cosines):
            setattr(self, f"vectors_{index}", reduced(vectors[name], RANK))
        right = torch.cat([*(self._vectors(name) for name in self.cosines), self.popularity.unsqueeze(1)], dim=1)
        self.right = right.bfloat16() if half else right
        if len(targets):
            found = likely_scales(*self._said(histories, targets), [part == "repeat" for part in self.parts])
            self.scales.copy_(found)

    def forward(self, histories: Tensor, targets: Tensor) -> Offset:
        """Return the offset of training histories.

        Args:
            histories: Right-padded with 0, shape ``[M, L]``.
            targets: What follows each of them in the training data, shape ``[M]``.
        """
        scale = dict(zip(self.parts, self.scales.tolist(), strict=True))
        left = [profiles(histories, self._vectors(name), self.decay) * scale[name] for name in self.cosines]
        left.append(torch.full((len(histories), 1), scale[POPULARITY], device=histories.device))
        entries = [self._own_event(targets, scale[POPULARITY])]
        if "transitions" in scale:
            entries += [(row, column, value * scale["transitions"]) for row, column, value in
                        self._counted(histories, targets)]  # fmt: skip
        if "repeat" in scale:
            row, column = repeated(histories)
            entries.append((row, column, torch.full(row.shape, scale["repeat"], device=row.device)))
        row, column, value = (torch.cat(pieces) for pieces in zip(*entries, strict=True))
        order = torch.argsort(row, stable=True)
        return Offset(torch.cat(left, dim=1), self.right, row[order], column[order], value[order])

    def in_words(self) -> str:
        """Return the parts and their scales."""
        return ", ".join(f"{part} {scale:.3g}" for part, scale in zip(self.parts, self.scales.tolist(), strict=True))

    def _vectors(self, name: str) -> Tensor:
        vectors = getattr(self, f"vectors_{self.cosines.index(name)}")
        assert isinstance(vectors, Tensor)
        return vectors

    def _own_event(self, targets: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
        """Return what the event of each target itself adds to its popularity, taken off."""
        count = torch.expm1(self.popularity[targets])
        less = torch.log1p((count - 1).clamp(min=0)) - self.popularity[targets]
        return torch.arange(len(targets), device=targets.device), targets, less * scale

    def _counted(self, histories: Tensor, targets: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Return the entries of the mixed counts, and what their targets' own pairs added to them, taken off."""
        assert self.transitions is not None
        lengths, device = (histories > 0).sum(1), histories.device
        mixed = self.transitions.mix(histories, lengths).tocoo()
        row, column = (torch.from_numpy(index).long().to(device) for index in (mixed.row, mixed.col))
        own = self.transitions.own_share(histories, lengths, targets)
        every = torch.arange(len(targets), device=device)
        return [(row, column, torch.from_numpy(mixed.data).to(device)), (every, targets, -own)]

    def _said(self, histories: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return what every part says of some items, ``[P, N, C]``, the target first, and which of them count."""
        n_other = min(COLUMNS, self.n_items - 1)
        others = 1 + torch.linspace(0, self.n_items - 2, n_other, device=targets.device).round().long()
        said = []
        for part in self.parts:
            one = dict.fromkeys(self.parts, 0.0) | {part: 1.0}
            self.scales.copy_(self.scales.new_tensor(list(one.values())))
            offset = self(histories, targets)
            said.append(torch.cat([offset.at(targets).unsqueeze(1), offset.among(others)], dim=1))
        real = torch.cat([targets.unsqueeze(1) > 0, others != targets.unsqueeze(1)], dim=1)
        return torch.stack(said), real


def training_examples(train: TrainView, max_len: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw training histories and what followed: one position each of rows spread evenly over the users.

    Returns:
        Item ids, right-padded with 0, shape ``[N, max_len]``, and targets, shape ``[N]``.
    """
    rows, lengths = train.windows(max_len)
    some = spread_evenly(len(rows), EXAMPLES)
    rows, lengths, n_examples = rows[some], lengths[some], len(some)
    draw = torch.Generator().manual_seed(seed)
    place = 1 + (torch.rand(n_examples, generator=draw) * (lengths - 1)).long()
    targets = rows[torch.arange(n_examples), place]
    return torch.where(torch.arange(max_len) < place.unsqueeze(1), rows[:, :max_len], 0), targets


def reduced(vectors: Tensor, rank: int) -> Tensor:
    """Return ``[I, min(D, rank)]`` vectors whose products are those of ``[I, D]`` as nearly as so few columns allow."""
    if vectors.size(1) <= rank:
        return vectors
    _, axes = torch.linalg.eigh(vectors.double().T @ vectors.double())
    return vectors @ axes[:, -rank:].to(vectors.dtype)


def repeated(histories: Tensor) -> tuple[Tensor, Tensor]:
    """Return (row, item) of every item of the histories ``[M, L]``, once each."""
    same = histories.unsqueeze(2) == histories.unsqueeze(1)
    earlier = torch.ones_like(same[0]).tril(-1)
    new = (histories > 0) & ~(same & earlier).any(2)
    row, place = new.nonzero(as_tuple=True)
    return row, histories[row, place]


def likely_scales(said: Tensor, real: Tensor, signed: Sequence[bool]) -> Tensor:
    """Return the factors under which a softmax of the sum gives the first candidate most mass.

    Args:
        said: Scores by part, shape ``[P, N, C]``.
        real: False for places that hold no candidate, shape ``[N, C]``.
        signed: Whether a part's factor may be negative.

    Returns:
        float32 ``[P]``; 0 for a part that says the same of every candidate.
    """
    spread = (said - said[:, :, :1]).mul_(real).square().mean((1, 2)).sqrt()
    kept = spread > 0
    parts = said / torch.where(kept, spread, 1.0)[:, None, None]
    while True:
        found = likely_factors(parts * kept[:, None, None], real)
        wrong = kept & (found < 0) & ~torch.tensor(signed, device=said.device)
        if not bool(wrong.any()):
            return torch.where(kept, found / torch.where(kept, spread, 1.0), 0.0)
        kept &= ~wrong  # the others take over what it said


def _fits(name: str) -> bool:
    return name in ("transitions", "repeat") or name.startswith("neighbours ")
