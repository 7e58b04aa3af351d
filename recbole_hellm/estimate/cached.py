"""Which stages of a run are finished already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recbole_hellm.artifacts import ArtifactStore
from recbole_hellm.config.specs import RunSpec
from recbole_hellm.pipeline.base import StageContext, order_stages, stage_key
from recbole_hellm.trainer.loading import load_data
from recbole_hellm.views import train_view

PLENTY = 2_000_000
"""Interactions from which on reading them takes too long for an answer before the run."""


def reused_stages(config: Any, needs: tuple[str, ...], n_events: int) -> frozenset[str]:
    """Return the names of the stages whose results are in the stage cache.

    A result's key holds the training interactions, so they are read as a run reads them: seconds for a hundred thousand
    of them. They are not where the cache has no stage of any of these names, or there are too many.

    Args:
        config: Settings of a run.
        needs: Stages the model needs.
        n_events: Interactions of the data set.
    """
    settings = config.final_config_dict
    store = ArtifactStore(Path(RunSpec.from_config(settings).stage_cache_dir))
    stages = order_stages(needs, settings)
    if n_events > PLENTY or not any(list(store.root.glob(f"{stage.name}-*")) for stage in stages):
        return frozenset()
    _, loaders = load_data(config)
    folder = Path(settings["data_path"])
    view = train_view(loaders[0]._dataset)
    context = StageContext(view, folder / f"{settings['dataset']}.item", folder / "features")
    keys: dict[str, str] = {}
    for stage in stages:
        keys[stage.name] = stage_key(stage, context, keys)
    return frozenset(name for name, key in keys.items() if store.path(name, key).is_dir())
