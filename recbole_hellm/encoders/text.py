"""Pretrained text encoders: any sentence-transformers or Hugging Face folder, and the built-in MiniLM."""

from collections.abc import Sequence
from functools import cached_property
from logging import getLogger
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recbole_hellm.assets import asset_path
from recbole_hellm.encoders.base import encode_distinct, settings_digest
from recbole_hellm.encoders.folders import (
    Precision,
    chosen_precision,
    loaded,
    model_folder,
    read_config,
    vector_size,
    weight_files,
)
from recbole_hellm.encoders.pooling import Pooling, chosen_pooling, pool

logger = getLogger(__name__)

_OTHERS = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json", "*.model")


class HFTextEncoder:
    """One vector a text, pooled from the last hidden states as the folder's ``modules.json`` asks for.

    A folder without one gives the mean over the tokens, L2-normalised; the text half of a CLIP or SigLIP folder gives
    its projected text vector. Works offline; weights are loaded by the first ``encode``.

    Args:
        path: Folder with ``config.json``, weights and tokenizer of an encoder that ``AutoModel`` loads, or the
            ``owner/model`` name of one in the local Hugging Face cache.
        batch_size: Texts in a forward pass, >= 1.
        max_length: Tokens a text is cut to, >= 3; less where the model has fewer positions.
        precision: Type of the weights; ``bfloat16`` halves memory and time, cosine to float32 about .9999. ``auto``:
            that where the processor has it, else ``float32``.
        device: Where the model runs.
        pooling: ``mean``, ``cls``, ``max``, ``last``, or ``auto``: as the folder asks for.
        normalise: ``yes``, ``no``, or ``auto``: as the folder asks for.

    Raises:
        MissingModelError: If ``path`` is no such folder and no such model in the cache.
        DataError: If the folder asks for a pooling this package does not have.
        ValueError: If an argument is out of range.
    """

    _version = 2

    def __init__(
        self,
        path: str | Path,
        batch_size: int = 64,
        max_length: int = 128,
        precision: Precision = "float32",
        device: str = "cpu",
        pooling: str = "auto",
        normalise: str = "auto",
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be >= 1, got {batch_size}")
        if max_length < 3:  # two special tokens and one of the text
            raise ValueError(f"max_length must be >= 3 tokens, got {max_length}")
        self.path = model_folder(path, "text")
        self.name = Path(path).name
        self.batch_size = batch_size
        self.precision = chosen_precision(precision, device)
        self.device = device
        config = read_config(self.path)
        self.paired = isinstance(config.get("text_config"), dict) and isinstance(config.get("vision_config"), dict)
        self.pooling = Pooling() if self.paired else chosen_pooling(self.path, pooling, normalise)
        positions = (config.get("text_config") or {} if self.paired else config).get("max_position_embeddings")
        # A paired model has positions for its text alone; others keep up to two back (RoBERTa).
        self.max_length = min(max_length, positions) if self.paired and isinstance(positions, int) else max_length

    @cached_property
    def dim(self) -> int:
        """Numbers a vector has.

        Raises:
            DataError: If ``config.json`` does not say.
        """
        return vector_size(self.path, "text")

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return vectors, shape ``[n, dim]``; zeros for a text without any character."""
        distinct, places = encode_distinct(texts)
        vectors = np.zeros((len(distinct) + 1, self.dim), dtype=np.float32)  # the last row serves place -1
        for start in range(0, len(distinct), self.batch_size):
            batch = distinct[start : start + self.batch_size]
            vectors[start : start + len(batch)] = self._encode_batch(batch)
        return vectors[places]

    def token_counts(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Return the tokens of each whole text, special ones included, shape ``[n]``."""
        tokenizer = self._loaded[0]
        ids = tokenizer(list(texts), verbose=False)["input_ids"] if texts else []
        return np.array([len(row) for row in ids], dtype=np.int64)

    @torch.inference_mode()
    def _encode_batch(self, texts: list[str]) -> NDArray[np.float32]:
        """Encode one batch, shape ``[n, dim]``."""
        tokenizer, model = self._loaded
        # SigLIP was trained on texts padded to full length, without a mask.
        padding = "max_length" if self.paired and model.config.model_type.startswith("siglip") else True
        tokens = tokenizer(texts, padding=padding, truncation=True, max_length=self.max_length, return_tensors="pt")
        tokens = tokens.to(self.device)
        if self.paired:
            given = model.get_text_features(**tokens)
            vectors = given if isinstance(given, torch.Tensor) else given.pooler_output
            pooled = torch.nn.functional.normalize(vectors.float(), dim=1)
        else:
            pooled = pool(model(**tokens).last_hidden_state.float(), tokens["attention_mask"], self.pooling)
        result: NDArray[np.float32] = pooled.cpu().numpy()
        return result

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        """Tokenizer and frozen model, loaded without any network."""
        from transformers import AutoModel, AutoTokenizer  # takes seconds: only when texts are encoded

        logger.info("text encoder %s: loading %s in %s", self.name, self.path, self.precision)

        def load() -> tuple[Any, Any]:
            tokenizer = AutoTokenizer.from_pretrained(self.path, local_files_only=True, trust_remote_code=False)
            if tokenizer.pad_token is None:
                tokenizer.pad_token = tokenizer.eos_token
            dtype = getattr(torch, self.precision)
            model: Any = AutoModel.from_pretrained(
                self.path, local_files_only=True, dtype=dtype, trust_remote_code=False
            )
            return tokenizer, model.to(self.device).eval().requires_grad_(False)

        return loaded(self.path, "text", load)

    def fingerprint(self) -> str:
        """Return a digest of version, length, precision, pooling and the contents of weights, settings, tokenizer."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        settings = {"encoder": "hf", "version": self._version, "max_length": self.max_length}
        pooling = [self.pooling.mode, self.pooling.normalise]
        return settings_digest(
            {**settings, "precision": self.precision, "pooling": pooling}, weight_files(self.path, *_OTHERS)
        )


class MiniLMTextEncoder(HFTextEncoder):
    """The built-in all-MiniLM-L6-v2 sentence encoder, 384 numbers a text.

    Args:
        batch_size: Texts in a forward pass, >= 1.
        max_length: Tokens a text is cut to, >= 3.
        precision: Type of the weights; ``auto``: ``bfloat16``, two to four times as fast, where the processor has it.
        device: Where the model runs.
        pooling: As :class:`HFTextEncoder`; its own is the mean.
        normalise: As :class:`HFTextEncoder`; its own is yes.

    Raises:
        MissingModelError: If the model was not fetched yet.
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        batch_size: int = 64,
        max_length: int = 128,
        precision: Precision = "auto",
        device: str = "cpu",
        pooling: str = "auto",
        normalise: str = "auto",
    ) -> None:
        folder = asset_path("all-minilm-l6-v2")
        super().__init__(folder, batch_size, max_length, precision, device, pooling, normalise)
