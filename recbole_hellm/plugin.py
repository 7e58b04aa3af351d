"""Make this package's models known to RecBole, so that its own entry points run them unmodified."""

from __future__ import annotations

import functools
import importlib.util
import sys
from logging import getLogger
from pathlib import Path
from types import ModuleType
from typing import Any

from recbole_hellm import compat, registry
from recbole_hellm.errors import ConfigError

logger = getLogger(__name__)
GENERAL, SEQUENTIAL = "general_recommender", "sequential_recommender"
BUILT_IN = {"HeLLM": SEQUENTIAL, "MMHCL": GENERAL, "TransitionCounts": SEQUENTIAL}
"""RecBole's folder of each model, known without importing it."""


class _ModelModule(ModuleType):
    """Stands where RecBole looks for a model's module; loads the class when asked for it."""

    def __init__(self, name: str, model: str) -> None:
        super().__init__(name, doc=f"{model}, registered by recbole_hellm.")
        self.__spec__ = importlib.util.spec_from_loader(name, loader=None)
        self._model = model

    def __getattr__(self, attribute: str) -> Any:
        if attribute == self.__dict__.get("_model"):
            return registry.models.get(attribute)
        raise AttributeError(f"module {self.__name__!r} has no attribute {attribute!r}")


def register() -> None:
    """Put every registered model, its trainer, its data set and its settings where RecBole looks for them.

    Idempotent. Models that are added to :data:`recbole_hellm.registry.models` later follow by themselves.
    """
    _add_variant_files()
    if register not in registry.models.listeners:
        registry.models.listeners.append(register)
    for name in registry.models:
        module = f"recbole.model.{_kind(name)}.{name.lower()}"
        sys.modules.setdefault(module, _ModelModule(module, name))
    _register_trainers()
    _register_datasets()
    _hook_settings()
    _hook_reading()


def _add_variant_files() -> None:
    """Make a model of every file of ``properties/model/`` that names a ``base_model``."""
    from recbole_hellm.config.layers import add_variant_file, variant_files

    for name in variant_files():
        if name not in registry.models:
            try:
                add_variant_file(name)
            except ConfigError as error:  # asked for by its name, it is refused with the same words
                logger.warning("model %s is left out: %s", name, error)


def _kind(name: str) -> str:
    if name in BUILT_IN:
        return BUILT_IN[name]
    from recbole.utils import ModelType

    return SEQUENTIAL if registry.models.get(name).type == ModelType.SEQUENTIAL else GENERAL


def _register_trainers() -> None:
    import recbole.trainer

    from recbole_hellm.trainer.registration import trainer_for

    for name in registry.models:
        attribute = f"{name}Trainer"
        if not hasattr(recbole.trainer, attribute):
            setattr(recbole.trainer, attribute, trainer_for(name))


def _register_datasets() -> None:
    import recbole.data.dataset as datasets

    from recbole_hellm.trainer.datasets import HellmDataset, HellmSequentialDataset

    for name in registry.models:
        chosen = HellmSequentialDataset if _kind(name) == SEQUENTIAL else HellmDataset
        if not hasattr(datasets, f"{name}Dataset"):
            setattr(datasets, f"{name}Dataset", chosen)


def _hook_settings() -> None:
    """Let RecBole's ``Config`` read this package's yaml files for this package's models, and only for them."""
    from recbole.config import Config

    from recbole_hellm.config.layers import layered_settings

    original = Config._load_internal_config_dict
    if getattr(original, "_recbole_hellm", False):
        return

    @functools.wraps(original)
    def load(self: Any, model: str, model_class: Any, dataset: str) -> None:
        original(self, model, model_class, dataset)
        if model in registry.models:
            current, outside = self.internal_config_dict, self.external_config_dict
            current.update(layered_settings(model, model_class, dataset, current, outside))

    load._recbole_hellm = True  # type: ignore[attr-defined]
    Config._load_internal_config_dict = load


def _hook_reading() -> None:
    """Let RecBole's functions read this package's checkpoints; the readers load when first used."""
    from recbole_hellm.checkpoints.folders import MANIFEST

    def read_folder(path: Any, map_location: Any) -> Any:
        from recbole_hellm.trainer.recbole_format import as_recbole_checkpoint

        return as_recbole_checkpoint(path, map_location)

    def read_pickle(path: Any, map_location: Any) -> Any:
        from recbole_hellm.checkpoints.pickles import read_pickle

        return read_pickle(Path(path), map_location or "cpu")

    compat.READING.is_folder = lambda path: isinstance(path, str | Path) and (Path(path) / MANIFEST).is_file()
    compat.READING.read_folder, compat.READING.read_pickle = read_folder, read_pickle
