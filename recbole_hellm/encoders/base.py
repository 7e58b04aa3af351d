"""What an encoder of texts or images must offer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image


@runtime_checkable
class Encoder(Protocol):
    """What encoders of every kind have in common."""

    @property
    def name(self) -> str:
        """Short name for logs and folders."""

    @property
    def dim(self) -> int:
        """Numbers a vector has."""

    def fingerprint(self) -> str:
        """Return a digest of all that decides the vectors: kind, version, settings, contents of the weights."""


@runtime_checkable
class TextEncoder(Encoder, Protocol):
    """Turns texts into vectors; up to rounding, the vector of a text does not depend on the others."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one vector a text, shape ``[n, dim]``; a text without any character is all zero, that is missing."""


@runtime_checkable
class ImageEncoder(Encoder, Protocol):
    """Turns images into vectors; up to rounding, the vector of an image does not depend on the others."""

    def encode(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Return one vector an RGB image of any size, shape ``[n, dim]``; never all zero, which means missing."""


@runtime_checkable
class CountsTokens(Protocol):
    """A text encoder that cuts long texts and can say how long they are."""

    max_length: int
    """Tokens a text is cut to."""

    def token_counts(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Return the tokens of each whole text, special ones included, shape ``[n]``."""


def settings_digest(settings: Mapping[str, Any], files: Sequence[Path] = ()) -> str:
    """Return the SHA-256, in hexadecimal, of settings and of the names and contents of files.

    Args:
        settings: Plain values; their order does not matter.
        files: Files to include, in a fixed order.

    Raises:
        OSError: If a file cannot be read.
    """
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for path in files:
        with path.open("rb") as file:
            digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def encode_distinct(texts: Sequence[str]) -> tuple[list[str], NDArray[np.int64]]:
    """Return the distinct non-blank texts, longest first, and for each text its place there or -1.

    Encoding this list makes batches of one length, does repeated texts once and gives a result that does not depend
    on the order of ``texts``.
    """
    distinct = sorted({text for text in texts if text.strip()}, key=lambda text: (-len(text), text))
    place = {text: i for i, text in enumerate(distinct)}
    return distinct, np.array([place.get(text, -1) for text in texts], dtype=np.int64)


def unit_rows(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the rows at length 1; a row of zeros stays one."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
