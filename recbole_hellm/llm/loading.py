"""Where a decoder's files lie, and how its first layers are loaded from them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from recbole_hellm import assets
from recbole_hellm.errors import ConfigError, MissingModelError, nearest
from recbole_hellm.llm.backbone import Backbone

BUILT_IN = tuple(name for name, asset in assets.ASSETS.items() if asset.decoder)
"""Names of the language models that come with the package."""


def resolve_path(path: str) -> str:
    """Return where a model lies: a built-in one's folder, an existing folder, or a hub name as it is.

    Raises:
        MissingModelError: If a path that looks local does not exist, or a built-in model was not fetched yet.
    """
    if path in assets.ASSETS:
        return str(assets.asset_path(path))
    local = Path(path).expanduser()
    if local.is_dir():
        if not (local / "config.json").is_file():
            raise MissingModelError(f"setting 'llm_path': folder {local} has no config.json; give a model's own folder")
        return str(local)
    if path.startswith((".", "/", "~")) or path.count("/") != 1:
        raise MissingModelError(
            f"setting 'llm_path': {path!r} is no folder{nearest(path, BUILT_IN)}; give a folder with config.json, "
            f"a hub name such as 'owner/model', or a built-in one: {', '.join(BUILT_IN)}"
        )
    return path


def load_backbone(path: str, layers: int, pretrained: bool, attention: str, seed: int) -> Backbone:
    """Load a decoder's first layers, frozen, in float32.

    Args:
        path: Built-in name, folder, or hub name.
        layers: Layers to keep from the input side; -1: all.
        pretrained: ``False`` gives random weights of the same shape.
        attention: ``"eager"`` or ``"sdpa"``.
        seed: Seed of random weights.

    Raises:
        MissingModelError: If there is no such model.
        ConfigError: If it has fewer layers.
    """
    from transformers import AutoConfig, AutoModel

    with _loading(path) as where:
        config = AutoConfig.from_pretrained(where, trust_remote_code=False)
        keep_layers(config, layers)
        if pretrained:
            model = AutoModel.from_pretrained(
                where, config=config, dtype=torch.float32, attn_implementation=attention, trust_remote_code=False
            )
        else:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                model = AutoModel.from_config(config, dtype=torch.float32, attn_implementation=attention)
    return Backbone(model)


def load_width(path: str) -> int:
    """Return the hidden size of a decoder; reads its ``config.json`` and no weights.

    Raises:
        MissingModelError: If there is no such model.
    """
    from transformers import AutoConfig

    with _loading(path) as where:
        return int(AutoConfig.from_pretrained(where, trust_remote_code=False).hidden_size)


@contextmanager
def _loading(path: str) -> Iterator[str]:
    """Give where a model lies; inside, transformers is quiet and its errors become one line."""
    from transformers.utils import logging

    where = resolve_path(path)
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # the layers left out would be listed as unexpected weights
    logging.disable_progress_bar()
    try:
        yield where
    except ConfigError:
        raise
    except (OSError, ValueError, SafetensorError) as error:  # missing, no known model type, damaged
        raise MissingModelError(
            f"setting 'llm_path': {path!r} cannot be loaded ({str(error).splitlines()[0]}); give a folder with "
            f"config.json and weights, or a built-in model: {', '.join(BUILT_IN)}"
        ) from error
    finally:
        logging.set_verbosity(verbosity)
        logging.enable_progress_bar()


def keep_layers(config: Any, layers: int) -> None:
    """Cut a model's configuration to its first ``layers`` layers; -1 keeps all.

    Raises:
        ConfigError: If the model has fewer.
    """
    if layers == -1:
        return
    if layers > config.num_hidden_layers:
        raise ConfigError(f"setting 'llm_layers' must be at most {config.num_hidden_layers}, got {layers}")
    config.num_hidden_layers = layers
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:layers]
