"""Both hypergraphs of Sports from the split and the features in memory: ours against dense ``N x N`` matrices."""

from __future__ import annotations

from typing import Any

import psutil
import torch

from benchmarks.child import in_child, measured
from benchmarks.data import find_data
from benchmarks.fragment import Fragment, fingerprint, run_alone
from benchmarks.inputs import Stage1Inputs, stage1_file
from benchmarks.naive import graphs as dense
from benchmarks.options import Options
from benchmarks.pairs import paired
from benchmarks.targets import keys_of

NEIGHBOURS = 10
LIMIT_GB = 16.0
"""Most memory the dense side may take."""


def measure(options: Options) -> Fragment:
    """Time and memory of the two sides in turns, each turn in a process of its own."""
    data = find_data("amazon-sports", options)
    path = str(stage1_file(data, options))
    whole = Stage1Inputs.load(path)
    n_users, estimate = dense_size(whole)
    fast, naive = [], []
    for _ in range(options.pairs or (1 if options.quick else 2)):
        fast.append(in_child("benchmarks.graphs:fast_side", path=path, n_users=n_users))
        naive.append(in_child("benchmarks.graphs:dense_side", path=path, n_users=n_users))
    cheap = in_child("benchmarks.graphs:dense_side", path=path, n_users=n_users, sparse_product=True)
    full = [in_child("benchmarks.graphs:fast_side", path=path, n_users=0) for _ in range(3)]
    full.sort(key=lambda run: run["seconds"])
    times = paired(*([run["seconds"] for run in side] for side in (naive, fast)))
    memory = paired(*([run["peak_mb"] for run in side] for side in (naive, fast)))
    keys: dict[str, float | None] = {
        "graph_time_ratio": times.ratio,
        "graph_memory_ratio": memory.ratio,
        "graph_seconds": full[1]["seconds"],
        "graph_megabytes": max(run["peak_mb"] for run in full),
    }
    details = {
        "data": data.name,
        "data_sha256": fingerprint(data),
        "sizes": {"users": whole.n_users - 1, "items": whole.n_items - 1, "interactions": len(whole.users),
                  "feature_widths": [vectors.size(1) for vectors, _ in whole.features]},
        "neighbours": NEIGHBOURS,
        "compared_on_users": n_users - 1,
        "dense_estimate_gb": estimate,
        "seconds": times.as_dict(),
        "peak_mb": memory.as_dict(),
        "dense_with_sparse_product": {**cheap, "time_ratio": cheap["seconds"] / times.as_dict()["fast_median"]},
        "whole": full,
        "neighbours_alone": in_child("benchmarks.graphs:neighbours_alone", path=path, seed=options.seed),
    }  # fmt: skip
    return Fragment(keys, details)


def dense_size(whole: Stage1Inputs) -> tuple[int, float]:
    """Return how many user ids the dense side can hold (all, if they fit) and its estimated peak in GB."""
    limit = min(LIMIT_GB, 0.8 * psutil.virtual_memory().available / 2**30)
    n_users = whole.n_users
    while (needed := _dense_gb(n_users, whole.n_items, len(whole.features))) > limit:
        n_users = int(n_users * 0.95)
    return n_users, needed


def _dense_gb(n_users: int, n_items: int, n_modalities: int) -> float:
    users = n_users * n_users
    first = users + n_users * n_items  # U2U and R
    second = users + n_items * n_items * (1 + 2 * n_modalities + 1)  # U2U, similarities, blocks of H and H, I2I
    return 4 * max(first, second) / 2**30


def fast_side(path: str, n_users: int) -> dict[str, Any]:
    """Build both hypergraphs and their operators, ready to propagate."""
    from recbole_hellm.hypergraph import (
        SharedEdgeMean,
        SymmetricHypergraphSum,
        nearest_neighbour_hypergraph,
        resolve_backend,
        shared_item_hypergraph,
    )

    inputs = Stage1Inputs.load(path, n_users)
    resolve_backend("auto")  # loads dgl, which is no part of the graphs

    def work() -> dict[str, int]:
        users = shared_item_hypergraph(inputs.users, inputs.items, inputs.n_users, inputs.n_items)
        items = nearest_neighbour_hypergraph(*_arguments(inputs))
        # Some of an operator is made at its first use; the dense matrices are ready for theirs.
        SharedEdgeMean(users)(torch.ones(inputs.n_users, 1))
        SymmetricHypergraphSum(items)(torch.ones(inputs.n_items, 1))
        return {"user_pairs": len(users.node), "item_pairs": len(items.node)}

    return measured(work)


def _arguments(inputs: Stage1Inputs) -> tuple[list[torch.Tensor], int, list[torch.Tensor]]:
    return [vectors for vectors, _ in inputs.features], NEIGHBOURS, [present for _, present in inputs.features]


def dense_side(path: str, n_users: int, sparse_product: bool = False) -> dict[str, Any]:
    """Build both dense matrices; with ``sparse_product`` the users' one by a sparse times a dense product."""
    inputs = Stage1Inputs.load(path, n_users)
    build = dense.user_graph_from_sparse if sparse_product else dense.user_graph

    def work() -> dict[str, Any]:
        users = build(inputs.users, inputs.items, inputs.n_users, inputs.n_items)
        modalities, k, present = _arguments(inputs)
        items = dense.item_graph(modalities, present, k)
        return {"user_shape": list(users.shape), "item_shape": list(items.shape)}

    return measured(work)


def neighbours_alone(path: str, seed: int, n_checked: int = 200) -> dict[str, Any]:
    """Search the neighbours in the whole catalogue; compare those of some items with a float64 search of their own."""
    from recbole_hellm.hypergraph import nearest_neighbour_hypergraph

    inputs = Stage1Inputs.load(path)
    found: dict[str, Any] = measured(lambda: nearest_neighbour_hypergraph(*_arguments(inputs)))
    graph = found.pop("result")
    rows = torch.randperm(inputs.n_items, generator=torch.Generator().manual_seed(seed))[:n_checked]
    right = total = 0
    for m, (vectors, present) in enumerate(inputs.features):
        unit = torch.nn.functional.normalize(vectors.double() * present[:, None], dim=1)
        for row in rows.tolist():
            if not bool(present[row]) or not bool(unit[row].any()):
                continue
            similarity = unit @ unit[row]
            similarity[row] = torch.inf
            least = similarity.topk(min(NEIGHBOURS, len(unit))).values[-1].clamp(min=0)
            edges = graph.edge[(graph.node == row) & (graph.edge // inputs.n_items == m)] % inputs.n_items
            # Equal similarities may stand in for each other; float32 cannot tell closer ones apart.
            right += int((similarity[edges] >= least - 1e-7).sum())
            total += int(((similarity > 0).sum()).clamp(max=NEIGHBOURS))
    full = 4 * inputs.n_items**2 / 2**20
    return {**found, "all_pairs_mb": full, "checked_items": n_checked, "recall": right / max(1, total)}


if __name__ == "__main__":
    run_alone(measure, keys_of("graphs"), str(__doc__))
