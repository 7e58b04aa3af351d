"""Writes the item features of a data set as files: safetensors and the item ids of its rows."""

from __future__ import annotations

import json
from dataclasses import replace
from logging import getLogger
from pathlib import Path
from secrets import token_hex
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from recbole_hellm.artifacts import write_atomically
from recbole_hellm.data.features import FeatureTable
from recbole_hellm.errors import DataError
from recbole_hellm.pipeline.features import FeatureStage
from recbole_hellm.pipeline.modalities import find_modalities
from recbole_hellm.pipeline.signal import features_context

logger = getLogger(__name__)


def encode_features(config: Any, output: Path | None = None, force: bool = False) -> list[Path]:
    """Encode every item feature that has no array yet and write it; return the files.

    Each ``NAME.safetensors`` has the tensor ``vectors`` (float32, ``[rows, width]``), what made it in its metadata,
    and ``NAME.ids.txt`` beside it with the item token of each row. Items without a text or usable picture have no row.

    Args:
        config: Settings of a run (:class:`~recbole_hellm.config.recbole_config.HellmConfig`).
        output: Folder; by default ``features/`` of the data set, where runs look first.
        force: Replace files that are there, and encode what has an array.

    Raises:
        DataError: If there is nothing to encode, a file exists, or cannot be written.
    """
    context = features_context(config)
    stage = FeatureStage.from_settings(config.final_config_dict)
    folder = output or context.features_dir
    if force:  # as if there were no arrays
        context = replace(context, features_dir=context.features_dir / "none")
    modalities = find_modalities(stage.spec, context.item_file, context.features_dir)
    wanted = [modality for modality in modalities if modality.path is None]
    if not wanted:
        raise DataError(
            f"every item feature ({', '.join(m.name for m in modalities) or 'none'}) has an array already: nothing to "
            "encode; name others in item_features, or encode again with --force"
        )
    targets = {modality.name: folder / f"{modality.name}.safetensors" for modality in wanted}
    taken = [path for path in targets.values() if path.exists() and not force]
    if taken:
        raise DataError(f"{taken[0]} exists: choose another --output, or replace it with --force")
    for modality in wanted:
        table = stage.table(modality, context)
        keep = table.present()
        kept = FeatureTable(table.name, table.vectors[keep], tuple(np.array(table.tokens, dtype=object)[keep]))
        made_of = {"text": stage.spec.text_encoder, "image": stage.spec.image_encoder}.get(modality.origin, "")
        _write(targets[modality.name], kept, {"origin": modality.origin, "encoder": made_of})
    return list(targets.values())


def _write(path: Path, table: FeatureTable, about: dict[str, str]) -> None:
    """Write the array, then its ids; a reader refuses the one without the other."""
    scratch = path.with_name(f".{path.name}-{token_hex(8)}")
    ids = path.with_suffix(".ids.txt")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # one entry: the order of several is left to chance, and the same vectors must give the same bytes
        metadata = {"made_of": json.dumps(about, sort_keys=True)}
        save_file({"vectors": np.ascontiguousarray(table.vectors)}, scratch, metadata=metadata)
        ids.unlink(missing_ok=True)
        scratch.replace(path)
        write_atomically(ids, "".join(f"{token}\n" for token in table.tokens))
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path} cannot be written ({error}); free space there or choose another --output") from error
    finally:
        scratch.unlink(missing_ok=True)
    logger.info("%s: %d rows of %d numbers", path, *table.vectors.shape)
