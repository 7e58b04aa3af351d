"""Address of the models made by configuration alone, under which checkpoints find their classes.

There is nothing in this file but the way to :data:`recbole_hellm.registry.models`:
``recbole_hellm.models.variants.E4SRec`` is what is registered as ``E4SRec``.
"""

from __future__ import annotations

from typing import Any

from recbole_hellm import registry
from recbole_hellm.errors import ConfigError


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name not in registry.models:
        raise ConfigError(
            f"model {name!r} is no model of this program; register it before loading what it left, with "
            f"recbole_hellm.registry.models.add_variant({name!r}, base, settings)"
        )
    return registry.models.get(name)
