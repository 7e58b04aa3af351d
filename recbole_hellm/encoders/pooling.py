"""From the hidden states of a text's tokens to one vector, as a sentence-transformers folder asks for it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor

from recbole_hellm.errors import DataError

PoolingMode = Literal["mean", "cls", "max", "last"]
_FLAGS = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_lasttoken": "last",
}


@dataclass(frozen=True)
class Pooling:
    """How one vector is made of a text."""

    mode: PoolingMode = "mean"
    """Mean or maximum over the tokens, the first token (``cls``), or the last one."""
    normalise: bool = True
    """Whether it is scaled to length 1."""


def read_pooling(folder: Path) -> Pooling:
    """Return the pooling that ``modules.json`` and the pooling module's ``config.json`` of a folder ask for.

    Args:
        folder: Model folder; without ``modules.json`` (a plain Hugging Face model), ``1_Pooling/config.json`` counts
            if there is one, else the mean; normalised in both cases.

    Raises:
        DataError: If the files are broken, or ask for what this package cannot do.
    """
    listed = folder / "modules.json"
    if not listed.is_file():
        alone = folder / "1_Pooling" / "config.json"
        return Pooling(_mode(alone) if alone.is_file() else "mean")
    modules = _read(listed)
    kinds = {str(m.get("type", "")).rpartition(".")[2]: str(m.get("path", "")) for m in modules if isinstance(m, dict)}
    foreign = sorted(set(kinds) - {"Transformer", "Pooling", "Normalize", "Dropout"})
    if foreign or "Pooling" not in kinds:
        said = f"has a module {foreign[0]!r}" if foreign else "has no module 'Pooling'"
        raise DataError(
            f"{listed}: {said}, which this package cannot run: set text_pooling to mean, cls, max or last to pool "
            "its hidden states that way instead"
        )
    return Pooling(_mode(folder / kinds["Pooling"] / "config.json"), "Normalize" in kinds)


def _mode(path: Path) -> PoolingMode:
    """Read the pooling of a pooling module's configuration."""
    config = _read(path)
    if not isinstance(config, dict):
        raise DataError(f"{path}: no mapping: download the model again")
    flags = [str(key) for key, on in config.items() if str(key).startswith("pooling_mode_") and on is True]
    asked: list[str] = [_FLAGS.get(key, key) for key in flags]
    named = config.get("pooling_mode")
    asked += [str(named).removesuffix("token").removesuffix("_")] if isinstance(named, str) else []
    if len(asked) == 1 and asked[0] in get_args(PoolingMode):
        return cast(PoolingMode, asked[0])
    raise DataError(
        f"{path}: asks for pooling {' and '.join(asked) or 'of no kind'}, known are one of "
        f"{', '.join(get_args(PoolingMode))}: set text_pooling to one of them"
    )


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}): download the model again") from error


def pool(hidden: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """Make one vector of each text.

    Args:
        hidden: Hidden states, shape ``[B, L, D]``.
        mask: 1 for tokens of the text, 0 for padding on either side, shape ``[B, L]``; at least one 1 a row.
        pooling: How.

    Returns:
        Shape ``[B, D]``.
    """
    inside = mask.bool().unsqueeze(-1)
    rows = torch.arange(len(mask), device=mask.device)
    if pooling.mode == "mean":
        pooled = (hidden * inside).sum(dim=1) / inside.sum(dim=1).clamp(min=1)
    elif pooling.mode == "max":
        pooled = hidden.masked_fill(~inside, -torch.inf).amax(dim=1)
    elif pooling.mode == "cls":
        pooled = hidden[rows, mask.long().argmax(dim=1)]
    else:
        places = torch.arange(mask.size(1), device=mask.device)
        pooled = hidden[rows, (mask.long() * places).argmax(dim=1)]
    return torch.nn.functional.normalize(pooled, dim=1) if pooling.normalise else pooled


def chosen_pooling(folder: Path, mode: str, normalise: str) -> Pooling:
    """Return the pooling of settings, ``auto`` meaning what the folder asks for.

    Args:
        folder: Model folder.
        mode: ``auto`` or a :data:`PoolingMode`.
        normalise: ``auto``, ``yes`` or ``no``.

    Raises:
        ValueError: If ``mode`` or ``normalise`` is no such word.
        DataError: As :func:`read_pooling`; a mode that is given needs no readable ``modules.json``.
    """
    if mode not in ("auto", *get_args(PoolingMode)):
        raise ValueError(f"pooling must be one of auto, {', '.join(get_args(PoolingMode))}, got {mode!r}")
    if normalise not in ("auto", "yes", "no"):
        raise ValueError(f"normalise must be one of auto, yes, no, got {normalise!r}")
    own = read_pooling(folder) if mode == "auto" else Pooling(cast(PoolingMode, mode))
    return own if normalise == "auto" else Pooling(own.mode, normalise == "yes")
