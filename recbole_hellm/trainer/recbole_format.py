"""A model folder as RecBole's own functions want a checkpoint: ``load_data_and_model`` reads it unmodified."""

from __future__ import annotations

from logging import getLogger
from pathlib import Path
from typing import Any

from torch import Tensor

from recbole_hellm.checkpoints.model_folder import read_model
from recbole_hellm.config.recbole_config import HellmConfig
from recbole_hellm.config.recbole_values import FILE_KEYS
from recbole_hellm.errors import ArtifactError
from recbole_hellm.trainer.run_folder import deciding

logger = getLogger(__name__)


def as_recbole_checkpoint(path: Any, map_location: Any = None) -> dict[str, Any]:
    """Return what RecBole's ``torch.load`` of a checkpoint gives: ``config``, ``state_dict``, ``other_parameter``.

    Args:
        path: Folder of a model.
        map_location: Device of the tensors.

    Raises:
        ArtifactError: If the folder is damaged, or its settings mean something else to this version.
    """
    found = read_model(Path(path))
    place = map_location if map_location is not None else "cpu"
    state = {key: tensor.to(place) for key, tensor in found.state.items()}
    other = {key: value.to(place) if isinstance(value, Tensor) else value for key, value in found.other.items()}
    about = dict(found.about)
    return {
        "config": rebuilt_config(Path(path), dict(found.settings)),
        "epoch": int(about.get("epoch", 0)) - 1,
        "cur_step": 0,
        "best_valid_score": about.get("best_valid_score"),
        "state_dict": state,
        "other_parameter": other or None,
    }


def rebuilt_config(path: Path, settings: dict[str, Any]) -> HellmConfig:
    """Return the configuration a model was trained with, also where a default or a yaml file has changed since.

    Raises:
        ArtifactError: If that cannot be had here, as when a setting is new; the message names a key.
    """
    given, final = dict(settings["given"]), settings["final"]
    given["data_path"] = final.get("data_path_root") or given.get("data_path") or "dataset/"
    for key in ("model", "dataset", *FILE_KEYS):  # RecBole's own command keeps the names of the files it has read
        given.pop(key, None)
    config = HellmConfig(settings["model"], settings["dataset"], config_dict=given)
    then, now = deciding(final), deciding(config.final_config_dict)
    if changed := {key: then[key] for key in sorted(now) if key in then and then[key] != now[key]}:
        words = ", ".join(f"{key}={value}" for key, value in changed.items())
        logger.info("%s: as it was trained, not as set today: %s", path, words)
        config = HellmConfig(settings["model"], settings["dataset"], config_dict={**given, **changed})
        now = deciding(config.final_config_dict)
    # RecBole writes keys of its own into a configuration during a run (BERT4Rec's MASK_INDEX): those name no setting.
    differ = [key for key in sorted(now) if then.get(key) != now.get(key)]
    if differ:
        key = differ[0]
        raise ArtifactError(
            f"{path} was made with {key}={then.get(key, 'unknown')!r}, and its settings give {now.get(key)!r} here; "
            "load it with the version and files it was made with"
        )
    return config
