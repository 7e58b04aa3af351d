"""A text encoder without weights: hashed words and character n-grams."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import HashingVectorizer

from recbole_hellm.encoders.base import settings_digest


class HashingTextEncoder:
    """Counts of words, word pairs and character n-grams, hashed with sign into ``dim`` places, L2-normalised.

    The same on every machine and in every process; knows no meaning, only common strings. For tests, for runs without
    downloads, and as the baseline a pretrained encoder has to beat.

    Args:
        dim: Numbers a vector has, >= 1.
        char_weight: Weight of the character n-grams against the words, >= 0; both parts are normalised first.
        char_range: Shortest and longest n-gram, inside word boundaries.

    Raises:
        ValueError: If an argument is out of range.
    """

    name = "hashing"
    _version = 1

    def __init__(self, dim: int = 256, char_weight: float = 0.5, char_range: tuple[int, int] = (3, 4)) -> None:
        if dim < 1:
            raise ValueError(f"dim must be >= 1, got {dim}")
        if char_weight < 0:
            raise ValueError(f"char_weight must be >= 0, got {char_weight}")
        if not 1 <= char_range[0] <= char_range[1]:
            raise ValueError(f"char_range must be two numbers with 1 <= shortest <= longest, got {char_range}")
        self.dim = dim
        self.char_weight = char_weight
        self.char_range = char_range
        # any word of one letter or more: the library's own pattern drops "3" and "X"
        self._words = HashingVectorizer(
            n_features=dim, ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b", dtype=np.float32, norm="l2"
        )
        self._characters = HashingVectorizer(
            n_features=dim, analyzer="char_wb", ngram_range=char_range, dtype=np.float32, norm="l2"
        )

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit vectors, shape ``[n, dim]``; zeros for a text without any character."""
        if not texts:
            return np.zeros((0, self.dim), dtype=np.float32)
        parts = self._words.transform(texts) + self.char_weight * self._characters.transform(texts)
        vectors: NDArray[np.float32] = parts.toarray().astype(np.float32)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)

    def fingerprint(self) -> str:
        """Return a digest of kind, version and settings."""
        settings = {"dim": self.dim, "char_weight": self.char_weight, "char_range": list(self.char_range)}
        return settings_digest({"encoder": self.name, "version": self._version, **settings})
