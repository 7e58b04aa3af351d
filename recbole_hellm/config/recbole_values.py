"""Types and ranges of RecBole's own keys, which RecBole takes as they come and stumbles over later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from recbole.evaluator.register import metric_types

from recbole_hellm import distributed
from recbole_hellm.config.schema import Spec
from recbole_hellm.errors import ConfigError, nearest

WITHOUT_CUTOFF = frozenset({"auc", "gauc", "mae", "rmse", "logloss"})
"""RecBole's metrics of a whole ranking, named without ``@k``."""
BATCH_SIZES = ("train_batch_size", "eval_batch_size")
"""Settings that may be ``auto``."""

FILE_KEYS = ("config", "config_file", "config_files")
"""What the option for yaml files is called somewhere; none of them is a setting."""

PICKLES = ("save_dataset", "dataset_save_path", "save_dataloaders", "dataloaders_save_path")
"""RecBole's settings that write or read pickled data sets."""


@dataclass(frozen=True)
class RecboleSpec(Spec):
    """The keys every run reads, whichever model it trains; RecBole's yaml files give the defaults."""

    epochs: int
    """Passes over the training data."""
    train_batch_size: int
    """Rows per step."""
    eval_batch_size: int
    """Rows per scoring pass."""
    learning_rate: float
    """Peak rate."""
    weight_decay: float
    """L2 penalty of the optimiser."""
    eval_step: int
    """Epochs between validations; 0: none."""
    stopping_step: int
    """Validations without a gain before training stops."""
    seed: int
    """Seed of every random choice."""
    metrics: tuple[str, ...]
    """Names of RecBole's metrics."""
    topk: tuple[int, ...]
    """Lengths of the ranked list."""
    valid_metric: str
    """Metric that chooses the epoch, ``NAME@k``."""
    MAX_ITEM_LIST_LENGTH: int = 50
    """Items of a history."""

    def __post_init__(self) -> None:
        for field in ("train_batch_size", "eval_batch_size", "learning_rate", "MAX_ITEM_LIST_LENGTH"):
            self.require(getattr(self, field) > 0, field, "positive")
        for field in ("epochs", "weight_decay", "eval_step", "stopping_step"):
            self.require(getattr(self, field) >= 0, field, ">= 0")
        self.require(0 <= self.seed < 2**32, "seed", "in [0, 2^32)")
        self.require(len(self.topk) > 0 and min(self.topk, default=0) > 0, "topk", "a list of positive numbers")
        self._check_metrics()

    def _check_metrics(self) -> None:
        self.require(len(self.metrics) > 0, "metrics", "a list of metrics")
        for metric in self.metrics:
            if metric.lower() not in metric_types:
                near = nearest(metric.lower(), metric_types)
                raise ConfigError(
                    f"setting 'metrics' has {metric!r}, which RecBole does not know{near}; "
                    f"known: {', '.join(sorted(metric_types))}"
                )
        measured = [
            name if name.lower() in WITHOUT_CUTOFF else f"{name}@{k}" for name in self.metrics for k in self.topk
        ]
        if self.valid_metric.lower() not in [name.lower() for name in measured]:
            known = list(dict.fromkeys(measured))
            raise ConfigError(
                f"setting 'valid_metric' must be one of {', '.join(known)} (metrics x topk), got {self.valid_metric!r}"
                f"{nearest(self.valid_metric, known)}"
            )


def refuse_files(outside: Mapping[str, Any]) -> None:
    """Refuse names of yaml files among the settings, where nothing reads them.

    Args:
        outside: Settings from files, code and command line.

    Raises:
        ConfigError: Naming the setting and the way out.
    """
    for key in FILE_KEYS:
        if key in outside:
            raise ConfigError(
                f"setting {key!r} = {outside[key]!r} is not read among settings; give yaml files on the command line, "
                "--config_files=a.yaml,b.yaml, or in Python as config_file_list"
            )


def refuse_distribution(outside: Mapping[str, Any]) -> None:
    """Refuse the settings of RecBole's own distribution, which averages metrics with wrong weights.

    Raises:
        ConfigError: Naming the setting and the way out.
    """
    for key in ("world_size", "ip", "port"):
        if outside.get(key) is not None:
            raise ConfigError(
                f"setting {key!r} belongs to RecBole's own distribution, which is not used here; start the processes "
                "with torchrun, or with --nproc=N on one machine"
            )
    if outside.get("nproc") not in (None, 1, distributed.launched()):
        raise ConfigError(
            f"setting 'nproc' = {outside['nproc']!r} can only be given on the command line, --nproc=N, or start the "
            "processes with torchrun"
        )


def check_recbole_values(settings: Mapping[str, Any]) -> None:
    """Check RecBole's own keys.

    Raises:
        ConfigError: Naming the setting, its value and the rule.
    """
    # A batch size may be ``auto`` until a run knows its data and the free memory.
    numbers = {key: 1 for key in BATCH_SIZES if settings.get(key) == "auto"}
    RecboleSpec.from_config({**settings, **numbers})
    if not isinstance(settings["eval_args"], Mapping):
        raise ConfigError(
            f"setting 'eval_args' must be a mapping (split, order, group_by, mode), got {settings['eval_args']!r}"
        )
    for key in PICKLES:
        if settings.get(key):
            raise ConfigError(
                f"setting {key!r} is not for this command: RecBole keeps data sets as pickles, which run code when "
                "they are read; remove it"
            )
    teacher = settings.get("teacher")
    if teacher is not None and not str(teacher).isidentifier():  # RecBole evaluates it as Python code
        raise ConfigError(f"setting 'teacher' must be the name of a model, got {teacher!r}")
    clip = settings.get("clip_grad_norm")
    if clip and not isinstance(clip, Mapping):  # found out by RecBole only after the stages
        raise ConfigError(f"setting 'clip_grad_norm' must be a mapping such as {{max_norm: 1.0}}, got {clip!r}")


def check_loss_type(settings: Mapping[str, Any]) -> None:
    """Check the loss of this package's models.

    Raises:
        ConfigError: If it is none of theirs.
    """
    loss = settings.get("loss_type", "CE")
    if loss not in ("CE", "BPR"):
        raise ConfigError(f"setting 'loss_type' must be one of 'CE', 'BPR', got {loss!r}")
