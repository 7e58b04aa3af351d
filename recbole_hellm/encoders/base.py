"""What an encoder of texts must offer."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


@runtime_checkable
class TextEncoder(Protocol):
    """Turns texts into vectors; up to rounding, the vector of a text does not depend on the others."""

    @property
    def name(self) -> str:
        """Short name for logs."""

    @property
    def dim(self) -> int:
        """Numbers a vector has."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one vector a text, shape ``[n, dim]``; a text without any character is all zero, that is missing."""

    def fingerprint(self) -> str:
        """Return a digest of all that decides the vectors: kind, version, settings, contents of the weights."""


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
