"""Where the files of a Hugging Face encoder lie, and how they are loaded without any network."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import torch
from safetensors import SafetensorError

from recbole_hellm.errors import DataError, MissingModelError
from recbole_hellm.precision import use_bf16

Precision = Literal["auto", "float32", "bfloat16"]
T = TypeVar("T")
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


def chosen_precision(precision: str, device: str) -> str:
    """Return the type of an encoder's weights, ``float32`` or ``bfloat16``.

    Args:
        precision: One of the two, or ``auto``: ``bfloat16`` where the processor multiplies it natively. Elsewhere it is
            emulated, tens of times slower than ``float32``.
        device: Where the encoder runs.

    Raises:
        ValueError: If ``precision`` is none of them.
    """
    if precision not in get_args(Precision):
        raise ValueError(f"precision must be one of {', '.join(get_args(Precision))}, got {precision!r}")
    if precision == "auto":
        return "bfloat16" if use_bf16("auto", torch.device(device)) else "float32"
    return precision


def model_folder(path: str | Path, kind: str) -> Path:
    """Return ``path`` if it is a folder, else the folder of that model in the local Hugging Face cache.

    Args:
        path: Folder, or ``owner/model``.
        kind: ``text`` or ``image``, for messages.

    Raises:
        MissingModelError: If there is no such model, or the folder lacks configuration or weights.
    """
    folder = Path(path)
    named = isinstance(path, str) and path.count("/") == 1 and not path.startswith((".", "/", "~"))
    if named and not folder.is_dir():
        folder = _cached(str(path), kind)
    if not (folder / "config.json").is_file() or not model_files(folder, *_WEIGHTS):
        raise MissingModelError(
            f"{kind} encoder {folder} is no model folder (config.json and weights): give a downloaded folder"
        )
    return folder


def _cached(name: str, kind: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError) as error:
        raise MissingModelError(
            f"{kind} encoder {name!r} is neither a folder nor a model in the Hugging Face cache: give a folder, or run "
            f"'hf download {name}' once while online"
        ) from error


def model_files(folder: Path, *patterns: str) -> list[Path]:
    """Return the files of ``folder`` that match a pattern, sorted."""
    return sorted(file for pattern in patterns for file in folder.glob(pattern))


def weight_files(folder: Path, *others: str) -> list[Path]:
    """Return the files that decide what the model gives: its weights and ``others``."""
    return model_files(folder, *_WEIGHTS, "config.json", *others)


def read_config(folder: Path) -> dict[str, Any]:
    """Return ``config.json``.

    Raises:
        DataError: If it cannot be read.
    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}): download the model again") from error
    if not isinstance(config, dict):
        raise DataError(f"{path}: no mapping: download the model again")
    return config


def vector_size(folder: Path, kind: str) -> int:
    """Return how many numbers a vector of the model has, as its configuration says.

    Raises:
        DataError: If it does not say.
    """
    config = read_config(folder)
    places = [(config, "projection_dim")] if f"{'vision' if kind == 'image' else 'text'}_config" in config else []
    nested = config.get("vision_config" if kind == "image" else "text_config") or {}
    places += [(config, "hidden_size"), (nested, "projection_size"), (nested, "hidden_size")]
    for holder, key in places:
        if isinstance(holder.get(key), int):
            return int(holder[key])
    sizes = config.get("hidden_sizes")  # of convolutional models
    if isinstance(sizes, list) and sizes:
        return int(sizes[-1])
    raise DataError(f"{folder / 'config.json'}: no 'hidden_size' can be read: not a {kind} encoder")


def loaded(folder: Path, kind: str, load: Callable[[], T]) -> T:
    """Return what ``load`` loads from ``folder``.

    Raises:
        DataError: If it cannot.
    """
    try:
        return load()
    except (OSError, ValueError, KeyError, ImportError, SafetensorError) as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(f"{folder}: the {kind} encoder cannot be loaded ({said}): download it again") from error
