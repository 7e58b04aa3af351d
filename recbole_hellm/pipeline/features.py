"""Stage ``features``: one vector per item and modality, in the order of RecBole's item ids."""

from __future__ import annotations

from collections.abc import Mapping
from logging import getLogger
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from recbole_hellm.artifacts import file_digest
from recbole_hellm.config.specs import FeatureSpec
from recbole_hellm.data.catalogue import read_column
from recbole_hellm.data.features import AlignedFeatures, FeatureTable, align, load_features
from recbole_hellm.data.numbers import number_table
from recbole_hellm.errors import DataError
from recbole_hellm.pipeline.base import Results, StageContext
from recbole_hellm.pipeline.modalities import Modality, find_modalities
from recbole_hellm.pipeline.pictures import Pictures, encode_pictures, find_pictures, image_inputs
from recbole_hellm.pipeline.texts import encode_texts, text_inputs

logger = getLogger(__name__)

CACHE = "encodings"
"""Folder of encoded vectors, in that of the finished stages."""


class FeatureStage:
    """Read, encode or make the features named in ``item_features`` and align them with the item ids.

    Args:
        spec: Settings.
        cache: Folder of encoded vectors.
    """

    name = "features"
    version = 2
    needs: tuple[str, ...] = ()

    def __init__(self, spec: FeatureSpec, cache: Path) -> None:
        self.spec, self.cache = spec, cache
        self._seen: tuple[str, Pictures] | None = None

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Build the stage from flat settings."""
        return cls(FeatureSpec.from_config(settings), Path(settings["stage_cache_dir"]) / CACHE)

    def settings(self) -> Mapping[str, Any]:
        """Return the settings that decide the result whatever files there are; see :meth:`inputs` for the others."""
        names = [entry.partition("=")[0] for entry in self.spec.item_features]
        return {"item_features": names, "feature_missing": self.spec.feature_missing}

    def inputs(self, context: StageContext) -> Mapping[str, Any]:
        """Return digests of the feature files, or of the texts or pictures and of their encoder with its settings.

        The encoder of a modality that has a ready array does not count: it decides nothing.
        """
        return {modality.name: self.inputs_of(modality, context) for modality in self._modalities(context)}

    def _modalities(self, context: StageContext) -> list[Modality]:
        return find_modalities(self.spec, context.item_file, context.features_dir)

    def inputs_of(self, modality: Modality, context: StageContext) -> list[Any]:
        """Return what identifies the vectors of one modality."""
        if modality.path is not None:
            return [file_digest(modality.path), file_digest(_ids_file(modality.path))]
        if modality.origin == "text":
            return text_inputs(self.spec, context.item_file)
        if modality.origin == "image":
            return image_inputs(self.spec, self._pictures(context))
        return [read_column(context.item_file, modality.name)]

    def _pictures(self, context: StageContext) -> Pictures:
        """Find and read the pictures once, for the key and for the encoder."""
        key = f"{context.item_file} {context.train.ids}"
        if self._seen is None or self._seen[0] != key:
            self._seen = key, find_pictures(self.spec, context.item_file, context.train.item_tokens)
        return self._seen[1]

    def run(self, context: StageContext, earlier: Results) -> Mapping[str, Tensor]:
        """Return ``<modality>`` ``[n_items, d]`` and ``<modality>.present`` ``[n_items]``, 1 for an item with a row."""
        results: dict[str, Tensor] = {}
        tokens = context.train.item_tokens
        # Files come before anything is encoded: a wrong one is not found out an hour later.
        for modality in sorted(self._modalities(context), key=lambda modality: modality.path is None):
            aligned: AlignedFeatures = align(self.table(modality, context), tokens, self.spec.feature_missing)
            # The mean is a row like any other from here on; a zero row joins nothing.
            own = aligned.present if self.spec.feature_missing != "mean" else np.arange(len(tokens)) > 0
            results[modality.name] = torch.from_numpy(np.ascontiguousarray(aligned.vectors))
            results[f"{modality.name}.present"] = torch.from_numpy(own.astype(np.uint8))
        return results

    def table(self, modality: Modality, context: StageContext) -> FeatureTable:
        """Return the vectors of a modality by item token."""
        spec, item_file, tokens = self.spec, context.item_file, context.train.item_tokens
        if modality.path is not None:
            if modality.name in ("text", "image"):
                logger.info("item feature %s is read from %s: no encoder runs", modality.name, modality.path)
            return load_features(modality.path)
        if modality.origin == "text":
            return encode_texts(spec, item_file, tokens, self.cache, context.show_progress)
        if modality.origin == "image":
            return encode_pictures(spec, self._pictures(context), tokens, self.cache, context.show_progress)
        return number_table(modality.name, read_column(item_file, modality.name))


def _ids_file(path: Path) -> Path:
    ids = path.with_suffix(".ids.txt")
    if not ids.is_file():
        raise DataError(f"{ids} does not exist: {path.name} needs one item id a line for its rows beside it")
    return ids
