"""HeLLM, a hypergraph-enhanced LLM recommender, as a plugin of RecBole.

Importing this package repairs RecBole for current numpy, scipy and torch (:mod:`recbole_hellm.compat`) and makes HeLLM,
MMHCL and TransitionCounts models of RecBole (:mod:`recbole_hellm.plugin`); dgl and transformers load when first used.
"""

from recbole_hellm import compat

compat.apply()

from recbole_hellm import plugin, registry  # noqa: E402 (RecBole can only be imported after the repair)
from recbole_hellm.errors import ArtifactError, ConfigError, DataError, HellmError, MissingModelError  # noqa: E402

plugin.register()

__version__ = "0.1.0"
__all__ = [
    "ArtifactError",
    "ConfigError",
    "DataError",
    "HellmError",
    "MissingModelError",
    "__version__",
    "plugin",
    "registry",
]
