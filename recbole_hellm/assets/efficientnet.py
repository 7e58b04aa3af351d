"""Converts the checkpoint of EfficientNet-lite0 to safetensors: convolutions with a bias, norms folded in."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from recbole_hellm.errors import DataError

_NORM_EPS = 1e-3
_PARTS = {
    "_conv_stem": ("stem", "_bn0"),
    "_conv_head": ("head", "_bn1"),
    "_expand_conv": ("expand", "_bn0"),
    "_depthwise_conv": ("depth", "_bn1"),
    "_project_conv": ("project", "_bn2"),
}
"""Convolution of the checkpoint to the name it gets here and the norm after it."""
_CONVOLUTIONS = 49
_KEY = re.compile(r"(?:(_blocks\.\d+)\.)?(_\w+)\.weight")


def convert(source: Path, target: Path) -> None:
    """Write ``model.safetensors``: ``stem``, ``blocks.<i>.{expand,depth,project}`` and ``head``, weight and bias each.

    Args:
        source: The checkpoint, a plain mapping of tensors. It is read without running code from it.
        target: Folder to write.

    Raises:
        DataError: If the file is no such checkpoint.
    """
    try:
        state = torch.load(source, map_location="cpu", weights_only=True)
        weights = _folded(state)
    except (pickle.UnpicklingError, RuntimeError, KeyError, AttributeError, EOFError) as error:
        said = str(error).splitlines()[0]
        raise DataError(f"{source}: not the checkpoint of EfficientNet-lite0 ({said})") from error
    target.mkdir(parents=True)
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, target / "model.safetensors")


def _folded(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return every convolution with the norm after it folded into its weight and bias."""
    weights: dict[str, Tensor] = {}
    for key in state:
        found = _KEY.fullmatch(key)
        if found is None or found[2] not in _PARTS:
            continue
        prefix = f"{found[1]}." if found[1] else ""
        name, norm = _PARTS[found[2]]
        gain, shift, mean, variance = (
            state[f"{prefix}{norm}.{part}"].double() for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = gain / torch.sqrt(variance + _NORM_EPS)
        place = prefix.removeprefix("_") + name
        weights[f"{place}.weight"] = (state[key].double() * scale[:, None, None, None]).float()
        weights[f"{place}.bias"] = (shift - mean * scale).float()
    if len(weights) != 2 * _CONVOLUTIONS:
        raise KeyError(f"{len(weights) // 2} convolutions, expected {_CONVOLUTIONS}")
    return weights
