"""The parts of a run in their order, what other settings would make of it, and which of them help."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from recbole_hellm.costs.choose import Change, halves
from recbole_hellm.costs.fusion import table_memory
from recbole_hellm.costs.shapes import EvaluationShape, RunShape
from recbole_hellm.costs.stages import data_cost, features_cost, graph_cost, sequence_cost
from recbole_hellm.costs.tuning import (
    AT_THE_END,
    evaluation_cost,
    graph_training_cost,
    tuning_cost,
    weights_memory,
)
from recbole_hellm.costs.work import StageCost, peaks

LEAST_LENGTH = 10
"""Shortest history that is proposed."""


def run_costs(run: RunShape) -> list[StageCost]:
    """Return what each part of a run costs, in the order in which they run.

    A model's training is validated while its optimiser is in memory, so its peak is that of a step or of a ranking.
    """
    data = data_cost(run.data)
    if run.tune is not None:
        held = {**data.held, **weights_memory(run.tune, run.data.n_items)}
        if run.fusion is not None:
            held |= table_memory(run.fusion, run.data)
        data = replace(data, held=held)
    costs = [data]
    if run.features:
        costs.append(features_cost(run.data, run.features))
    if run.graph is not None and not run.graph_is_model:
        costs.append(graph_cost(run.data, run.graph))
    if run.sequence is not None:
        costs.append(sequence_cost(run.data, run.sequence))
    if run.only_stages:
        return costs
    evaluation = evaluation_cost(run)
    training = None
    if run.tune is not None:
        training = tuning_cost(run.data, run.tune)
    elif run.graph is not None and run.graph_is_model:
        training = graph_training_cost(run.data, run.graph)
    if training is not None:
        trains = run.tune is None or run.tune.epochs > 0  # else validations are all there is
        validated = not trains or sum(evaluation.own.values()) > sum(training.own.values())
        passes = run.evaluation.validations / AT_THE_END
        work = training.work.plus(evaluation.work.times(passes)) if training.work and evaluation.work else None
        costs.append(replace(training, own=evaluation.own if validated else training.own, work=work))
    return [*costs, evaluation]


def peak(run: RunShape, base: int) -> int:
    """Return the largest memory of a run in bytes.

    Args:
        run: Its sizes.
        base: What the process takes before it.
    """
    return max(peaks(run_costs(run), base))


def _evaluation(run: RunShape, value: int) -> RunShape:
    rows = value if run.data.sequential else max(1, value // run.data.n_items)
    return replace(run, evaluation=EvaluationShape(rows, run.evaluation.validations, run.evaluation.sorts))


def _tuned(field: str) -> Callable[[RunShape, int], RunShape]:
    def change(run: RunShape, value: int) -> RunShape:
        values: dict[str, Any] = {field: value}
        return run if run.tune is None else replace(run, tune=replace(run.tune, **values))

    return change


def _graph(field: str) -> Callable[[RunShape, int], RunShape]:
    def change(run: RunShape, value: int) -> RunShape:
        values: dict[str, Any] = {field: value}
        return run if run.graph is None else replace(run, graph=replace(run.graph, **values))

    return change


def _train_batch(run: RunShape, value: int) -> RunShape:
    return _graph("batch_size")(run, value) if run.graph_is_model else _tuned("batch_size")(run, value)


def _sequence_batch(run: RunShape, value: int) -> RunShape:
    return run if run.sequence is None else replace(run, sequence=replace(run.sequence, batch_size=value))


def _length(run: RunShape, value: int) -> RunShape:
    return replace(run, data=replace(run.data, max_length=value))


APPLY: dict[str, Callable[[RunShape, int], RunShape]] = {
    "eval_batch_size": _evaluation,
    "train_rows_at_once": _tuned("rows_at_once"),
    "train_batch_size": _train_batch,
    "sequence_batch_size": _sequence_batch,
    "pretrain_batch_size": _graph("batch_size"),
    "graph_embedding_size": _graph("width"),
    "MAX_ITEM_LIST_LENGTH": _length,
}
"""What another value of a setting changes."""


def changed(run: RunShape, changes: Sequence[Change]) -> RunShape:
    """Return the run under other values of some settings."""
    for change in changes:
        if change.setting == "graph_contrast":
            run = run if run.graph is None else replace(run, graph=replace(run.graph, all_nodes=False))
        else:
            run = APPLY[change.setting](run, int(str(change.value)))
    return run


def candidates(run: RunShape) -> list[list[Change]]:
    """Return the settings that could save memory, those first that change no result."""
    items, evaluation = run.data.n_items, run.evaluation
    per_row = 1 if run.data.sequential else items
    found = [[Change("eval_batch_size", rows * per_row) for rows in halves(evaluation.rows, 1)]]
    if run.tune is not None:
        rows = run.tune.rows_at_once or run.tune.batch_size
        found.append([Change("train_rows_at_once", value) for value in halves(rows)])
    if run.sequence is not None:
        found.append([Change("sequence_batch_size", value) for value in halves(run.sequence.batch_size, 8)])
    if run.graph is not None:
        if run.graph.all_nodes:
            found.append([Change("graph_contrast", "batch")])
        name = "train_batch_size" if run.graph_is_model else "pretrain_batch_size"
        found.append([Change(name, value) for value in halves(run.graph.batch_size, 256)])
        found.append([Change("graph_embedding_size", value) for value in halves(run.graph.width, 16)])
    if run.data.sequential:
        lengths = [value for value in (100, 50, 30, 20, LEAST_LENGTH) if value < run.data.max_length]
        found.append([Change("MAX_ITEM_LIST_LENGTH", value) for value in lengths])
    return [values for values in found if values]
