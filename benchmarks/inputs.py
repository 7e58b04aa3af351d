"""What stage 1 starts from: training interactions and item features, in memory or as one file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from benchmarks.child import in_child
from benchmarks.data import Data, settings
from benchmarks.options import Options
from recbole_hellm.views import TrainView

Arrays = dict[str, Any]


def stage1_file(data: Data, options: Options) -> Path:
    """Return a file with training interactions and features of a data set, made once per scratch folder.

    Arrays ``users``, ``items``, ``sizes`` (users and items, padding included), ``feature_<m>`` and ``present_<m>``.
    """
    path = options.scratch / "inputs" / f"{data.name}.npz"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        chosen = settings(data, options)
        in_child("benchmarks.inputs:write_stage1_file", dataset=data.name, settings=chosen, path=str(path))
    return path


def write_stage1_file(dataset: str, settings: dict[str, Any], path: str) -> dict[str, Any]:
    """Run stage ``features`` and write :func:`stage1_file`."""
    from recbole_hellm.artifacts import ArtifactStore
    from recbole_hellm.config.recbole_config import HellmConfig
    from recbole_hellm.pipeline.base import StageContext, order_stages, run_stages
    from recbole_hellm.trainer.loading import load_data
    from recbole_hellm.views import train_view

    # MMHCL shares HeLLM's feature settings and needs no language model.
    config = HellmConfig("MMHCL", dataset, config_dict=settings)
    view = train_view(load_data(config)[1][0]._dataset)
    folder = Path(config["data_path"])
    context = StageContext(view, folder / f"{dataset}.item", folder / "features")
    stages = order_stages(["features"], config.final_config_dict)
    found = run_stages(stages, context, ArtifactStore(Path(config["stage_cache_dir"])))[0]["features"]
    arrays: Arrays = {"users": view.user.numpy(), "items": view.item.numpy(),
                      "sizes": np.array([view.n_users, view.n_items])}  # fmt: skip
    names = [name for name in found if not name.endswith(".present") and f"{name}.present" in found]
    for m, name in enumerate(sorted(names)):
        arrays[f"feature_{m}"] = found[name].float().numpy()
        arrays[f"present_{m}"] = found[f"{name}.present"].bool().numpy()
    scratch = Path(path).with_suffix(".tmp.npz")
    np.savez(scratch, **arrays)
    scratch.replace(path)
    return {"modalities": sorted(names)}


@dataclass
class Stage1Inputs:
    """Training interactions and item features.

    Attributes:
        users: User of each training interaction.
        items: Item of each training interaction.
        n_users: User ids, padding included.
        n_items: Item ids, padding included.
        features: By modality: vectors and which items have one.
    """

    users: Tensor
    items: Tensor
    n_users: int
    n_items: int
    features: list[tuple[Tensor, Tensor]]

    @classmethod
    def load(cls, path: str | Path, n_users: int = 0) -> Self:
        """Read a :func:`stage1_file`; with ``n_users`` only the first so many user ids, and only what they took."""
        with np.load(path) as file:
            arrays = {name: torch.from_numpy(file[name]) for name in file.files}
        count = sum(name.startswith("feature_") for name in arrays)
        features = [(arrays[f"feature_{m}"], arrays[f"present_{m}"]) for m in range(count)]
        all_users, all_items = (int(size) for size in arrays["sizes"])
        inputs = cls(arrays["users"], arrays["items"], all_users, all_items, features)
        if 0 < n_users < inputs.n_users:
            inputs._keep_users(n_users)
        return inputs

    def _keep_users(self, n_users: int) -> None:
        kept = self.users < n_users
        self.users, self.n_users = self.users[kept], n_users
        found, place = torch.unique(self.items[kept], return_inverse=True)
        rows = torch.cat([torch.zeros(1, dtype=torch.int64), found])  # row 0 stays the padding item
        self.items, self.n_items = place + 1, len(rows)
        self.features = [(vectors[rows], present[rows]) for vectors, present in self.features]

    def view(self) -> TrainView:
        """Return the interactions as a stage sees them."""
        return TrainView(self.users, self.items, _tokens("u", self.n_users), _tokens("i", self.n_items))

    def as_stage_results(self) -> tuple[tuple[str, ...], dict[str, dict[str, Tensor]]]:
        """Return modality names and what stage ``features`` would hand to stage ``graph``."""
        names = tuple(f"m{m}" for m in range(len(self.features)))
        found: dict[str, Tensor] = {}
        for name, (vectors, present) in zip(names, self.features, strict=True):
            found |= {name: vectors, f"{name}.present": present}
        return names, {"features": found}


def _tokens(letter: str, count: int) -> tuple[str, ...]:
    return ("[PAD]", *(f"{letter}{index}" for index in range(1, count)))
