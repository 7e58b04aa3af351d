"""Name-to-class tables that users may extend.

Built-in entries are ``"module:Name"`` strings resolved on first use, so importing the
package loads neither dgl nor transformers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
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


@dataclass(frozen=True)
class Variant:
    """A model that is another model with settings of its own.

    Attributes:
        base: Name of the other model.
        settings: What differs from its defaults; stronger than a data set's yaml, weaker than what a run sets.
    """

    base: str
    settings: Mapping[str, Any]


class ModelRegistry(Registry):
    """The table of models, which may also be made from another model and settings.

    Attributes:
        listeners: Called after a model was added.
    """

    def __init__(self, builtins: dict[str, str] | None = None) -> None:
        super().__init__("model", builtins)
        self._variants: dict[str, Variant] = {}
        self.listeners: list[Callable[[], None]] = []

    def add(self, name: str, item: Any) -> Any:
        """Add a model class under ``name`` and return it.

        Raises:
            ConfigError: If the name is taken.
        """
        super().add(name, item)
        for tell in self.listeners:
            tell()
        return item

    def add_variant(self, name: str, base: str, settings: Mapping[str, Any], about: str = "") -> type:
        """Make a model of its own name out of ``base`` and settings, by configuration alone.

        Args:
            name: Name of the new model, as ``--model`` takes it.
            base: Name of a registered model, or of another variant.
            settings: What differs from the base model's defaults.
            about: Docstring of the model: paper link, authors, year, **Differences:**.

        Returns:
            Its class, a subclass of the base model's.

        Raises:
            ConfigError: If the name is taken, no Python name, or the base model unknown.
        """
        if not name.isidentifier():
            raise ConfigError(f"model {name!r} must be a Python name (letters, digits, '_'), as RecBole asks for")
        if base not in self:
            known = ", ".join(sorted(self._table))
            raise ConfigError(
                f"setting 'base_model' of model {name!r} names an unknown model {base!r}{nearest(base, self)}; "
                f"known: {known}"
            )
        own, base_class = MappingProxyType(dict(settings)), self.get(base)
        body = {
            # A checkpoint stores the class by this address, where it is looked up here again.
            "__module__": "recbole_hellm.models.variants",
            "__doc__": about or f"{base} with {', '.join(f'{key}={value!r}' for key, value in own.items())}.",
            "by_design": MappingProxyType({**getattr(base_class, "by_design", {}), **own}),
        }
        kind = type(name, (base_class,), body)
        if name not in self:
            self._variants[name] = Variant(base, own)  # before the listeners ask for it
        return self.add(name, kind)

    def remove(self, name: str) -> None:
        """Take ``name`` out again."""
        super().remove(name)
        self._variants.pop(name, None)

    def lineage(self, name: str) -> list[str]:
        """Return the models ``name`` is made from, the first one first, itself last; ``[name]`` for any other."""
        names = [name]
        while names[0] in self._variants:
            names.insert(0, self._variants[names[0]].base)
        return names

    def own_settings(self, name: str) -> Mapping[str, Any]:
        """Return the settings of a variant that differ from its base model's; empty for any other model."""
        return self._variants[name].settings if name in self._variants else {}


models = ModelRegistry(
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
image_encoders = Registry(
    "image encoder",
    {
        "colours": "recbole_hellm.encoders.colours:ColourGridEncoder",
        "efficientnet-lite0": "recbole_hellm.encoders.efficientnet:EfficientNetEncoder",
    },
)
backbones = Registry("backbone adapter", {"llama": "recbole_hellm.llm.adapter:LlamaAdapter"})
"""By transformers' ``model_type``; every type that is not listed is taken to be built like LLaMA."""
