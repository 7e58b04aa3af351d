"""What identifies a run and what it cost, for its result file."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np

from recbole_hellm.artifacts import fingerprint
from recbole_hellm.config.specs import RunSpec
from recbole_hellm.data.fingerprint import events_digest
from recbole_hellm.results import hardware, versions
from recbole_hellm.trainer.epochs import as_curve
from recbole_hellm.views import first_rows, train_view

Loaders = tuple[Any, Any, Any]
"""RecBole's training, validation and test loader."""


def describe_run(
    config: Any, data: Any, loaders: Loaders, trainer: Any, stages: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return what identifies a run: protocol, data, cost, settings, versions.

    Args:
        config: Its settings.
        data: RecBole's data set before the split.
        loaders: After the split on which the epoch was chosen.
        trainer: The trainer that trained the tested model.
        stages: Seconds and memory by part of the run.
    """
    settings = {key: value for key, value in config.final_config_dict.items() if key != "device"}
    parameters, learns = list(trainer.model.parameters()), getattr(trainer.model, "learns", True)
    return {
        "model": config["model"],
        "dataset": config["dataset"],
        "seed": config["seed"],
        "protocol": protocol(config, trainer.best_epoch),
        "data": {
            "n_users": data.user_num - 1,
            "n_items": data.item_num - 1,
            "fingerprint": events_fingerprint(data),
            "split": split_fingerprint(loaders),
            "items": fingerprint(items=sorted(str(token) for token in data.field2id_token[data.iid_field])),
        },
        "parameters": {
            "trained": sum(p.numel() for p in parameters if p.requires_grad and learns),
            "total": sum(p.numel() for p in parameters),
        },
        "evaluation_users_per_second": trainer.users_per_second,
        "training_samples_per_second": _samples_per_second(loaders[0], trainer) if learns else None,
        "training_loss": [float(loss) for loss in trainer.train_loss_dict.values()],
        "stages": stages,
        "peak_memory_mb": max((stage["peak_memory_mb"] for stage in stages), default=None),
        "settings": settings,
        "versions": versions(),
        "hardware": hardware(),
        "time": datetime.now().isoformat(timespec="seconds"),
    }


def protocol(config: Any, best_epoch: int | None) -> dict[str, Any]:
    """Return the switches that move a result more than most models do.

    Args:
        config: Settings of the run.
        best_epoch: The epoch that validation chose, ``None`` if nothing was validated.
    """
    settings = config.final_config_dict
    run = RunSpec.from_config(settings)
    sequential = config["MODEL_TYPE"].name == "SEQUENTIAL"
    recbole_masks = not sequential and not settings.get("repeatable")
    loss = settings.get("loss_type") or {"PAIRWISE": "BPR"}.get(config["MODEL_INPUT_TYPE"].name)
    return {
        "split": settings["eval_args"],
        "history_masked": recbole_masks if run.mask_history == "auto" else run.mask_history == "yes",
        "fitted_on": run.fit_on,
        "selected_on": "last epoch" if best_epoch is None else "valid",
        "loss": loss,
        "max_length": settings.get("MAX_ITEM_LIST_LENGTH") if sequential else None,
        "minutes": run.train_minutes or None,
    }


def describe_fusion(model: Any) -> dict[str, Any] | None:
    """Return the weights of a model's fused scores and what they are worth; ``None`` if they are not fused."""
    fusion = getattr(model, "fusion", None)
    if fusion is None:
        return None
    n_cases, alone, fused = fusion.worth.tolist()
    metric = f"ndcg@{model.list_length}"
    chosen_on = {"split": "valid", "histories": int(n_cases), f"{metric}_alone": alone, f"{metric}_fused": fused}
    return {"weights": fusion.used(), "chosen_on": chosen_on}


def curves(trainer: Any) -> dict[str, Any]:
    """Return the training curves of a run: loss and validation metrics by epoch, and the losses of its stages."""
    stages = {record.name: list(record.loss) for record in getattr(trainer, "stage_records", ()) if record.loss}
    return {"training": as_curve(getattr(trainer, "epoch_records", [])), **stages}


def count_interactions(data: Any) -> int:
    """Count the interactions of a data set, those included that RecBole's rows (history, next item) hide."""
    feat, length = data.inter_feat, getattr(data, "item_list_length_field", None)
    hidden = 0 if length is None else len(first_rows(feat[data.uid_field], feat[length]))
    return len(feat) + hidden + len(getattr(data, "single_interactions", ()))


def _samples_per_second(train_data: Any, trainer: Any) -> float | None:
    """Return training targets per second of the training passes, evaluation left out."""
    seconds = [record.seconds for record in getattr(trainer, "epoch_records", [])]
    rows = len(train_data._dataset.inter_feat)
    return rows * len(seconds) / sum(seconds) if sum(seconds) > 0 else None


def events_fingerprint(data: Any) -> str:
    """Digest of every (user, item) event by token, each user's in time order: the same for every model."""
    view = train_view(data)  # nothing is split off yet: all events
    return events_digest(view.user.numpy(), view.item.numpy(), view.user_tokens, view.item_tokens)


def split_fingerprint(loaders: Loaders) -> str:
    """Digest of the events of training, validation and test by token: the same for every model on one split."""
    train, valid, test = loaders
    view = train_view(train._dataset)
    parts = {"train": (np.asarray(view.user_tokens)[view.user], np.asarray(view.item_tokens)[view.item])}
    for name, loader in (("valid", valid), ("test", test)):
        parts[name] = events(loader._dataset) if loader is not None else (np.empty(0, str), np.empty(0, str))
    sorted_events = {}
    for name, (users, items) in parts.items():
        order = np.argsort(users, kind="stable")
        sorted_events[name] = [users[order].tolist(), items[order].tolist()]
    return fingerprint(**sorted_events)


def events(dataset: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return user and item token of each row of a RecBole data set, both ``[N]``."""
    columns = []
    for field in (dataset.uid_field, dataset.iid_field):
        columns.append(np.asarray(dataset.field2id_token[field]).astype(str)[dataset.inter_feat[field].numpy()])
    return columns[0], columns[1]
