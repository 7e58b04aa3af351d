"""Stage ``features``: one vector per item and modality, in the order of RecBole's item ids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from logging import getLogger
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from recbole_hellm import registry
from recbole_hellm.artifacts import file_digest
from recbole_hellm.config.specs import FeatureSpec
from recbole_hellm.data.catalogue import item_columns, read_item_text
from recbole_hellm.data.features import AlignedFeatures, FeatureTable, align, load_features
from recbole_hellm.errors import ConfigError, DataError
from recbole_hellm.pipeline.base import Results, StageContext

logger = getLogger(__name__)


class FeatureStage:
    """Read or encode the features named in ``item_features`` and align them with the item ids."""

    name = "features"
    version = 1
    needs: tuple[str, ...] = ()

    def __init__(self, spec: FeatureSpec) -> None:
        self.spec = spec

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Build the stage from flat settings."""
        return cls(FeatureSpec.from_config(settings))

    def settings(self) -> Mapping[str, Any]:
        """Return every setting that decides the result (files count by content, see :meth:`inputs`)."""
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self.spec).items()}
        return {**plain, "item_features": [entry.partition("=")[0] for entry in self.spec.item_features]}

    def inputs(self, context: StageContext) -> Mapping[str, Any]:
        """Return digests of the feature files, or of the item file and the encoder."""
        found: dict[str, Any] = {}
        for name, path in modality_files(self.spec, context.features_dir).items():
            if path is not None:
                found[name] = [file_digest(path), file_digest(_ids_file(path))]
            else:
                if not context.item_file.is_file():
                    raise DataError(
                        f"{context.item_file} does not exist, so item feature {name!r} has no text to encode; add the "
                        "file, give --item_features=[text=PATH.npy], or --item_features=[] for none"
                    )
                found[name] = [file_digest(context.item_file), text_encoder(self.spec.text_encoder).fingerprint()]
        return found

    def run(self, context: StageContext, earlier: Results) -> Mapping[str, Tensor]:
        """Return ``<modality>`` ``[n_items, d]`` and ``<modality>.present`` ``[n_items]``, 1 for an item with a row."""
        results: dict[str, Tensor] = {}
        tokens = context.train.item_tokens
        for name, path in modality_files(self.spec, context.features_dir).items():
            table = load_features(path) if path is not None else self._encode(name, context)
            aligned: AlignedFeatures = align(table, tokens, self.spec.feature_missing)
            # The mean is a row like any other from here on; a zero row joins nothing.
            own = aligned.present if self.spec.feature_missing != "mean" else np.arange(len(tokens)) > 0
            results[name] = torch.from_numpy(np.ascontiguousarray(aligned.vectors))
            results[f"{name}.present"] = torch.from_numpy(own.astype(np.uint8))
        return results

    def _encode(self, name: str, context: StageContext) -> FeatureTable:
        columns = self.spec.text_columns or item_columns(context.item_file)
        texts = read_item_text(context.item_file, columns)
        wanted = [token for token in context.train.item_tokens[1:] if texts.get(token)]
        if not wanted:
            raise DataError(
                f"{context.item_file}: no item has text in columns {', '.join(columns)}; set text_columns to columns "
                "that hold text, or --item_features=[] for none"
            )
        encoder = text_encoder(self.spec.text_encoder)
        logger.info("encoding the text of %d items with %s", len(wanted), self.spec.text_encoder)
        vectors = encoder.encode([texts[token] for token in wanted])
        return FeatureTable(f"{name} of {context.item_file}", vectors, tuple(wanted))


def text_encoder(name: str) -> Any:
    """Return a registered text encoder, or a Hugging Face one for a path or hub name."""
    if name in registry.text_encoders:
        return registry.text_encoders.get(name)()
    if "/" not in name and not Path(name).is_dir():
        registry.text_encoders.get(name)  # raises with the near name
    from recbole_hellm.encoders.text import HFTextEncoder

    return HFTextEncoder(name)


def modality_files(spec: FeatureSpec, features_dir: Path) -> dict[str, Path | None]:
    """Return the array file of every modality; ``None`` for text that has to be encoded.

    Raises:
        ConfigError: If a modality stands twice.
        DataError: If a modality has no file.
    """
    found: dict[str, Path | None] = {}
    for entry in spec.item_features:
        name, given, path = entry.partition("=")
        if name in found:
            raise ConfigError(f"setting 'item_features' names {name!r} twice")
        file = Path(path) if given else features_dir / f"{name}.npy"
        if given or file.is_file():
            if not file.is_file():
                raise DataError(f"item feature {name!r}: {file} does not exist; check setting 'item_features'")
            found[name] = file
        elif name == "text":
            found[name] = None
        else:
            have = ", ".join(sorted(path.stem for path in features_dir.glob("*.npy"))) or "none"
            raise DataError(
                f"item feature {name!r}: {file} does not exist (there: {have}); put the array and {name}.ids.txt "
                f"there, or give --item_features=[{name}=PATH.npy]"
            )
    return found


def _ids_file(path: Path) -> Path:
    ids = path.with_suffix(".ids.txt")
    if not ids.is_file():
        raise DataError(f"{ids} does not exist: {path.name} needs one item id a line for its rows beside it")
    return ids
