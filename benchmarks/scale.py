"""A million users: graphs, and what an interaction costs stage 1 there and in a set ten times smaller."""

from __future__ import annotations

import statistics
import time
from dataclasses import asdict
from typing import Any

import torch

from benchmarks.child import in_child, measured
from benchmarks.fragment import Fragment, run_alone
from benchmarks.options import Options
from benchmarks.stage1 import PAPER_GRAPHS
from benchmarks.stage1_steps import Steps, record_steps, stage1
from benchmarks.synthetic import synthetic_inputs
from benchmarks.targets import keys_of

USERS, ITEMS, EVENTS, WIDTH = 1_000_000, 200_000, 10_000_000, 64
SMALLER = 10
SECONDS = 150.0
"""Steps are timed for so long, and for :data:`LEAST` batches at the least."""
LEAST = 4


def measure(options: Options) -> Fragment:
    """Graphs once at the full size; steps of stage 1 at both sizes in turns."""
    factor = 500 if options.quick else 1
    large = {"n_users": USERS // factor, "n_items": ITEMS // factor, "n_events": EVENTS // factor, "seed": options.seed}
    small = {**large, **{key: large[key] // SMALLER for key in ("n_users", "n_items", "n_events")}}
    graphs = in_child("benchmarks.scale:graphs", **large)
    limit = 3.0 if options.quick else SECONDS
    costs: dict[str, list[dict[str, Any]]] = {"small": [], "large": []}
    for _ in range(options.pairs or 1):
        for name, sizes in (("small", small), ("large", large)):
            costs[name].append(in_child("benchmarks.scale:stage1_cost", **sizes, limit=limit))
    ratios = [
        big["seconds_per_interaction"] / little["seconds_per_interaction"]
        for big, little in zip(costs["large"], costs["small"], strict=True)
    ]
    keys: dict[str, float | None] = {
        "scale_graph_minutes": graphs["seconds"] / 60,
        "scale_graph_gb": graphs["peak_mb"] / 1024,
        "scale_stage1_cost_ratio": statistics.median(ratios),
    }
    return Fragment(keys, {"large": large, "small": small, "graphs": graphs, "stage1": costs, "ratios": ratios})


def graphs(n_users: int, n_items: int, n_events: int, seed: int) -> dict[str, Any]:
    """Build both hypergraphs with their operators; return seconds and peak memory, the two parts apart as well."""
    from recbole_hellm.hypergraph import (
        SharedEdgeMean,
        SymmetricHypergraphSum,
        nearest_neighbour_hypergraph,
        resolve_backend,
        shared_item_hypergraph,
    )

    inputs = synthetic_inputs(n_users, n_items, n_events, WIDTH, seed)
    resolve_backend("auto")
    ends: list[float] = []

    def work() -> None:
        users = shared_item_hypergraph(inputs.users, inputs.items, inputs.n_users, inputs.n_items)
        SharedEdgeMean(users)(torch.ones(inputs.n_users, 1))
        ends.append(time.perf_counter())
        vectors, present = inputs.features[0]
        items = nearest_neighbour_hypergraph([vectors], 10, [present])
        SymmetricHypergraphSum(items)(torch.ones(inputs.n_items, 1))
        ends.append(time.perf_counter())

    found: dict[str, Any] = measured(work)
    found.pop("result")
    return {**found, "interactions": len(inputs.users), "feature_width": WIDTH, "neighbour_seconds": ends[1] - ends[0],
            "user_seconds": found["seconds"] - (ends[1] - ends[0])}  # fmt: skip


def stage1_cost(n_users: int, n_items: int, n_events: int, seed: int, limit: float) -> dict[str, Any]:
    """Return the cost of an interaction in stage 1 on the graphs of the paper, timed over some batches."""
    from recbole_hellm.config.specs import GraphSpec, PretrainSpec

    inputs = synthetic_inputs(n_users, n_items, n_events, WIDTH, seed)
    graph, pretrain = GraphSpec.from_config(PAPER_GRAPHS), PretrainSpec(epochs=1000)

    def long_enough(steps: Steps) -> bool:
        return len(steps.started) >= LEAST and steps.started[-1] - steps.started[0] >= limit

    found: dict[str, Any] = measured(lambda: record_steps(stage1(inputs, graph, pretrain, seed), long_enough))
    steps: Steps = found.pop("result")
    return {**found, "seconds_per_interaction": steps.seconds_per_interaction(), "batches": len(steps.started),
            "batch_size": max(steps.interactions), "settings": {**asdict(graph), **asdict(pretrain)}}  # fmt: skip


if __name__ == "__main__":
    run_alone(measure, keys_of("scale"), str(__doc__))
