"""One call that trains and tests one model, ours or RecBole's."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from logging import getLogger
from pathlib import Path
from typing import Any

import numpy as np
from recbole.utils import get_trainer, init_logger, init_seed

from recbole_hellm import plugin, registry
from recbole_hellm.artifacts import fingerprint
from recbole_hellm.config.recbole_config import HellmConfig
from recbole_hellm.config.specs import RunSpec
from recbole_hellm.data.prepare import DATASETS, prepare
from recbole_hellm.errors import ConfigError, DataError, nearest
from recbole_hellm.pipeline.base import as_dict
from recbole_hellm.results import (
    check_writable,
    commit,
    hardware,
    peak_memory_mb,
    reset_peak_memory,
    versions,
    write_result,
)
from recbole_hellm.trainer.evaluation import with_ranks
from recbole_hellm.trainer.loading import load_data
from recbole_hellm.trainer.registration import trainer_for
from recbole_hellm.trainer.staged import StagedTrainer
from recbole_hellm.views import first_rows, train_view

logger = getLogger(__name__)
SHIPPED = "ml-100k"
"""The data set that comes with RecBole, so that preparing it downloads nothing."""


def run_recbole_hellm(
    model: str | type | None = None,
    dataset: str | None = None,
    config_file_list: Sequence[str | Path] | None = None,
    config_dict: Mapping[str, Any] | None = None,
    saved: bool = True,
    argv: Sequence[str] = (),
) -> dict[str, Any]:
    """Train ``model`` on ``dataset`` and test it; arguments and result as RecBole's ``run_recbole``, and more.

    Args:
        model: Name of a model of this package or of RecBole, or a class.
        dataset: Name of a data set under ``data_path``.
        config_file_list: Yaml files with settings.
        config_dict: Settings.
        saved: Whether the best model is saved and loaded for the test.
        argv: ``--key=value`` arguments.

    Returns:
        ``best_valid_score``, ``valid_score_bigger``, ``best_valid_result``, ``test_result`` (``None`` with
        ``train_stage=pretrain``), ``stages``, ``result_file``, ``trainer``, ``config``.

    Raises:
        HellmError: If a setting, a data file or a stored result is wrong; one line that names it.
    """
    if isinstance(model, type):
        model = _registered(model)
    config = HellmConfig(model, dataset, config_file_list, config_dict, argv)
    run = RunSpec.from_config(config.final_config_dict)
    ensure_prepared(config)
    path = Path(run.result_file or f"results/{config['model']}-{config['dataset']}-{config['seed']}-{_now()}.json")
    check_writable(path)
    init_seed(config["seed"], config["reproducibility"])
    init_logger(config)
    logger.info("model %s, data set %s in %s, seed %s", *(config[k] for k in ("model", "dataset", "data_path", "seed")))
    clock, code = _Clock(), commit()  # the code as it was loaded, whatever is committed during a long run
    data, (train_data, valid_data, test_data) = load_data(config)
    logger.info("%d users, %d items, %d interactions", data.user_num - 1, data.item_num - 1, _interactions(data))
    if max(config["topk"]) >= data.item_num:
        raise ConfigError(f"setting 'topk' must be at most the {data.item_num - 1} items, got {config['topk']}")
    init_seed(config["seed"], config["reproducibility"])
    net = config.model_class(config, train_data._dataset).to(config["device"])
    trainer = _trainer_class(config)(config, net)
    clock.stop("data and model")
    outcome: dict[str, Any] = {
        "best_valid_score": None,
        "valid_score_bigger": config["valid_metric_bigger"],
        "best_valid_result": None,
        "test_result": None,
    }
    if isinstance(trainer, StagedTrainer):
        clock.records += [as_dict(record) for record in trainer.run_stages(train_data)]
        clock.start()
    elif run.only_pretrains:  # RecBole's two-stage models (S3Rec, RaCT) save what pre_model_path names
        trainer.fit(train_data, valid_data, saved=saved, show_progress=config["show_progress"])
        clock.stop("pretraining")
    ranks: dict[str, dict[str, np.ndarray]] = {}
    if run.only_pretrains:
        logger.info("train_stage=%s: the model itself is not trained", run.train_stage)
    else:
        ranks = _train_and_test(config, trainer, (train_data, valid_data, test_data), saved, outcome, clock)
    write_result(path, {**_about(config, data, net, trainer, clock.records), "commit": code, **outcome}, ranks)
    logger.info("result written to %s", path)
    return {**outcome, "stages": clock.records, "result_file": str(path), "trainer": trainer, "config": config}


def _train_and_test(
    config: Any, trainer: Any, loaders: tuple[Any, Any, Any], saved: bool, outcome: dict[str, Any], clock: _Clock
) -> dict[str, dict[str, np.ndarray]]:
    """Train, fill in the metrics of ``outcome``, and return the ranks by phase."""
    train_data, valid_data, test_data = loaders
    show = bool(config["show_progress"])
    best, valid = trainer.fit(train_data, valid_data, saved=saved, show_progress=show)
    clock.stop("training")
    ranks = {}
    if valid_data and len(valid_data._dataset):
        trainer.evaluate(valid_data, load_best_model=saved, show_progress=show)
        ranks["valid"] = trainer.ranks
    test = trainer.evaluate(test_data, load_best_model=saved, show_progress=show)
    ranks["test"] = trainer.ranks
    clock.stop("evaluation")
    outcome.update(best_valid_score=best, best_valid_result=valid, test_result=test)
    for name, metrics in (("best validation", valid or {}), ("test", test)):
        logger.info("%s: %s", name, ", ".join(f"{key} {float(value):.4f}" for key, value in metrics.items()))
    return ranks


class _Clock:
    """Seconds and peak memory of the parts of a run that are no stages."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.start()

    def start(self) -> None:
        reset_peak_memory()
        self._started = time.perf_counter()

    def stop(self, name: str) -> None:
        seconds = time.perf_counter() - self._started
        self.records.append({"name": name, "status": "ran", "seconds": seconds, "peak_memory_mb": peak_memory_mb()})
        self.start()


def _registered(model: type) -> str:
    """Return the name of a model class, registering it if it is new."""
    name = model.__name__
    if model.__module__.startswith("recbole.model."):
        return name  # RecBole knows its own, and which trainer each of them needs
    if name not in registry.models:
        registry.models.add(name, model)
    elif registry.models.get(name) is not model:
        raise ConfigError(
            f"model {name!r} is already registered with another class; choose another name, or call "
            f"recbole_hellm.registry.models.remove({name!r}) first"
        )
    plugin.register()
    return name


def _trainer_class(config: Any) -> Any:
    name = config["model"]
    return trainer_for(name) if name in registry.models else with_ranks(get_trainer(config["MODEL_TYPE"], name))


def ensure_prepared(config: Any) -> None:
    """Check that the data set lies where RecBole will look; prepare it where its source is at hand.

    Nothing is ever downloaded.

    Raises:
        DataError: If the data set is not there; the message names the command that makes it.
    """
    name, folder = config["dataset"], Path(config["data_path"])
    if (folder / f"{name}.inter").is_file():
        return
    source = config["source"]
    root = Path(config["data_path_root"])
    if name == SHIPPED or (name in DATASETS and source):
        prepare(name, Path(source) if source else None, root)
        return
    if name in DATASETS:
        raise DataError(
            f"data set {name!r} is not in {folder}; run: recbole-hellm prepare {name} --source DIR --output {root} "
            "(or add --source=DIR to this command)"
        )
    raise DataError(
        f"data set {name!r} is not in {folder}: {name}.inter does not exist{nearest(name, DATASETS)}; put RecBole's "
        f"atomic files there or set data_path; known to 'recbole-hellm prepare': {', '.join(DATASETS)}"
    )


def _now() -> str:
    return datetime.now().strftime("%Y%m%d-%H%M%S")


def _interactions(data: Any) -> int:
    """Count the interactions of a data set, those included that RecBole's rows (history, next item) hide."""
    feat, length = data.inter_feat, getattr(data, "item_list_length_field", None)
    hidden = 0 if length is None else len(first_rows(feat[data.uid_field], feat[length]))
    return len(feat) + hidden + len(getattr(data, "single_interactions", ()))


def _about(config: Any, data: Any, net: Any, trainer: Any, stages: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what identifies a run."""
    settings = {key: value for key, value in config.final_config_dict.items() if key != "device"}
    parameters = list(net.parameters())
    mask = RunSpec.from_config(settings).mask_history
    general = config["MODEL_TYPE"].name == "GENERAL"
    return {
        "model": config["model"],
        "dataset": config["dataset"],
        "seed": config["seed"],
        "protocol": {
            "split": settings["eval_args"],
            "history_masked": general if mask == "auto" else mask == "yes",
            "fitted_on": "train",
            "selected_on": "valid",
            "loss": settings.get("loss_type"),
            "max_length": settings.get("MAX_ITEM_LIST_LENGTH"),
        },
        "data": {
            "n_users": data.user_num - 1,
            "n_items": data.item_num - 1,
            "fingerprint": _data_fingerprint(data),
        },
        "parameters": {
            "trained": sum(p.numel() for p in parameters if p.requires_grad),
            "total": sum(p.numel() for p in parameters),
        },
        "evaluation_users_per_second": trainer.users_per_second,
        "training_loss": [float(loss) for loss in trainer.train_loss_dict.values()],
        "stages": stages,
        "settings": settings,
        "versions": versions(),
        "hardware": hardware(),
        "time": datetime.now().isoformat(timespec="seconds"),
    }


def _data_fingerprint(data: Any) -> str:
    """Digest of every (user, item) event by token, each user's in time order: the same for every model."""
    view = train_view(data)  # nothing is split off yet: all events
    users, items = np.asarray(view.user_tokens)[view.user], np.asarray(view.item_tokens)[view.item]
    order = np.argsort(users, kind="stable")
    return fingerprint(users=users[order].tolist(), items=items[order].tolist())
