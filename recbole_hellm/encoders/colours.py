"""An image encoder without weights: mean colours on a grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from recbole_hellm.encoders.base import settings_digest, unit_rows

if TYPE_CHECKING:
    from PIL import Image


class ColourGridEncoder:
    """Mean red, green and blue of each cell of a grid laid over the image, minus middle grey, L2-normalised.

    Knows colours and where they are, nothing else. For tests, for runs without downloads, and as the baseline a
    pretrained encoder has to beat.

    Args:
        cells: Cells a side, >= 1; a vector has ``3 * cells * cells + 1`` numbers, the last one a constant, so that an
            image that is grey all over is not taken for a missing one.

    Raises:
        ValueError: If ``cells`` is below 1.
    """

    name = "colours"
    _version = 1

    def __init__(self, cells: int = 8) -> None:
        if cells < 1:
            raise ValueError(f"cells must be >= 1, got {cells}")
        self.cells = cells
        self.dim = 3 * cells * cells + 1

    def encode(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Return unit vectors, shape ``[n, dim]``."""
        from PIL import Image

        size = (self.cells, self.cells)
        vectors = np.full((len(images), self.dim), 0.01, dtype=np.float32)
        for row, image in enumerate(images):
            small = image.convert("RGB").resize(size, Image.Resampling.BOX)
            vectors[row, :-1] = (np.asarray(small, dtype=np.float32).ravel() - 127.5) / 127.5
        return unit_rows(vectors)

    def fingerprint(self) -> str:
        """Return a digest of kind, version and settings."""
        return settings_digest({"encoder": self.name, "version": self._version, "cells": self.cells})
