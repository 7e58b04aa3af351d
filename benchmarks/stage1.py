"""One epoch of stage 1 on Sports, both hypergraphs: ours against dense graphs, all nodes contrasted at each step."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch

from benchmarks.child import in_child, measured
from benchmarks.data import fewer_users, find_data, settings
from benchmarks.fragment import Fragment, fingerprint, run_alone
from benchmarks.inputs import Stage1Inputs, stage1_file
from benchmarks.naive import graphs as dense
from benchmarks.naive.stage1 import NaiveStage1, Weights
from benchmarks.options import Options
from benchmarks.pairs import paired, seconds
from benchmarks.stage1_steps import Steps, record_steps, stage1
from benchmarks.targets import keys_of

BATCH = 1024
"""The authors' batch."""
CURVE_USERS, CURVE_EPOCHS = 2000, 10
PAPER_GRAPHS = {"graph_user_hypergraph": True, "graph_neighbours": 10}
"""Both hypergraphs are measured; HeLLM's default has the item hypergraph alone, which costs less."""


def measure(options: Options) -> Fragment:
    """Time the two sides in turns, each in a process of its own; then compare what the epochs are worth."""
    data = find_data("amazon-sports", options)
    path, chosen = str(stage1_file(data, options)), stage1_settings(data, options)
    fast, naive = [], []
    for _ in range(options.pairs or (1 if options.quick else 2)):
        fast.append(in_child("benchmarks.stage1:fast_epoch", path=path, settings=chosen, seed=options.seed))
        naive.append(in_child("benchmarks.stage1:naive_steps", path=path, settings=chosen, seed=options.seed))
    times = paired([run["epoch_seconds"] for run in naive], [run["epoch_seconds"] for run in fast])
    keys: dict[str, float | None] = {
        "stage1_epoch_seconds": times.as_dict()["fast_median"],
        "stage1_epoch_ratio": times.ratio,
    }
    details = {
        "data": data.name,
        "data_sha256": fingerprint(data),
        "how": "plain: one step after one of warm-up, times the steps of an epoch; ours: a whole epoch, the second",
        "seconds": times.as_dict(),
        "fast": fast,
        "naive": naive,
        "quality": quality(options),
    }
    return Fragment(keys, details)


def stage1_settings(data: Any, options: Options) -> dict[str, Any]:
    """Return the settings of stage 1 a HeLLM run on this data has, with the graphs of the paper."""
    from recbole_hellm.config.recbole_config import HellmConfig

    config = HellmConfig("HeLLM", data.name, config_dict=settings(data, options, **PAPER_GRAPHS)).final_config_dict
    return {key: config[key] for key in config if key.startswith(("graph_", "pretrain_"))}


def _specs(settings: dict[str, Any]) -> tuple[Any, Any]:
    from recbole_hellm.config.specs import GraphSpec, PretrainSpec

    return GraphSpec.from_config(settings), PretrainSpec.from_config(settings)


def fast_epoch(path: str, settings: dict[str, Any], seed: int) -> dict[str, Any]:
    """Return the seconds of the second epoch, and the peak of graphs and training together."""
    inputs, (graph, pretrain) = Stage1Inputs.load(path), _specs(settings)
    size = len(inputs.users)

    def two_epochs(steps: Steps) -> bool:
        return steps.before()[-1] >= 2 * size

    train = stage1(inputs, graph, replace(pretrain, epochs=max(3, pretrain.epochs)), seed)
    found: dict[str, Any] = measured(lambda: record_steps(train, two_epochs))
    steps: Steps = found.pop("result")
    return {**found, "epoch_seconds": steps.epoch_seconds(size), "batches": len(steps.started),
            "batch_size": max(steps.interactions)}  # fmt: skip


def naive_steps(path: str, settings: dict[str, Any], seed: int) -> dict[str, Any]:
    """Return the seconds of an epoch at the pace of one step; the graphs are built before."""
    inputs, (graph, _) = Stage1Inputs.load(path), _specs(settings)
    torch.manual_seed(seed)
    model = naive_model(inputs, graph)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)

    def step() -> None:
        rows = torch.randint(len(inputs.users), (BATCH,))
        negative = torch.randint(1, inputs.n_items, (BATCH,))
        optimizer.zero_grad()
        model.backward((inputs.users[rows], inputs.items[rows], negative))
        optimizer.step()

    warm = seconds(step)
    found: dict[str, Any] = measured(lambda: seconds(step))
    n_steps = math.ceil(len(inputs.users) / BATCH)
    return {**found, "warm_step_seconds": warm, "step_seconds": found["result"], "steps": n_steps,
            "epoch_seconds": found["result"] * n_steps}  # fmt: skip


def naive_model(inputs: Stage1Inputs, graph: Any) -> NaiveStage1:
    """Return the plain model over the graphs of some inputs."""
    interactions = (inputs.users, inputs.items, inputs.n_users, inputs.n_items)
    features = [vectors for vectors, _ in inputs.features], [present for _, present in inputs.features]
    names = ("ui_layers", "user_layers", "item_layers", "temperature", "alpha_user", "alpha_item", "reg_weight")
    return NaiveStage1(
        dense.user_item_graph(*interactions),
        # Sparse times dense: how the matrix was made is no part of the epoch.
        dense.user_graph_from_sparse(*interactions),
        dense.item_graph(*features, graph.neighbours),
        graph.embedding_size,
        Weights(**{name: getattr(graph, name) for name in names}),
    )


def quality(options: Options) -> dict[str, Any]:
    """Return validation NDCG@20 by epoch of the default and of the all-node contrast, on users few enough for it.

    The all-node contrast is run with the authors' batch, once at the default's learning rate and once at the authors'.
    """
    data = find_data("amazon-toys", options)  # the all-node contrast takes minutes an epoch with the items of Sports
    if not options.quick:
        data = fewer_users(data, CURVE_USERS, options)
    epochs = 2 if options.quick else CURVE_EPOCHS
    hellm = stage1_settings(data, options)
    stage = {key: hellm[key] for key in hellm if key.startswith("graph_")}
    own = {"train_batch_size": hellm["pretrain_batch_size"], "learning_rate": hellm["pretrain_learning_rate"]}
    all_nodes = {"graph_contrast": "all", "train_batch_size": BATCH}
    runs = {
        "default": own,
        "all nodes": {**all_nodes, "learning_rate": own["learning_rate"]},
        "all nodes, authors' learning rate": {**all_nodes, "learning_rate": 1e-4},
    }
    curves = {
        name: in_child("benchmarks.stage1:curve", dataset=data.name,
                       settings=mmhcl_settings(data, options, epochs, {**stage, **run}))
        for name, run in runs.items()
    }  # fmt: skip
    best = {name: max(found["ndcg@20"]) for name, found in curves.items()}
    return {"data": data.name, "epochs": epochs, "curves": curves, "best": best}


def mmhcl_settings(data: Any, options: Options, epochs: int, more: dict[str, Any]) -> dict[str, Any]:
    """Return settings of stage 1 as a model of its own, validated at every epoch."""
    return settings(data, options, epochs=epochs, eval_step=1, stopping_step=epochs, valid_metric="NDCG@20", **more)


def curve(dataset: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Return validation NDCG@20 and seconds by epoch."""
    from recbole_hellm.quick_start import run_recbole_hellm

    records = run_recbole_hellm("MMHCL", dataset, config_dict=settings)["trainer"].epoch_records
    return {"ndcg@20": [record.valid["ndcg@20"] for record in records], "seconds": [r.seconds for r in records]}


if __name__ == "__main__":
    run_alone(measure, keys_of("stage1"), str(__doc__))
