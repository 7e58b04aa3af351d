"""Pretrained image encoders from any Hugging Face vision, CLIP or SigLIP folder."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from logging import getLogger
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recbole_hellm.encoders.base import settings_digest
from recbole_hellm.encoders.folders import Precision, chosen_precision, loaded, model_folder, vector_size, weight_files

if TYPE_CHECKING:
    from PIL import Image

logger = getLogger(__name__)


class HFImageEncoder:
    """One vector an image, L2-normalised, from any folder that ``AutoModel`` and ``AutoImageProcessor`` load.

    CLIP, SigLIP and their like give their projected image vector; a vision transformer its first (class) token after
    the last norm; a convolutional model the mean over its last map. torchvision is not needed: images go through
    Pillow. Works offline; weights are loaded by the first ``encode``.

    Args:
        path: Folder with ``config.json``, ``preprocessor_config.json`` and weights, or the ``owner/model`` name of one
            in the local Hugging Face cache.
        batch_size: Images in a forward pass, >= 1.
        precision: Type of the weights: ``float32``, ``bfloat16``, or ``auto``: the latter where the processor has it.
        device: Where the model runs.

    Raises:
        MissingModelError: If ``path`` is no such folder and no such model in the cache.
        ValueError: If an argument is out of range.
    """

    _version = 1

    def __init__(
        self, path: str | Path, batch_size: int = 32, precision: Precision = "float32", device: str = "cpu"
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be >= 1, got {batch_size}")
        self.path = model_folder(path, "image")
        self.name = Path(path).name
        self.batch_size = batch_size
        self.precision = chosen_precision(precision, device)
        self.device = device

    @cached_property
    def dim(self) -> int:
        """Numbers a vector has.

        Raises:
            DataError: If ``config.json`` does not say.
        """
        return vector_size(self.path, "image")

    @torch.inference_mode()
    def encode(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Return unit vectors, shape ``[n, dim]``."""
        vectors = np.zeros((len(images), self.dim), dtype=np.float32)
        for start in range(0, len(images), self.batch_size):
            batch = [image.convert("RGB") for image in images[start : start + self.batch_size]]
            processor, model = self._loaded
            pixels = processor(images=batch, return_tensors="pt")["pixel_values"]
            found = _vectors(model, pixels.to(self.device, getattr(torch, self.precision))).float()
            vectors[start : start + len(batch)] = torch.nn.functional.normalize(found, dim=1).cpu().numpy()
        return vectors

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        """Processor and frozen model, loaded without any network."""
        from transformers import AutoImageProcessor, AutoModel  # takes seconds: only when images are encoded

        logger.info("image encoder %s: loading %s in %s", self.name, self.path, self.precision)

        def load() -> tuple[Any, Any]:
            # The default processors of transformers 5 need torchvision; the Pillow ones give the same to a grey level.
            processor: Any = AutoImageProcessor.from_pretrained(
                self.path, local_files_only=True, backend="pil", trust_remote_code=False
            )
            dtype = getattr(torch, self.precision)
            model: Any = AutoModel.from_pretrained(
                self.path, local_files_only=True, dtype=dtype, trust_remote_code=False
            )
            return processor, model.to(self.device).eval().requires_grad_(False)

        return loaded(self.path, "image", load)

    @cached_property
    def _fingerprint(self) -> str:
        settings = {"encoder": "hf-image", "version": self._version, "precision": self.precision}
        return settings_digest(settings, weight_files(self.path, "preprocessor_config.json", "processor_config.json"))

    def fingerprint(self) -> str:
        """Return a digest of version, precision and the contents of weights, settings and image processor."""
        return self._fingerprint


def _vectors(model: Any, pixels: Tensor) -> Tensor:
    """Return one vector an image, shape ``[B, D]``, whatever the kind of model."""
    if hasattr(model, "get_image_features"):
        given = model.get_image_features(pixel_values=pixels)
        return given if isinstance(given, Tensor) else given.pooler_output
    hidden: Tensor = model(pixel_values=pixels).last_hidden_state
    # A pooler's weights are often missing from a checkpoint and then random: the hidden states are always trained.
    return hidden[:, 0] if hidden.dim() == 3 else hidden.mean(dim=(2, 3))
