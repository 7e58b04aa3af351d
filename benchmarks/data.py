"""The data sets of the measurements, and settings that write only into the scratch folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.options import ROOT, Options

QUICK = "bench-quick"
"""A synthetic data set for a test of the harness."""


class Skipped(Exception):
    """A measurement cannot be made here; the message says why."""


@dataclass(frozen=True)
class Data:
    """A prepared data set."""

    name: str
    path: Path
    """RecBole's ``data_path``."""


def find_data(name: str, options: Options) -> Data:
    """Return a prepared data set; with ``--quick`` the synthetic one instead.

    Raises:
        Skipped: If it is neither there nor can be prepared from ``RECBOLE_HELLM_SHARED``.
    """
    if options.quick:
        write_quick(options.scratch / "data")
        return Data(QUICK, options.scratch / "data")
    if (options.data_path / name / f"{name}.inter").is_file():
        return Data(name, options.data_path)
    shared = Path(os.environ.get("RECBOLE_HELLM_SHARED") or ROOT.parent / "shared") / "data"
    if not shared.is_dir():
        raise Skipped(
            f"data set {name} is not in {options.data_path}; run: recbole-hellm prepare {name} --source DIR --output "
            f"{options.data_path}"
        )
    from recbole_hellm.data.prepare import prepare

    prepare(name, shared, options.data_path)
    return Data(name, options.data_path)


def settings(data: Data, options: Options, **changes: Any) -> dict[str, Any]:
    """Return settings of a run that keeps quiet and writes only below the scratch folder."""
    scratch = options.scratch
    chosen: dict[str, Any] = {
        "data_path": str(data.path),
        "stage_cache_dir": str(scratch / "stages"),
        "checkpoint_dir": str(scratch / "checkpoints"),
        "result_file": str(scratch / "result.json"),
        "show_progress": False,
        "state": "ERROR",
        "seed": options.seed,
        "gpu_id": "",
    }
    return {**chosen, **(quick_settings(scratch) if options.quick else {}), **changes}


def quick_settings(scratch: Path) -> dict[str, Any]:
    """Return what makes every part of a run tiny."""
    from recbole_hellm.testing import tiny_llm

    llm = scratch / "tiny-llm"
    if not (llm / "config.json").is_file():
        tiny_llm(llm)
    return {
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "item_features": ["text"],
        "text_encoder": "hashing",
        "llm_path": str(llm),
        "llm_layers": 2,
        "pretrain_epochs": 3,
        "pretrain_batch_size": 256,
        "sequence_epochs": 1,
        "epochs": 1,
        "train_batch_size": 32,
        "eval_batch_size": 200_000,
    }


def write_quick(root: Path, n_users: int = 300, n_items: int = 120, seed: int = 0) -> Path:
    """Write a data set of random sequences with item texts; kept if it is there."""
    folder = root / QUICK
    if (folder / f"{QUICK}.inter").is_file():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, n_items + 1)
    rows = ["user_id:token\titem_id:token\ttimestamp:float"]
    for user in range(n_users):
        taken = rng.choice(n_items, size=rng.integers(5, 15), replace=False, p=weights / weights.sum())
        rows += [f"u{user}\ti{item}\t{time}" for time, item in enumerate(taken)]
    words = rng.integers(0, 50, size=(n_items, 6))
    items = [f"i{item}\t{' '.join(f'word{word}' for word in words[item])}" for item in range(n_items)]
    (folder / f"{QUICK}.item").write_text(
        "\n".join(["item_id:token\ttitle:token_seq", *items]) + "\n", encoding="utf-8"
    )
    scratch = folder / ".inter"
    scratch.write_text("\n".join(rows) + "\n", encoding="utf-8")
    scratch.replace(folder / f"{QUICK}.inter")
    return folder


def fewer_users(data: Data, n_users: int, options: Options) -> Data:
    """Return a data set of randomly chosen users and the items they took, written into the scratch folder."""
    name = f"{data.name}-{n_users}-users-{options.seed}"
    target = options.scratch / "data" / name
    target.mkdir(parents=True, exist_ok=True)
    # A data set of another name has none of the settings that came with the whole.
    (target / f"{name}.yaml").write_text("load_col: {inter: [user_id, item_id, timestamp]}\n", encoding="utf-8")
    if (target / f"{name}.inter").is_file():
        return Data(name, options.scratch / "data")
    import pandas as pd

    source = data.path / data.name / data.name
    events = pd.read_csv(f"{source}.inter", sep="\t", dtype=str, keep_default_na=False)
    items = pd.read_csv(f"{source}.item", sep="\t", dtype=str, keep_default_na=False, quoting=3)
    users = events["user_id:token"].unique()
    chosen = np.random.default_rng(options.seed).choice(users, size=min(n_users, len(users)), replace=False)
    events = events[events["user_id:token"].isin(set(chosen))]
    items = items[items["item_id:token"].isin(set(events["item_id:token"]))]
    items.to_csv(target / f"{name}.item", sep="\t", index=False, quoting=3)
    events.to_csv(target / ".inter", sep="\t", index=False, quoting=3)
    (target / ".inter").replace(target / f"{name}.inter")
    return Data(name, options.scratch / "data")
