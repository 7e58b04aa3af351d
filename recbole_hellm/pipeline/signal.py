"""Does a feature carry signal? Content-only nearest neighbours of every modality, beside chance and popularity."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.feature_extraction.text import TfidfVectorizer

from recbole_hellm.config.specs import FeatureSpec
from recbole_hellm.data.interactions import Events, read_events
from recbole_hellm.data.signal import (
    RECENT,
    Histories,
    Score,
    Split,
    by_chance,
    histories,
    most_popular,
    nearest_items,
    shuffled,
)
from recbole_hellm.pipeline.base import StageContext
from recbole_hellm.pipeline.features import FeatureStage
from recbole_hellm.pipeline.modalities import find_modalities
from recbole_hellm.pipeline.texts import item_texts
from recbole_hellm.views import TrainView

logger = getLogger(__name__)

K = 10
SEED = 0
LAST = (1.0,)


@dataclass(frozen=True)
class SignalRow:
    """One line of the answer.

    Attributes:
        name: Modality with its encoder, or what it is compared with.
        coverage: Share of the items that have a vector; ``None`` where there are none.
        last: Neighbours of the newest item of a history.
        recent: Neighbours of its newest seven, each counting .6 of the one after it.
        carries: Whether it finds more than its shuffled self by over three standard errors; ``None`` for comparisons.
    """

    name: str
    coverage: float | None
    last: Score
    recent: Score
    carries: bool | None = None


@dataclass(frozen=True)
class Signal:
    """Whether the item features of a data set carry signal.

    Attributes:
        dataset: Its name.
        split: Whose targets were looked for.
        n_users: Users that were ranked for.
        n_items: Items that were ranked.
        rows: A line a modality, each followed by its vectors shuffled among the items; then what they compare with.
    """

    dataset: str
    split: str
    n_users: int
    n_items: int
    rows: tuple[SignalRow, ...]

    def __str__(self) -> str:
        """Return a table."""
        width = max(len(row.name) for row in self.rows)
        lines = [
            f"{self.dataset}, {self.split} targets of {self.n_users} users among {self.n_items} items, history masked",
            f"{'':{width}}  coverage  R@{K} last  recent  N@{K} last  recent",
        ]
        for row in self.rows:
            coverage = "" if row.coverage is None else f"{100 * row.coverage:.1f} %"
            verdict = {None: "", True: "  carries signal", False: "  no signal beyond chance"}[row.carries]
            lines.append(
                f"{row.name:{width}}  {coverage:>8}  {row.last.recall:9.4f}  {row.recent.recall:6.4f}  "
                f"{row.last.ndcg:9.4f}  {row.recent.ndcg:6.4f}{verdict}"
            )
        return "\n".join(lines)


def feature_signal(config: Any, split: Split = "valid", max_users: int = 0) -> Signal:
    """Tell how well each item feature alone finds a user's next item.

    Args:
        config: Settings of a run (:class:`~recbole_hellm.config.recbole_config.HellmConfig`); those of features and
            the data set's place are read.
        split: ``valid`` for choosing an encoder, ``test`` for a report.
        max_users: Rank for so many users only, evenly spread; 0: all.

    Raises:
        HellmError: If the data set or a feature is missing or broken.
    """
    name, events = str(config["dataset"]), _events(config)
    cases = histories(events, split, max_users)
    logger.info("%s: nearest neighbours for %d users, %s targets", name, cases.n_users, split)
    rows: list[SignalRow] = []
    for label, vectors in _modalities(config, events):
        rows += _measured(label, vectors, cases)
    popular, uniform = most_popular(cases, K), by_chance(cases, K)
    rows += [SignalRow("popularity", None, popular, popular), SignalRow("chance", None, uniform, uniform)]
    return Signal(name, split, cases.n_users, len(events.item_tokens), tuple(rows))


def _measured(label: str, vectors: Any, cases: Histories) -> list[SignalRow]:
    """Return the line of a modality and that of its shuffled vectors."""
    own = [nearest_items(vectors, cases, weights, K) for weights in (LAST, RECENT)]
    mixed_vectors = shuffled(vectors, SEED)
    mixed = [nearest_items(mixed_vectors, cases, weights, K) for weights in (LAST, RECENT)]
    coverage = float(np.mean(np.asarray((vectors != 0).sum(axis=1)).ravel() > 0))
    best, base = max(own, key=lambda score: score.recall).recall, max(mixed, key=lambda score: score.recall).recall
    error = float(np.sqrt((best * (1 - best) + base * (1 - base)) / cases.n_users))
    carries = best - base > 3 * error
    return [SignalRow(label, coverage, own[0], own[1], carries), SignalRow("  shuffled", coverage, mixed[0], mixed[1])]


def _events(config: Any) -> Events:
    return read_events(Path(config["data_path"]) / f"{config['dataset']}.inter")


def features_context(config: Any, events: Events | None = None) -> StageContext:
    """Return what the stage ``features`` reads of a data set: its items, but no interaction."""
    events, folder = events or _events(config), Path(config["data_path"])
    none = torch.zeros(0, dtype=torch.long)
    view = TrainView(none, none, ("[PAD]",), ("[PAD]", *(str(token) for token in events.item_tokens)))
    item_file = folder / f"{config['dataset']}.item"
    return StageContext(view, item_file, folder / "features", bool(config["show_progress"]))


def _modalities(config: Any, events: Events) -> Iterator[tuple[str, Any]]:
    """Yield name and vectors of every modality, in the order of ``events.item_tokens``; TF-IDF of the texts last."""
    settings = config.final_config_dict
    spec, context = FeatureSpec.from_config(settings), features_context(config, events)
    found = FeatureStage.from_settings({**settings, "feature_missing": "zero"}).run(context, {})
    modalities = find_modalities(spec, context.item_file, context.features_dir)
    for modality in modalities:
        by = {"text": spec.text_encoder, "image": spec.image_encoder}.get(modality.origin, modality.origin)
        yield f"{modality.name} ({Path(by).name})", found[modality.name].numpy()[1:]
    if any(modality.origin == "text" for modality in modalities):
        yield "text (TF-IDF)", _tfidf(item_texts(spec, context.item_file), context.train.item_tokens[1:])


def _tfidf(texts: dict[str, str], tokens: Sequence[str]) -> Any:
    """Return the TF-IDF vectors of the items, sparse: the plain reference for every text encoder."""
    vectorizer = TfidfVectorizer(sublinear_tf=True, dtype=np.float32)
    return vectorizer.fit_transform([texts.get(token, "") for token in tokens]).tocsr()
