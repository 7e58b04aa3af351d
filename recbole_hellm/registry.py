"""Name-to-class tables that users may extend.

Built-in entries are ``"module:Name"`` strings resolved on first use, so importing the
package loads neither dgl nor transformers.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

from recbole_hellm.errors import ConfigError, nearest


class Registry:
    """A table of things of one kind, looked up by name.

    Args:
        kind: What the table holds, used in error messages (``"model"``).
        builtins: Name to ``"module:attribute"``; imported when first asked for.
    """

    def __init__(self, kind: str, builtins: dict[str, str] | None = None) -> None:
        self.kind = kind
        self._table: dict[str, Any] = dict(builtins or {})

    def add(self, name: str, item: Any) -> Any:
        """Add ``item`` under ``name`` and return it.

        Raises:
            ConfigError: If the name is taken.
        """
        if name in self._table:
            taken = self._table[name]
            raise ConfigError(f"{self.kind} {name!r} is already registered as {taken!r}; choose another name")
        self._table[name] = item
        return item

    def remove(self, name: str) -> None:
        """Take ``name`` out again (tests, notebooks that redefine a class)."""
        self.get(name)
        del self._table[name]

    def get(self, name: str) -> Any:
        """Return what stands under ``name``.

        Raises:
            ConfigError: If nothing does; the message has the near name and all known ones.
        """
        if name not in self._table:
            raise ConfigError(
                f"unknown {self.kind} {name!r}{nearest(name, self._table)}; known: {', '.join(sorted(self._table))}"
            )
        item = self._table[name]
        if isinstance(item, str):
            module, attribute = item.split(":")
            item = self._table[name] = getattr(import_module(module), attribute)
        return item

    def __contains__(self, name: object) -> bool:
        return name in self._table

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._table))


models = Registry(
    "model",
    {
        "HeLLM": "recbole_hellm.models.hellm:HeLLM",
        "MMHCL": "recbole_hellm.models.mmhcl:MMHCL",
        "TransitionCounts": "recbole_hellm.models.transition_counts:TransitionCounts",
    },
)
stages = Registry(
    "stage",
    {
        "features": "recbole_hellm.pipeline.features:FeatureStage",
        "graph": "recbole_hellm.pipeline.graph:GraphStage",
        "sequence": "recbole_hellm.pipeline.sequence:SequenceStage",
    },
)
text_encoders = Registry(
    "text encoder",
    {
        "hashing": "recbole_hellm.encoders.hashing:HashingTextEncoder",
        "minilm": "recbole_hellm.encoders.text:MiniLMTextEncoder",
    },
)
backbones = Registry("backbone adapter", {"llama": "recbole_hellm.llm.adapter:LlamaAdapter"})
"""By transformers' ``model_type``; every type that is not listed is taken to be built like LLaMA."""
