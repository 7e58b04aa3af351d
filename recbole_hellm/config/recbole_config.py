"""RecBole's ``Config`` with this package's yaml files, safe command-line values and a check for unknown keys."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from recbole.config import Config
from recbole.utils import get_model as get_recbole_model

from recbole_hellm import distributed, registry
from recbole_hellm.config.layers import (
    add_variant_file,
    layered_settings,
    merged,
    parse_yaml,
    preset_settings,
    read_yaml,
    variant_files,
)
from recbole_hellm.config.recbole_values import (
    check_loss_type,
    check_recbole_values,
    refuse_distribution,
    refuse_files,
)
from recbole_hellm.config.specs import SPECS, check_recbole_keys, check_together
from recbole_hellm.distributed.accelerate_config import launched_settings
from recbole_hellm.errors import ConfigError, nearest

__all__ = [
    "FRAMEWORK_KEYS",
    "HellmConfig",
    "find_model",
    "layered_settings",
    "merged",
    "parse_arguments",
    "preset_settings",
    "read_yaml",
    "recbole_model_names",
    "reject_unknown",
]

FRAMEWORK_KEYS = frozenset(
    {"model", "dataset", "config_files", "preset", "source", "loss_type", "nproc", "world_size", "ip", "port"}
)
"""Keys the command line or RecBole reads that stand in no yaml file."""

FLAGS = {"--resume": "--resume=yes"}
"""Arguments that may stand without a value."""


def parse_arguments(argv: Sequence[str]) -> dict[str, Any]:
    """Turn ``--key=value`` arguments into settings; lists may stand unquoted (``--topk=[5,10]``).

    Raises:
        ConfigError: If an argument has another shape, or a key stands twice with different values.
    """
    settings: dict[str, Any] = {}
    for argument in argv:
        key, equals, text = FLAGS.get(argument, argument)[2:].partition("=")
        if not argument.startswith("--") or not equals or not key:
            raise ConfigError(f"argument {argument!r} must have the form --key=value, with '=' and without spaces")
        try:
            value = text if text == "" else parse_yaml(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"argument {argument!r} has a value that is no valid yaml") from error
        value = None if text in ("None", "none", "~") else value
        if key in settings and settings[key] != value:
            raise ConfigError(f"argument '--{key}' is given twice: {settings[key]!r} and {value!r}")
        settings[key] = value
    return settings


class HellmConfig(Config):
    """Settings of one run.

    Later sources win: RecBole's defaults, ``properties/overall.yaml``, ``properties/model/<name>.yaml``,
    ``properties/dataset/<name>.yaml``, the data set's own yaml, the preset, ``config_file_list``, ``config_dict``,
    ``argv``. A model made from another one has the other's yaml and preset, and its own settings after them.

    Args:
        model: Name or class of a model, ours or RecBole's.
        dataset: Name of a data set.
        config_file_list: Yaml files.
        config_dict: Settings.
        argv: ``--key=value`` arguments. ``sys.argv`` is never read.

    Raises:
        ConfigError: If an outside source sets a key nothing reads, or a setting of ours is wrong.
    """

    def __init__(
        self,
        model: str | type | None = None,
        dataset: str | None = None,
        config_file_list: Sequence[str | Path] | None = None,
        config_dict: Mapping[str, Any] | None = None,
        argv: Sequence[str] = (),
    ) -> None:
        self._argv = tuple(argv)
        super().__init__(model, dataset, list(config_file_list or []), dict(config_dict or {}))
        if self.model in registry.models:
            for spec in SPECS:
                spec.from_config(self.final_config_dict)
            check_together(self.final_config_dict)
            check_recbole_keys(self.final_config_dict)
            check_loss_type(self.final_config_dict)

    _loader: type[yaml.FullLoader] | None = None

    def _build_yaml_loader(self) -> Any:
        # RecBole adds its rule for floats to yaml's own class, once more for every Config.
        if HellmConfig._loader is None:
            HellmConfig._loader = super()._build_yaml_loader()
        return HellmConfig._loader

    def _load_cmd_line(self) -> dict[str, Any]:
        return parse_arguments(self._argv)

    def _convert_config_dict(self, config_dict: dict[str, Any]) -> dict[str, Any]:
        return config_dict  # RecBole evaluates every string as Python code

    def _load_config_files(self, file_list: Sequence[str | Path] | None) -> dict[str, Any]:
        settings: dict[str, Any] = {}
        for file in file_list or []:
            settings.update(read_yaml(Path(file)))
        return settings

    def _get_model_and_dataset(self, model: Any, dataset: str | None) -> tuple[str, type, str]:
        model = model if model is not None else self.external_config_dict.get("model")
        dataset = dataset if dataset is not None else self.external_config_dict.get("dataset")
        for key, value in (("model", model), ("dataset", dataset)):
            if not value:
                raise ConfigError(f"setting {key!r} is required: give --{key}=NAME")
        if isinstance(model, str):
            return model, find_model(model), str(dataset)
        return super()._get_model_and_dataset(model, dataset)

    def _load_internal_config_dict(self, model: str, model_class: type, dataset: str) -> None:
        super()._load_internal_config_dict(model, model_class, dataset)
        outside, settings = self.external_config_dict, self.internal_config_dict
        if model not in registry.models:  # for this package's models the plugin's hook in RecBole's Config has done it
            settings.update(layered_settings(model, model_class, dataset, settings, outside))
        known = set(self.internal_config_dict) | FRAMEWORK_KEYS
        known |= {key for spec in SPECS for key in spec.keys()}  # noqa: SIM118 (not a mapping)
        known |= {key for group in self.parameters.values() for key in group}
        refuse_files(outside)
        reject_unknown(outside, known - {"config_file"})
        refuse_distribution(outside)
        settings.update(_asked_by_launcher(outside))

    def _get_final_config_dict(self) -> dict[str, Any]:
        return merged(self.internal_config_dict, self.external_config_dict)

    def _init_device(self) -> None:
        settings = self.final_config_dict
        if distributed.launched() > 1:
            settings["gpu_id"] = own_gpus(settings["gpu_id"], distributed.on_this_machine())
        super()._init_device()
        if distributed.launched() > 1 and settings["device"].type == "cuda":
            settings["device"] = torch.device("cuda", distributed.local_rank())

    def _set_default_parameters(self) -> None:
        check_recbole_values(self.final_config_dict)  # before RecBole stumbles over them
        root = self.final_config_dict["data_path"]
        try:
            super()._set_default_parameters()
        except (ValueError, TypeError, RuntimeError, NotImplementedError) as error:
            raise ConfigError(f"RecBole refuses the settings: {' '.join(str(error).split())}") from error
        self.final_config_dict["data_path_root"] = str(root)
        # RecBole would take its own copy of ml-100k, whose times it then rounds; ours is prepared with exact order.
        self.final_config_dict["data_path"] = str(Path(root) / self.dataset)


def own_gpus(gpu_id: Any, count: int) -> str:
    """Return the GPUs of the processes on this machine, in order; empty: they compute on the processor.

    Raises:
        ConfigError: If more than one is named, but fewer than there are processes.
    """
    named = [str(entry) for entry in (gpu_id if isinstance(gpu_id, list | tuple) else str(gpu_id).split(","))]
    named = [entry for entry in named if entry]
    if len(named) == 1:
        return ",".join(map(str, range(count)))  # RecBole's default names one
    if named and len(named) < count:
        raise ConfigError(
            f"setting 'gpu_id' = {gpu_id!r} names {len(named)} GPUs for {count} processes on this machine; name one "
            "for each, or none"
        )
    return ",".join(named)


def _asked_by_launcher(outside: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``accelerate launch`` asks for, which no setting may contradict."""
    asked = launched_settings(os.environ)
    for key, value in asked.items():
        if outside.get(key, value) != value:
            raise ConfigError(
                f"setting {key!r} = {outside[key]!r} contradicts the config of accelerate launch, which asks for "
                f"{value!r}: remove the setting, or take another config"
            )
    return asked


def find_model(name: str) -> type:
    """Return the model class ``name`` of this package or of RecBole.

    Raises:
        ConfigError: If neither has it; the message has the near name.
    """
    if name not in registry.models and name in variant_files():
        add_variant_file(name)
    if name in registry.models:
        return registry.models.get(name)
    try:
        return get_recbole_model(name)
    except (ValueError, AttributeError, ModuleNotFoundError) as error:
        known = [*registry.models, *recbole_model_names()]
        if isinstance(error, ModuleNotFoundError) and name.lower() in map(str.lower, known):
            raise ConfigError(f"model {name!r} cannot be loaded ({error}); install the missing package") from error
        raise ConfigError(
            f"unknown model {name!r}{nearest(name, known)}; known here: {', '.join(registry.models)}, "
            "and every model of RecBole"
        ) from error


def recbole_model_names() -> list[str]:
    """Return the names of RecBole's models, as its own settings files give them."""
    import recbole

    folder = Path(recbole.__file__).parent / "properties" / "model"
    return sorted(path.stem for path in folder.glob("*.yaml"))


def reject_unknown(given: Mapping[str, Any], known: set[str]) -> None:
    """Raise ``ConfigError`` naming every key of ``given`` that is not in ``known``, with the nearest one."""
    problems = [f"{key!r}{nearest(key, known)}" for key in sorted(set(given) - known)]
    if problems:
        raise ConfigError("unknown setting " + ", ".join(problems))
