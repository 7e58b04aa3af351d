"""The built-in image encoder: EfficientNet-lite0 without its classifier."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from logging import getLogger
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from recbole_hellm.assets import asset_path
from recbole_hellm.encoders.base import settings_digest
from recbole_hellm.encoders.folders import Precision, chosen_precision, loaded

if TYPE_CHECKING:
    from PIL import Image

logger = getLogger(__name__)

_STAGES = ((3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3), (5, 1, 6, 112, 3), (5, 2, 6, 192, 4),
           (3, 1, 6, 320, 1))  # fmt: skip
"""Kernel, first stride, expansion, channels and blocks of each stage."""
_STEM, _WIDTH = 32, 1280
_SIDE, _BORDER = 224, 32


class _Convolution(nn.Module):
    """A convolution padded as TensorFlow does: what is odd goes to the right and to the bottom."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs // groups, kernel, kernel))
        self.bias = nn.Parameter(torch.empty(outputs))
        self.kernel, self.stride, self.groups = kernel, stride, groups

    def forward(self, x: Tensor) -> Tensor:
        """Return shape ``[B, outputs, ceil(H / stride), ceil(W / stride)]``."""
        height, width = (
            max((-(-size // self.stride) - 1) * self.stride + self.kernel - size, 0) for size in x.shape[-2:]
        )
        if height or width:
            x = functional.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))
        return functional.conv2d(x, self.weight, self.bias, self.stride, groups=self.groups)


class _Block(nn.Module):
    """Inverted residual: widen, filter each channel, narrow."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.expand = _Convolution(inputs, inner, 1) if expansion > 1 else None
        self.depth = _Convolution(inner, inner, kernel, stride, groups=inner)
        self.project = _Convolution(inner, outputs, 1)
        self.keeps_shape = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Return shape ``[B, outputs, H / stride, W / stride]``."""
        inner = functional.relu6(self.expand(x)) if self.expand is not None else x
        out = self.project(functional.relu6(self.depth(inner)))
        return cast(Tensor, out + x if self.keeps_shape else out)


class EfficientNetLite0(nn.Module):
    """EfficientNet-lite0 (Tan and Le 2019, https://arxiv.org/abs/1905.11946) up to the mean over the last map.

    **Differences:** batch norms are folded into the convolutions; no dropout, no classifier.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = _Convolution(3, _STEM, 3, stride=2)
        blocks, inputs = [], _STEM
        for kernel, stride, expansion, outputs, repeats in _STAGES:
            for repeat in range(repeats):
                blocks.append(_Block(inputs, outputs, kernel, stride if repeat == 0 else 1, expansion))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = _Convolution(inputs, _WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return shape ``[B, 1280]`` for pixels ``[B, 3, H, W]``, scaled as ``(value - 127) / 128``."""
        maps = functional.relu6(self.head(self.blocks(functional.relu6(self.stem(x)))))
        return maps.mean(dim=(2, 3))


class EfficientNetEncoder:
    """The built-in EfficientNet-lite0, trained on ImageNet: the 1280 numbers before its classifier, L2-normalised.

    An image is scaled and the middle 224 x 224 of its 256 x 256 pixels taken, as in the network's own evaluation.

    Args:
        batch_size: Images in a forward pass, >= 1.
        precision: Type of the weights; ``auto``: ``bfloat16``, about twice as fast, where the processor has it.
        device: Where the model runs.

    Raises:
        MissingModelError: If the model was not fetched yet.
        ValueError: If an argument is out of range.
    """

    name = "efficientnet-lite0"
    dim = _WIDTH
    _version = 1

    def __init__(self, batch_size: int = 32, precision: Precision = "auto", device: str = "cpu") -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be >= 1, got {batch_size}")
        self.path = asset_path(self.name)
        self.batch_size = batch_size
        self.precision = chosen_precision(precision, device)
        self.device = device

    @torch.inference_mode()
    def encode(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Return unit vectors, shape ``[n, 1280]``."""
        vectors = np.zeros((len(images), self.dim), dtype=np.float32)
        for start in range(0, len(images), self.batch_size):
            batch = images[start : start + self.batch_size]
            pixels = torch.from_numpy(np.stack([_pixels(image) for image in batch])).permute(0, 3, 1, 2)
            pixels = ((pixels.float() - 127.0) / 128.0).to(self.device, getattr(torch, self.precision))
            found = self._model(pixels.contiguous(memory_format=torch.channels_last)).float()
            vectors[start : start + len(batch)] = functional.normalize(found, dim=1).cpu().numpy()
        return vectors

    @cached_property
    def _model(self) -> EfficientNetLite0:
        logger.info("image encoder %s: loading %s in %s", self.name, self.path, self.precision)

        def load() -> EfficientNetLite0:
            with torch.device("meta"):  # no random weights are drawn, so no global random state is touched
                model = EfficientNetLite0()
            model.load_state_dict(load_file(self.path / "model.safetensors"), assign=True)
            return model

        model = loaded(self.path, "image", load)
        model = model.to(self.device, getattr(torch, self.precision), memory_format=torch.channels_last)  # type: ignore[call-overload]
        return model.eval().requires_grad_(False)

    @cached_property
    def _fingerprint(self) -> str:
        settings = {"encoder": self.name, "version": self._version, "precision": self.precision}
        return settings_digest(settings, [self.path / "model.safetensors"])

    def fingerprint(self) -> str:
        """Return a digest of version, precision and the contents of the weights."""
        return self._fingerprint


def _pixels(image: Image.Image) -> NDArray[np.uint8]:
    """Return the middle of an image as ``[224, 224, 3]``."""
    from PIL import Image

    width, height = image.size
    side = min(width, height) * _SIDE / (_SIDE + _BORDER)
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side)
    cut = image.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BICUBIC, box=box)
    return np.asarray(cut, dtype=np.uint8)
