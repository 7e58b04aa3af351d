"""Pretrained text encoders: any Hugging Face encoder folder, and the built-in MiniLM."""

import json
from collections.abc import Sequence
from functools import cached_property
from logging import getLogger
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from tqdm import tqdm

from recbole_hellm.assets import asset_path
from recbole_hellm.encoders.base import encode_distinct, settings_digest
from recbole_hellm.errors import DataError, MissingModelError

logger = getLogger(__name__)

Precision = Literal["float32", "bfloat16"]
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
_OTHERS = ("config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json")


class HFTextEncoder:
    """Mean of the last hidden states over the tokens of a text, L2-normalised (sentence-transformers' usual pooling).

    Works offline; weights are loaded by the first ``encode``.

    Args:
        path: Folder with ``config.json``, weights and tokenizer of an encoder that ``AutoModel`` loads, or the
            ``owner/model`` name of one in the local Hugging Face cache.
        batch_size: Texts in a forward pass, >= 1.
        max_length: Tokens a text is cut to, >= 3.
        precision: Type of the weights; ``bfloat16`` halves memory and time, cosine to float32 about .9999.
        device: Where the model runs.

    Raises:
        MissingModelError: If ``path`` is no such folder and no such model in the cache.
        ValueError: If an argument is out of range.
    """

    _version = 1

    def __init__(
        self,
        path: str | Path,
        batch_size: int = 64,
        max_length: int = 128,
        precision: Precision = "float32",
        device: str = "cpu",
    ) -> None:
        self.path = _model_folder(path)
        self.name = Path(path).name
        if batch_size < 1:
            raise ValueError(f"batch_size must be >= 1, got {batch_size}")
        if max_length < 3:  # two special tokens and one of the text
            raise ValueError(f"max_length must be >= 3 tokens, got {max_length}")
        if precision not in get_args(Precision):
            raise ValueError(f"precision must be one of {', '.join(get_args(Precision))}, got {precision!r}")
        if not (self.path / "config.json").is_file() or not self._files(*_WEIGHTS):
            raise MissingModelError(
                f"text encoder {self.path} is no model folder (config.json and weights): give a downloaded folder"
            )
        self.batch_size = batch_size
        self.max_length = max_length
        self.precision = precision
        self.device = device

    @cached_property
    def dim(self) -> int:
        """Numbers a vector has.

        Raises:
            DataError: If ``config.json`` does not say.
        """
        try:
            size = json.loads((self.path / "config.json").read_text(encoding="utf-8"))["hidden_size"]
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"{self.path / 'config.json'}: no 'hidden_size' can be read: not a text encoder") from error
        return int(size)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit vectors, shape ``[n, dim]``; zeros for a text without any character."""
        distinct, places = encode_distinct(texts)
        vectors = np.zeros((len(distinct) + 1, self.dim), dtype=np.float32)  # the last row serves place -1
        with tqdm(total=len(distinct), desc=f"{self.name}: texts", unit=" texts", disable=None) as progress:
            for start in range(0, len(distinct), self.batch_size):
                batch = distinct[start : start + self.batch_size]
                vectors[start : start + len(batch)] = self._encode_batch(batch)
                progress.update(len(batch))
        return vectors[places]

    @torch.inference_mode()
    def _encode_batch(self, texts: list[str]) -> NDArray[np.float32]:
        """Encode one batch, shape ``[n, dim]``."""
        tokenizer, model = self._loaded
        tokens = tokenizer(texts, padding=True, truncation=True, max_length=self.max_length, return_tensors="pt")
        tokens = tokens.to(self.device)
        hidden = model(**tokens).last_hidden_state.float()  # (B, L, D)
        mask = tokens["attention_mask"].unsqueeze(-1).float()
        pooled = (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
        result: NDArray[np.float32] = torch.nn.functional.normalize(pooled, dim=1).cpu().numpy()
        return result

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        """Tokenizer and frozen model, loaded without any network."""
        from transformers import AutoModel, AutoTokenizer  # takes seconds: only when texts are encoded

        self._check_pooling()
        logger.info("text encoder %s: loading %s in %s", self.name, self.path, self.precision)
        try:
            tokenizer = AutoTokenizer.from_pretrained(self.path, local_files_only=True)
            if tokenizer.pad_token is None:
                tokenizer.pad_token = tokenizer.eos_token
            model: Any = AutoModel.from_pretrained(
                self.path, local_files_only=True, dtype=getattr(torch, self.precision)
            )
        except (OSError, ValueError, SafetensorError) as error:
            said = str(error).strip().splitlines()[0]
            raise DataError(f"{self.path}: the text encoder cannot be loaded ({said}): download it again") from error
        return tokenizer, model.to(self.device).eval().requires_grad_(False)

    def fingerprint(self) -> str:
        """Return a digest of version, length, precision and the contents of weights, configuration and tokenizer."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        settings = {"encoder": "hf", "version": self._version, "max_length": self.max_length}
        return settings_digest({**settings, "precision": self.precision}, self._files(*_WEIGHTS, *_OTHERS))

    def _check_pooling(self) -> None:
        """Warn where the folder of a sentence-transformers model says it was trained with another pooling."""
        path = self.path / "1_Pooling" / "config.json"
        if path.is_file() and not json.loads(path.read_text(encoding="utf-8")).get("pooling_mode_mean_tokens", True):
            logger.warning("text encoder %s: %s asks for another pooling than the mean used here", self.name, path)

    def _files(self, *patterns: str) -> list[Path]:
        return sorted(file for pattern in patterns for file in self.path.glob(pattern))


def _model_folder(path: str | Path) -> Path:
    """Return ``path`` if it is a folder, else the folder of that model in the Hugging Face cache."""
    if Path(path).is_dir() or isinstance(path, Path) or path.count("/") != 1 or path.startswith((".", "/", "~")):
        return Path(path)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(path, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError) as error:
        raise MissingModelError(
            f"text encoder {path!r} is neither a folder nor a model in the Hugging Face cache: give a folder, or run "
            f"'hf download {path}' once while online"
        ) from error


class MiniLMTextEncoder(HFTextEncoder):
    """The built-in all-MiniLM-L6-v2 sentence encoder, 384 numbers a text.

    Args:
        batch_size: Texts in a forward pass, >= 1.
        max_length: Tokens a text is cut to, >= 3.
        precision: Type of the weights; ``bfloat16`` is two to four times as fast on a CPU.
        device: Where the model runs.

    Raises:
        MissingModelError: If the model was not fetched yet.
        ValueError: If an argument is out of range.
    """

    def __init__(
        self, batch_size: int = 64, max_length: int = 128, precision: Precision = "bfloat16", device: str = "cpu"
    ) -> None:
        super().__init__(asset_path("all-minilm-l6-v2"), batch_size, max_length, precision, device)
