"""One model fitted on one split, and the refit with the validation events."""

from __future__ import annotations

import time
from collections.abc import Mapping
from logging import getLogger
from typing import Any

import numpy as np
from recbole.utils import get_trainer, init_seed

from recbole_hellm import registry
from recbole_hellm.config.recbole_config import HellmConfig
from recbole_hellm.errors import ConfigError
from recbole_hellm.pipeline.base import as_dict
from recbole_hellm.results import peak_memory_mb, reset_peak_memory
from recbole_hellm.run_record import count_interactions
from recbole_hellm.trainer.evaluation import with_ranks
from recbole_hellm.trainer.loading import load_data
from recbole_hellm.trainer.registration import trainer_for
from recbole_hellm.trainer.staged import StagedTrainer

logger = getLogger(__name__)


class Fit:
    """One model fitted on one split: data, trainer, and seconds and memory of the parts.

    Args:
        config: Settings of the run.
        saved: Whether the best model is saved and loaded for the test.
    """

    def __init__(self, config: Any, saved: bool, note: str = "") -> None:
        self.config, self.saved, self.note = config, saved, note
        self.show = bool(config["show_progress"])
        self.records: list[dict[str, Any]] = []
        self._start()
        self.data, self.loaders = load_data(config)
        counts = self.data.user_num - 1, self.data.item_num - 1, count_interactions(self.data)
        logger.info("%d users, %d items, %d interactions", *counts)
        if max(config["topk"]) >= self.data.item_num:
            raise ConfigError(f"setting 'topk' must be at most the {counts[1]} items, got {config['topk']}")
        init_seed(config["seed"], config["reproducibility"])
        net = config.model_class(config, self.loaders[0]._dataset).to(config["device"])
        self.trainer = _trainer_class(config)(config, net)
        self._stop("data and model")

    def run_stages(self) -> None:
        """Run or reuse the stages of a model that has any."""
        if isinstance(self.trainer, StagedTrainer):
            stages = [as_dict(record) for record in self.trainer.run_stages(self.loaders[0])]
            self.records += [{**stage, "name": stage["name"] + self.note} for stage in stages]
            self._start()

    def only_pretrain(self) -> None:
        """End a run after its stages; RecBole's two-stage models (S3Rec, RaCT) save what ``pre_model_path`` names."""
        if not isinstance(self.trainer, StagedTrainer):
            self.trainer.fit(*self.loaders[:2], saved=self.saved, show_progress=self.show)
            self._stop("pretraining")
        logger.info("train_stage=%s: the model itself is not trained", self.config["train_stage"])

    def train(self) -> dict[str, Any]:
        """Train with a choice of the epoch on validation; return what was best."""
        train_data, valid_data, _ = self.loaders
        best, valid = self.trainer.fit(train_data, valid_data, saved=self.saved, show_progress=self.show)
        self._stop("training")
        _log_metrics("best validation", valid or {})
        return {"best_valid_score": best, "best_valid_result": valid, "best_epoch": self.trainer.best_epoch}

    def validate(self) -> dict[str, np.ndarray]:
        """Return the rank of every validation target under the best weights."""
        valid_data = self.loaders[1]
        if not valid_data or not len(valid_data._dataset):
            return {}
        self.trainer.evaluate(valid_data, load_best_model=self.saved, show_progress=self.show)
        return dict(self.trainer.ranks)

    def test(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return metrics and ranks on the test split."""
        result = self.trainer.evaluate(self.loaders[2], load_best_model=self.saved, show_progress=self.show)
        self._stop("evaluation")
        _log_metrics("test", result)
        return result, dict(self.trainer.ranks)

    def test_without_fusion(self) -> dict[str, Any] | None:
        """Return the test metrics of the model's own scores, for comparison alone.

        ``None`` if they are not fused, or were trained to be: what other parts leave ranks nothing by itself. Nor does
        a model that was not trained.
        """
        trainer, model = self.trainer, self.trainer.model
        if getattr(model, "fusion", None) is None:
            return None
        if model.residual is not None or not model.learns:
            logger.info("fusion: %s", model.fusion.in_words(model.list_length))
            return None
        kept = trainer.ranks, trainer.users_per_second
        with model.without_fusion():
            result = trainer.evaluate(self.loaders[2], load_best_model=False, show_progress=self.show)
        trainer.ranks, trainer.users_per_second = kept
        self._stop("evaluation without fusion")
        logger.info("fusion: %s", model.fusion.in_words(model.list_length))
        _log_metrics("test without fusion", result)
        return dict(result)

    def refit(self, settings: Mapping[str, Any], epochs: int | None) -> Fit:
        """Return the model trained again, for ``epochs`` epochs, with the validation events as well."""
        self._stop("evaluation")
        again = Fit(_changed(self.config, settings), self.saved, note=" (refit)")
        again.run_stages()
        if isinstance(self.trainer, StagedTrainer):
            again.trainer.model.keep_choices(self.trainer.model)
        if epochs is not None:
            ran, planned = len(self.trainer.epoch_records), self.trainer.epochs
            again.trainer.planned_epochs = ran if self.trainer.time_share else planned
            again.trainer.epochs = epochs
        logger.info("fit_on=train+valid: training again for %d epochs with the validation events", again.trainer.epochs)
        again.trainer.fit(again.loaders[0], None, saved=self.saved, show_progress=self.show)
        again._stop("training")
        return again

    def _start(self) -> None:
        reset_peak_memory()
        self._started = time.perf_counter()

    def _stop(self, name: str) -> None:
        seconds = time.perf_counter() - self._started
        record = {"name": name + self.note, "status": "ran", "seconds": seconds, "computed_seconds": seconds}
        self.records.append({**record, "peak_memory_mb": peak_memory_mb()})
        self._start()


def refit_settings(config: Any) -> dict[str, Any]:
    """Return what changes when the validation events join the training events.

    Raises:
        ConfigError: If the split keeps no single event a user for validation.
    """
    split = (config["eval_args"] or {}).get("split")
    if split != {"LS": "valid_and_test"}:
        raise ConfigError(
            f"setting 'fit_on' = 'train+valid' needs eval_args split {{LS: valid_and_test}}, got {split!r}; set "
            "fit_on=train"
        )
    # An interrupted run need not have come as far as its second training.
    resume = "auto" if config["resume"] in ("yes", True) else config["resume"]
    eval_args = {**config["eval_args"], "split": {"LS": "test_only"}}
    return {"eval_args": eval_args, "train_minutes": 0.0, "resume": resume}


def _changed(config: HellmConfig, settings: Mapping[str, Any]) -> HellmConfig:
    """Return ``config`` with other values of some settings."""
    outside = {**config.external_config_dict, "data_path": config["data_path_root"], **settings}
    return HellmConfig(config["model"], config["dataset"], config_dict=outside)


def _log_metrics(name: str, metrics: Mapping[str, Any]) -> None:
    logger.info("%s: %s", name, ", ".join(f"{key} {float(value):.4f}" for key, value in metrics.items()))


def _trainer_class(config: Any) -> Any:
    name = config["model"]
    return trainer_for(name) if name in registry.models else with_ranks(get_trainer(config["MODEL_TYPE"], name))
