"""This package's yaml files: how they are read, and in which order they make up a model's defaults."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from recbole.utils import ModelType
from recbole.utils.argument_list import (
    dataset_arguments,
    evaluation_arguments,
    general_arguments,
    training_arguments,
)

from recbole_hellm import registry
from recbole_hellm.config.resources import properties_dir
from recbole_hellm.config.specs import SPECS
from recbole_hellm.errors import ConfigError, nearest

VARIANT_KEYS = ("base_model", "about")
"""Keys of ``properties/model/<name>.yaml`` that make it a variant of another model; no settings."""
RECBOLE_KEYS = frozenset((*general_arguments, *training_arguments, *evaluation_arguments, *dataset_arguments))


class _Loader(yaml.SafeLoader):
    """Safe yaml that also reads ``1e-3`` as a number, as RecBole's loader does, and takes no key twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Return a mapping; plain yaml would let the last of two equal keys win in silence."""
        if isinstance(node, yaml.MappingNode):
            keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            twice = [key for key in keys if keys.count(key) > 1]
            if twice:
                raise yaml.constructor.ConstructorError(None, None, f"key {twice[0]!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
)


def parse_yaml(text: str) -> Any:
    """Return what yaml text says; raises ``yaml.YAMLError``."""
    return yaml.load(text, Loader=_Loader)  # noqa: S506 (a SafeLoader)


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the settings of a yaml file.

    Raises:
        ConfigError: If the file is missing, is no yaml or holds no mapping.
    """
    if not path.is_file():
        raise ConfigError(f"settings file {path} does not exist; check the path")
    try:
        settings = parse_yaml(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"settings file {path} is no valid yaml: {' '.join(str(error).split())}") from error
    if not isinstance(settings, dict):
        raise ConfigError(f"settings file {path} must hold 'key: value' lines, got a {type(settings).__name__}")
    return settings


def variant_files() -> dict[str, Path]:
    """Return by name the files ``properties/model/<name>.yaml`` that name a ``base_model``."""
    files = sorted((properties_dir() / "model").glob("*.yaml"))
    # Looked for before it is parsed: this runs whenever the package is imported.
    return {path.stem: path for path in files if re.search(rb"^base_model:", path.read_bytes(), re.MULTILINE)}


def add_variant_file(name: str) -> None:
    """Register the model of ``properties/model/<name>.yaml``, and before it the one it is made from.

    Raises:
        ConfigError: If the file is wrong or its base model unknown; the message names the file.
    """
    files = variant_files()
    waiting = [name]
    while True:
        settings = read_yaml(files[waiting[-1]])
        base = settings["base_model"]
        if base in registry.models or base not in files or base in waiting:
            break
        waiting.append(base)
    for stem in reversed(waiting):
        settings = read_yaml(files[stem])
        base, about = (str(settings.pop(key, "") or "") for key in VARIANT_KEYS)
        try:
            registry.models.add_variant(stem, base, settings, about)
        except ConfigError as error:
            raise ConfigError(f"settings file {files[stem]}: {error}") from error


def preset_settings(model: str, preset: str) -> dict[str, Any]:
    """Return the settings of ``properties/preset/<model>-<preset>.yaml``; ``default`` is the model's own yaml.

    A model made from another one has the other's presets as well; its own file of the same name is laid over it.

    Raises:
        ConfigError: If there is no such preset; the message has the near name and all known ones.
    """
    folder, lineage = properties_dir() / "preset", registry.models.lineage(model)
    known = {path.stem.removeprefix(f"{owner}-") for owner in lineage for path in folder.glob(f"{owner}-*.yaml")}
    if preset != "default" and preset not in known:
        names = ", ".join(["default", *sorted(known)])
        raise ConfigError(f"unknown preset {preset!r} of {model}{nearest(preset, known)}; known: {names}")
    settings: dict[str, Any] = {}
    for owner in lineage:
        settings = merged(settings, _preset_of(owner, preset))
    return settings


def _preset_of(owner: str, preset: str) -> dict[str, Any]:
    path = properties_dir() / "preset" / f"{owner}-{preset}.yaml"
    return read_yaml(path) if preset != "default" and path.is_file() else {}


def merged(settings: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``settings`` overridden by ``more``; what ``more`` does not name of ``eval_args`` stays.

    RecBole would fill the rest of ``eval_args`` with its own defaults: a random split in random order.
    """
    both = {**settings, **more}
    here, there = settings.get("eval_args"), more.get("eval_args")
    if isinstance(here, Mapping) and isinstance(there, Mapping):
        both["eval_args"] = {**here, **there}
    return both


def layered_settings(
    model: str, model_class: Any, dataset: str, current: Mapping[str, Any], outside: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what this package's yaml files add to RecBole's settings; later files win.

    Args:
        model: Name of the model.
        model_class: Its class.
        dataset: Name of the data set.
        current: RecBole's own settings.
        outside: Settings from files, code and command line (they win, and choose the preset).

    Raises:
        ConfigError: If a file is wrong, the preset unknown, or a variant has a setting that nothing reads.
    """
    folder, lineage = properties_dir(), registry.models.lineage(model)
    preset = str(outside.get("preset") or "default")
    preset_settings(model, preset)  # refuses an unknown one
    added = read_yaml(folder / "overall.yaml")
    root = outside.get("data_path", {**current, **added}["data_path"])
    for path in (
        folder / "model" / f"{lineage[0]}.yaml",
        folder / "dataset" / f"{dataset}.yaml",  # after the model: it knows which item features there are
        Path(root) / dataset / f"{dataset}.yaml",
    ):
        if path.is_file():
            added = merged(added, read_yaml(path))
    for owner in lineage:
        # What a variant stands for holds on every data set, and whatever its base model's preset says.
        own = registry.models.own_settings(owner)
        _check_variant(owner, own, {*current, *added})
        added = merged(merged(added, own), _preset_of(owner, preset))
    loss = {**current, **added, **outside}.get("loss_type")
    if model_class.type == ModelType.SEQUENTIAL and loss == "CE":
        # RecBole refuses to train with cross-entropy unless its default of one negative is taken back by hand.
        added["train_neg_sample_args"] = None
    return added


def _check_variant(name: str, settings: Mapping[str, Any], known: set[str]) -> None:
    known = known.union({"loss_type"}, RECBOLE_KEYS, *(spec.keys() for spec in SPECS)) - {"config_file"}  # never read
    for key in settings:
        if key not in known:
            raise ConfigError(f"model {name!r} has an unknown setting {key!r}{nearest(key, known)}")
