"""Modality ``text``: item texts of the ``.item`` file, encoded."""

from __future__ import annotations

from collections.abc import Sequence
from logging import getLogger
from pathlib import Path
from typing import Any

import numpy as np

from recbole_hellm import registry
from recbole_hellm.config.specs import FeatureSpec
from recbole_hellm.data.catalogue import item_columns, read_item_text, read_templated_text
from recbole_hellm.data.features import FeatureTable, check_complete
from recbole_hellm.data.images import content_digest
from recbole_hellm.data.template import TextTemplate
from recbole_hellm.encoders.base import CountsTokens, TextEncoder
from recbole_hellm.encoders.cache import EncodingCache, Things, encode_cached
from recbole_hellm.errors import DataError

logger = getLogger(__name__)

_BATCH = 256
_SAMPLE = 5000


def text_encoder(spec: FeatureSpec) -> Any:
    """Return the text encoder of the settings: a registered one, or a Hugging Face one for a path or hub name.

    Raises:
        ConfigError: If the name is unknown.
        HellmError: If the model is missing or broken.
    """
    from recbole_hellm.encoders.text import (
        HFTextEncoder,
    )  # torch and transformers' folders: only where texts are encoded

    name = spec.text_encoder
    kind: Any = HFTextEncoder
    if name in registry.text_encoders or ("/" not in name and not Path(name).is_dir()):
        kind = registry.text_encoders.get(name)  # an unknown name raises with the near one
    if not (isinstance(kind, type) and issubclass(kind, HFTextEncoder)):
        return kind()
    settings: dict[str, Any] = {
        "max_length": spec.text_max_tokens,
        "pooling": spec.text_pooling,
        "normalise": spec.text_normalise,
    }
    return kind(name, **settings) if kind is HFTextEncoder else kind(**settings)


def item_texts(spec: FeatureSpec, item_file: Path) -> dict[str, str]:
    """Return item token -> text, by ``text_template`` or ``text_columns``.

    Raises:
        DataError: If the file is missing or broken or lacks a column.
    """
    if spec.text_template:
        return read_templated_text(item_file, TextTemplate(spec.text_template))
    return read_item_text(item_file, spec.text_columns or item_columns(item_file))


def text_inputs(spec: FeatureSpec, item_file: Path) -> list[Any]:
    """Return what identifies the text vectors: the texts, and the encoder with all its settings."""
    texts = item_texts(spec, item_file)
    joined = "\n".join(f"{token}\t{text}" for token, text in sorted(texts.items()))
    return [content_digest(joined.encode(errors="replace")), text_encoder(spec).fingerprint()]


def encode_texts(
    spec: FeatureSpec, item_file: Path, item_tokens: Sequence[str], cache: Path, show_progress: bool
) -> FeatureTable:
    """Return a vector for each item that has a text.

    Args:
        spec: Settings.
        item_file: RecBole's ``.item`` file.
        item_tokens: Items of the data set, padding first.
        cache: Folder of encoded vectors.
        show_progress: Whether to draw a progress bar.

    Raises:
        DataError: If no item has a text.
    """
    texts = item_texts(spec, item_file)
    # Longest first: batches of one length, and what needs most memory fails at once.
    wanted = [token for token in item_tokens[1:] if texts.get(token)]
    wanted.sort(key=lambda token: (-len(texts[token]), texts[token], token))
    if not wanted:
        fields = spec.text_columns or item_columns(item_file)
        if spec.text_template:
            fields = TextTemplate(spec.text_template).fields
        raise DataError(
            f"{item_file}: no item has text in columns {', '.join(fields)}; set text_columns to columns that hold "
            "text, or --item_features=[] for none"
        )
    check_complete(f"text of {item_file}", wanted, item_tokens, spec.feature_missing)
    encoder = text_encoder(spec)
    logger.info("encoding the text of %d items with %s", len(wanted), spec.text_encoder)
    log_lengths(encoder, [texts[token] for token in wanted])
    things = Things(
        digests=[content_digest(texts[token].encode(errors="replace")) for token in wanted],
        load=lambda places: [texts[wanted[place]] for place in places],
        batch=_BATCH,
        unit="texts",
    )
    vectors = encode_cached(encoder, things, EncodingCache(cache, encoder), show_progress)
    return FeatureTable(f"text of {item_file}", vectors, tuple(wanted))


def log_lengths(encoder: TextEncoder, texts: Sequence[str]) -> None:
    """Log how long the texts are and how many the encoder cuts, from at most 5,000 of them, evenly spread."""
    some = [texts[place] for place in np.linspace(0, len(texts) - 1, min(len(texts), _SAMPLE)).astype(int)]
    if isinstance(encoder, CountsTokens):
        lengths, limit = encoder.token_counts(some), encoder.max_length
        cut = float((lengths > limit).mean())
        unit, end = "tokens", f"{100 * cut:.1f} % are cut to text_max_tokens={limit}"
    else:
        lengths = np.array([len(text.split()) for text in some])
        unit, end = "words", f"{encoder.name} cuts none"
    median, high = np.percentile(lengths, [50, 95])
    logger.info("text lengths: %s p50 %.0f, p95 %.0f, longest %d; %s", unit, median, high, lengths.max(), end)
