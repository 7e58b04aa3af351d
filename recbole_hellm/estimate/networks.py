"""The sizes of decoders and encoders, from their ``config.json``; no weights are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from recbole_hellm.config.specs import FeatureSpec
from recbole_hellm.costs.shapes import DecoderShape, FeatureShape
from recbole_hellm.errors import MissingModelError
from recbole_hellm.llm.loading import load_width, resolve_path
from recbole_hellm.pipeline.modalities import Modality
from recbole_hellm.pipeline.pictures import image_encoder
from recbole_hellm.pipeline.texts import text_encoder

CHARACTERS = 4.5
"""Characters of a token of English item text."""
PICTURE_FLOPS = 0.8e9
"""Operations to encode a picture with EfficientNet-lite0; others are counted by their layers."""
PATCHES = 197
"""Positions of a picture in a vision transformer of 16-pixel patches."""
ENCODER_BATCH = 64
SIZES = (
    "hidden_size", "num_attention_heads", "num_hidden_layers", "num_key_value_heads", "head_dim", "intermediate_size",
    "vocab_size",
)  # fmt: skip


def decoder_shape(path: str, layers: int) -> DecoderShape:
    """Return the sizes of a decoder, from its ``config.json``.

    Args:
        path: As in ``llm_path``.
        layers: As in ``llm_layers``.

    Raises:
        MissingModelError: If there is no such model, or its ``config.json`` does not tell its sizes.
    """
    try:
        found = _model_config(resolve_path(path))
        width, heads = int(found["hidden_size"]), int(found.get("num_attention_heads") or 1)
        has = int(found.get("num_hidden_layers") or 0)
        return DecoderShape(
            width=width,
            layers=has if layers == -1 else min(layers, has),
            heads=heads,
            kv_heads=int(found.get("num_key_value_heads") or heads),
            head_width=int(found.get("head_dim") or width // heads),
            inner=int(found.get("intermediate_size") or 4 * width),
            vocabulary=int(found.get("vocab_size") or 0),
        )
    except MissingModelError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        load_width(path)  # names what is wrong, as a run does
        raise MissingModelError(
            f"setting 'llm_path': config.json of {path!r} does not tell its sizes ({error})"
        ) from error


def _model_config(where: str) -> dict[str, Any]:
    """Return the sizes of a model by their usual names, which some families write otherwise in their file."""
    file = Path(where) / "config.json"
    if file.is_file():
        found = json.loads(file.read_text(encoding="utf-8"))
        if "hidden_size" in found:
            return dict(found)
    from transformers import AutoConfig  # takes seconds

    config = AutoConfig.from_pretrained(where, trust_remote_code=False).get_text_config()
    return {name: getattr(config, name, None) for name in SIZES}


def linear_widths(decoder: DecoderShape, name: str) -> tuple[int, int]:
    """Return input and output width of a module of a layer, by its usual name (``lora_targets``)."""
    queries, keys = decoder.heads * decoder.head_width, decoder.kv_heads * decoder.head_width
    widths = {
        "q_proj": (decoder.width, queries),
        "k_proj": (decoder.width, keys),
        "v_proj": (decoder.width, keys),
        "o_proj": (queries, decoder.width),
        "down_proj": (decoder.inner, decoder.width),
    }
    return widths.get(name, (decoder.width, decoder.inner))


def feature_shape(spec: FeatureSpec, modality: Modality, item_file: Path) -> FeatureShape:
    """Return the sizes of an item feature, from the head of its array or the settings of its encoder.

    Args:
        spec: Settings.
        modality: Where its vectors come from.
        item_file: RecBole's ``.item`` file, whose size tells how long the texts are.
    """
    if modality.path is not None:
        return FeatureShape(modality.name, _array_width(modality.path))
    if modality.origin == "numbers":
        return FeatureShape(modality.name, 1)
    if modality.origin == "image":
        encoder = image_encoder(spec)
        layers, memory = _encoder(encoder, PATCHES)
        return FeatureShape("image", encoder.dim, layers * PATCHES or PICTURE_FLOPS, memory, _bf16(encoder))
    encoder = text_encoder(spec)
    lines = max(1, sum(1 for _ in item_file.open("rb")) - 1)
    tokens = min(spec.text_max_tokens, max(1, round(item_file.stat().st_size / lines / CHARACTERS)))
    layers, memory = _encoder(encoder, spec.text_max_tokens)
    return FeatureShape("text", encoder.dim, layers * tokens, memory, _bf16(encoder))


def _encoder(encoder: Any, tokens: int) -> tuple[float, int]:
    """Return operations per token and bytes of a Hugging Face encoder; zeros for one without layers."""
    file = Path(getattr(encoder, "path", "")) / "config.json"
    if not file.is_file():
        return 0.0, 0
    try:
        shape = decoder_shape(str(file.parent.resolve()), -1)
    except MissingModelError:  # sizes by other names: its time is not counted
        return 0.0, 0
    # An encoder's feed-forward part has two matrices, a decoder's three.
    weights = shape.layers * (shape.layer_weights - shape.width * shape.inner)
    memory = 4 * (weights + shape.vocabulary * shape.width) + 4 * ENCODER_BATCH * tokens * (3 * shape.inner)
    return 2.0 * weights, memory


def _bf16(encoder: Any) -> bool:
    return getattr(encoder, "precision", "") == "bfloat16"


def _array_width(path: Path) -> int:
    """Return the width of a feature array; 0 for a broken one, whose stage names what is wrong with it."""
    try:
        if path.suffix == ".npy":
            return int(np.load(path, mmap_mode="r", allow_pickle=False).shape[-1])
        with safe_open(path, framework="np") as file:
            return int(file.get_slice(next(iter(file.keys()))).get_shape()[-1])
    except (OSError, ValueError, EOFError, IndexError, StopIteration, SafetensorError):
        return 0
