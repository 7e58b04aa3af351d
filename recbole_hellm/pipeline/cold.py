"""Cold items of a data set: rows of the catalogue that no training event has, by the features of a run."""

from __future__ import annotations

from collections.abc import Sequence
from logging import getLogger
from pathlib import Path
from typing import Any

import torch

from recbole_hellm.data.catalogue import read_item_tokens
from recbole_hellm.data.cold import ColdItems, by_content
from recbole_hellm.errors import DataError
from recbole_hellm.pipeline.base import StageContext
from recbole_hellm.pipeline.features import FeatureStage
from recbole_hellm.views import TrainView

__all__ = ["ColdItems", "cold_items"]

logger = getLogger(__name__)


def cold_items(config: Any, known: Sequence[str], k: int = 30) -> ColdItems:
    """Return the items of the catalogue that are not ``known``, as means of the known ones they look like.

    The catalogue is the ``.item`` file: ``prepare --keep-cold-items`` keeps its rows without interactions, and a row
    that is added later counts as well. Features are those of ``item_features``, encoded and cached as in a run.

    Args:
        config: Settings of the run (``result["config"]``).
        known: Item tokens by id, the padding token first (``dataset.field2id_token["item_id"]``).
        k: Nearest known items in each modality.

    Raises:
        DataError: If there is no cold item, or none has a feature.
    """
    folder = Path(config["data_path"])
    item_file = folder / f"{config['dataset']}.item"
    tokens, there = [str(token) for token in known], set(map(str, known))
    cold = [token for token in read_item_tokens(item_file) if token not in there]
    if not cold:
        raise DataError(
            f"{item_file} has no item without interactions: prepare the data set with --keep-cold-items, or add rows"
        )
    none = torch.zeros(0, dtype=torch.long)
    view = TrainView(none, none, ("[PAD]",), (*tokens, *cold))
    context = StageContext(view, item_file, folder / "features", bool(config["show_progress"]))
    found = FeatureStage.from_settings({**config.final_config_dict, "feature_missing": "zero"}).run(context, {})
    names = [name for name in found if f"{name}.present" in found]
    if not names:
        raise DataError("cold items are scored through item features, but item_features is empty: name at least one")
    pairs = [(found[name].numpy(), found[f"{name}.present"].numpy().astype(bool)) for name in names]
    items = by_content(pairs, tokens, cold, k)
    logger.info("%d of %d items without interactions are like known ones", len(items.tokens), len(cold))
    return items
