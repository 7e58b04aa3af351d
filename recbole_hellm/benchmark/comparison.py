"""What a report prints: rows, costs, tests, groups and curves, made once and checked by :mod:`.summary`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from recbole_hellm.benchmark.plan import Reported
from recbole_hellm.benchmark.significance import PairedResult

Interval = tuple[float, float]
UNPAIRED = ("history_masked", "fitted_on", "minutes")
"""Parts of the protocol that make two models' tasks different ones: their difference says nothing of the models."""


@dataclass(frozen=True)
class Cost:
    """What one model costs on one data set: means over its seeds."""

    parameters_trained: int
    """Trainable numbers."""
    parameters_total: int
    """All numbers of the model."""
    seconds_by_stage: Mapping[str, float]
    """By stage, in order: what the stage cost when it really ran, also where a stored result was reused."""
    seconds: float
    """Sum of the stages."""
    peak_memory_mb: float
    """Largest over seeds and stages."""
    training_samples_per_second: float | None
    """``None`` for a model that is not trained."""
    evaluation_users_per_second: float | None
    """Speed of ranking all items for a user."""


@dataclass(frozen=True)
class Row:
    """One model on one data set; all numbers are means over ``seeds`` unless said."""

    label: str
    """Name to print, unique in its data set."""
    model: str
    """Name of the model class."""
    dataset: str
    group: str
    """``"compare"`` or ``"ablation"``."""
    protocol: Mapping[str, Any]
    """``history_masked``, ``fitted_on``, ``selected_on``, ``loss``, ``max_length``, ``minutes``, ``split``."""
    seeds: tuple[int, ...]
    mean: Mapping[str, float]
    """Test metrics, as RecBole reports them."""
    std: Mapping[str, float]
    """Standard deviation over seeds (n - 1); ``nan`` with one seed."""
    valid_mean: Mapping[str, float]
    """Validation metrics at the chosen epoch; empty if nothing was validated."""
    interval: Mapping[str, Interval]
    """95 % bootstrap interval over users of ``mean``; of the ``tested`` metrics only."""
    untied: Mapping[str, float] | None
    """Test metrics of the users whose target does not have the time of the item before it; ``None`` if not known."""
    tied_share: float | None
    """Share of users whose target has the time of the item before it; ``None`` if not known."""
    n_users: int
    """Users tested."""
    cost: Cost
    lines: tuple[str, ...]
    """Keys of the cells the row is made of, in the order of ``seeds``."""
    cells: tuple[Mapping[str, Any], ...]
    """Their lines of the results file."""


@dataclass(frozen=True)
class Group:
    """The main metric of one row over one part of the users."""

    dataset: str
    label: str
    by: str
    """``"history"`` or ``"popularity"``."""
    name: str
    """What the part is: ``"5-9"`` interactions, ``"tail"``; parts come in order, empty ones are left out."""
    low: float
    """Smallest value in the part: interactions before the target, or training events of the target."""
    high: float
    """Largest value in the part."""
    n_users: int
    mean: float
    interval: Interval


@dataclass(frozen=True)
class Curve:
    """What one cell did over its epochs."""

    dataset: str
    label: str
    seed: int
    training: tuple[Mapping[str, Any], ...]
    """Per epoch: ``epoch``, ``loss``, ``seconds``, ``valid`` (metrics or ``None``)."""
    graph: tuple[float, ...]
    """Loss per epoch of graph pre-training; empty if the model has none."""
    sequence: tuple[float, ...]
    """Loss per epoch of sequence pre-training; empty if the model has none."""
    best_epoch: int | None
    """Epoch chosen on validation, counted from 1."""


@dataclass(frozen=True)
class Comparison:
    """Everything a report prints."""

    name: str
    """Name of the plan."""
    metric: str
    """Main metric: what tests, groups and plots are about first."""
    metrics: tuple[str, ...]
    """Metrics that every row has, in RecBole's order."""
    tested: tuple[str, ...]
    """Those with tests and intervals: the main one first, then the others of its cutoff."""
    rows: tuple[Row, ...]
    """By data set, in the order of the results file; without the ablation's."""
    against: Mapping[str, str]
    """By data set: the label that is tested against each other one."""
    against_reason: Mapping[str, str]
    """By data set: why that one, as a sentence to print."""
    tests: Mapping[tuple[str, str], tuple[PairedResult, ...]]
    """By (data set, metric of ``tested``): ``against`` against each other row; right tail, Holm over the others."""
    groups: tuple[Group, ...]
    ablation_rows: tuple[Row, ...]
    """Rows of the group "ablation", by data set."""
    ablation: Mapping[str, tuple[PairedResult, ...]]
    """By data set: each variant minus the row labelled "full", main metric, two-sided."""
    curves: tuple[Curve, ...]
    """Of every row, its first seed."""
    failed: tuple[Mapping[str, Any], ...]
    """Lines of cells without a result."""
    reported: tuple[Reported, ...]
    """Numbers from elsewhere: never among the rows."""
    notes: tuple[str, ...]
    """Sentences a reader must see: cells without a result, mixed code, unequal seeds, tests left out."""
