"""Results files as `compare` writes them, made of planted ranks: quick input for statistics and writers."""

import hashlib
import json
import zlib
from pathlib import Path

import numpy as np

from recbole_hellm.benchmark.per_user import metric_vectors

MODELS = ("HeLLM", "SASRec", "TransitionCounts")
PARTS = ("full", "no user hypergraph", "no item hypergraph", "no LoRA")
METRICS = ("recall", "mrr", "ndcg", "hit", "precision")
SPLIT = {
    "split": {"LS": "valid_and_test"},
    "order": "TO",
    "group_by": "user",
    "mode": {"valid": "full", "test": "full"},
}
PRETRAINING = {"graph": [2.0 * 0.8**i for i in range(10)], "sequence": [7.0 * 0.9**i for i in range(8)]}
COUNTED = ("TransitionCounts", "Pop")
"""Models without epochs."""


def make_results(
    folder: Path,
    models=MODELS,
    seeds=(2020, 2021, 2022),
    datasets=("amazon-toys",),
    effect=0.5,
    n_users=400,
    name="toys-small",
    ablation=False,
    failed=False,
    reported=False,
    change=lambda line, arrays: None,
) -> Path:
    """Write ``<name>.jsonl`` and ``<name>.users/`` in ``folder`` and return the path of the first.

    Args:
        folder: Made if it does not exist.
        models: Labels. The first is the better one by ``effect``; the others are equal but for chance.
        seeds: One cell each.
        datasets: One table each.
        effect: By how much the first model's ranks are better, in units of log(rank); or a mapping of label to that.
        n_users: Test users per data set.
        name: Of the plan.
        ablation: Add the group "ablation" (rows :data:`PARTS`, the second and third worse than "full").
        failed: Add one cell that failed.
        reported: Add one number of others.
        change: Called with every line and its users arrays before they are written; may change both.
    """
    folder.mkdir(parents=True, exist_ok=True)
    users_folder = folder / f"{name}.users"
    users_folder.mkdir(exist_ok=True)
    gains = effect if isinstance(effect, dict) else {models[0]: effect}
    jobs = [(label, label, "compare", gains.get(label, 0.0)) for label in models]
    if ablation:
        jobs += [(part, "HeLLM", "ablation", (0.6, 0.1, 0.2, 0.6)[i]) for i, part in enumerate(PARTS)]
    numbers = [{"model": "HeLLM-7B", "dataset": datasets[0], "metrics": {"recall@10": 0.0747, "ndcg@10": 0.044}}]
    numbers[0].update(source="authors' logs, arXiv 2504.10541", protocol="history kept, best TEST epoch")
    header = {"kind": "plan", "format": 1, "plan": name, "digest": _hex(name), "reported": numbers if reported else []}
    lines = [header]
    for dataset in datasets:
        for label, model, group, gain in jobs:
            for seed in seeds:
                line, arrays = _cell(dataset, label, model, group, seed, gain, n_users)
                change(line, arrays)
                path = users_folder / f"{line['cell']}.npz"
                np.savez_compressed(path, **arrays)
                line["users_file"] = f"{users_folder.name}/{path.name}"
                line["users_sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
                lines.append(line)
    if failed:
        kept = ("kind", "cell", "label", "model", "dataset", "seed", "settings", "group", "protocol")
        broken, _ = _cell(datasets[0], "BERT4Rec", "BERT4Rec", "compare", seeds[0], 0.0, 2)
        lines.append({**{k: broken[k] for k in kept}, "status": "failed", "error": "MemoryError: 3.2 GB wanted"})
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def read_results(path: Path):
    """Return header and cell lines of a results file, as the package's own reader gives them."""
    header, *lines = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    return header, lines


def planted_ranks(n_users, gain, seed, dataset="amazon-toys", n_items=2000):
    """Return ranks (1 = first): users differ in how hard they are, alike for all models; seeds add chance."""
    hard = _rng(dataset).normal(4.0, 1.6, n_users)
    noise = np.random.default_rng(seed).normal(0.0, 0.8, n_users)
    return np.clip(np.floor(np.exp(hard + noise - gain)), 0, n_items - 1).astype(np.int32) + 1


def _cell(dataset, label, model, group, seed, gain, n_users):
    rng, chance = _rng(dataset, "users"), _rng(dataset, label, group, seed)
    users = np.sort([f"u{user}" for user in range(n_users)])
    tied = rng.integers(0, 5, n_users) == 0
    arrays = {
        "user": users,
        "rank": planted_ranks(n_users, gain, chance.integers(2**31), dataset),
        "history": (4 + rng.geometric(0.15, n_users)).astype(np.int32),
        "popularity": np.floor(rng.pareto(1.1, n_users) * 3 + 1).astype(np.int32),
        "tied": tied.astype(np.int8),
    }
    valid = planted_ranks(n_users, gain + 0.1, chance.integers(2**31), dataset)
    counted = model in COUNTED
    epochs = [] if counted else list(range(1, 7))
    trained = 0 if counted else 100_000 * (1 + zlib.crc32(model.encode()) % 90)
    seconds = 3.0 if counted else 40.0 + zlib.crc32(label.encode()) % 300
    line = {
        "kind": "cell",
        "cell": _hex(model, label, dataset, seed, group)[:16],
        "status": "ok",
        "label": label,
        "model": model,
        "dataset": dataset,
        "seed": seed,
        "settings": {},
        "group": group,
        "protocol": {
            "history_masked": False,
            "fitted_on": "train",
            "selected_on": "valid",
            "loss": None if counted else "CE",
            "max_length": 50,
            "minutes": 10.0,
            "split": SPLIT,
        },
        "data": {
            "n_users": n_users,
            "n_items": 2000,
            "fingerprint": _hex(dataset, "data"),
            "split": _hex(dataset, "split"),
        },
        "valid": _means(valid, users),
        "test": _means(arrays["rank"], users),
        "best_epoch": None if counted else 4,
        "parameters": {"trained": trained, "total": trained + (0 if model != "HeLLM" else 135_000_000)},
        "stages": _stages(model, seconds, reused=seed != 2020),
        "peak_memory_mb": 900.0 + seconds,
        "training_samples_per_second": None if counted else 120_000 / seconds,
        "evaluation_users_per_second": 250_000 / seconds,
        "curves": {
            "training": [_epoch(epoch, seconds, gain) for epoch in epochs],
            **(PRETRAINING if model == "HeLLM" else {}),
        },
        "commit": "0123456789ab",
        "versions": {"python": "3.11.9", "recbole": "1.2.1", "recbole-hellm": "0.1.0"},
        "hardware": {"processor": "Some CPU @ 2.0GHz", "cores": 2, "memory_gb": 24.0},
        "time": "2025-05-01T12:00:00",
        "command": f"recbole-hellm compare --models {model} --datasets {dataset}",
    }
    return line, arrays


def _epoch(epoch, seconds, gain):
    valid = {"recall@10": 0.08 * (1 - 0.6**epoch) + 0.01 * gain, "ndcg@10": 0.045 * (1 - 0.6**epoch) + 0.01 * gain}
    return {"epoch": epoch, "loss": 8.0 * 0.9**epoch, "seconds": seconds / 6, "valid": valid if epoch != 5 else None}


def _stages(model, seconds, reused):
    names = ["data and model", "training", "evaluation"]
    if model == "HeLLM":
        names[1:1] = ["features", "graph", "sequence"]
    stages = []
    for name in names:
        took = seconds if name == "training" else seconds / 4
        again = reused and name in ("features", "graph", "sequence")
        stage = {"name": name, "status": "reused" if again else "ran", "seconds": 0.1 if again else took}
        stages.append({**stage, "computed_seconds": took, "peak_memory_mb": 700.0 + took})
    return stages


def _means(ranks, users):
    return {name: round(float(v.mean()), 6) for name, v in metric_vectors(ranks, users, METRICS).items()}


def _rng(*parts):
    return np.random.default_rng(zlib.crc32(repr(parts).encode()))


def _hex(*parts):
    return hashlib.sha256(repr(parts).encode()).hexdigest()
