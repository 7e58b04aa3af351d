"""Typed, validated views on RecBole's flat settings: the machinery.

A yaml file holds flat keys, so that RecBole's ``--key=value`` can override one of them; code
reads frozen dataclasses. Field ``r`` of a spec with prefix ``lora_`` is the key ``lora_r``.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar, Literal, Self, Union, get_args, get_origin, get_type_hints

from recbole_hellm.errors import ConfigError, nearest

YAML_WORDS = {"True": ("yes", "on"), "False": ("no", "off"), "None": ("none",)}
"""What yaml and RecBole make of bare words (``yes``, ``no``, ``off``, ``none``) that some settings have as choices."""


@dataclass(frozen=True)
class Spec:
    """Base of the specs: reads ``<prefix><field>`` from a mapping and checks types and ranges."""

    prefix: ClassVar[str] = ""

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Read the fields of this spec from flat settings.

        Args:
            config: Flat settings; a missing key takes the field's default.

        Raises:
            ConfigError: If a value has another type than its field, or breaks a rule of the spec.
        """
        hints, values = get_type_hints(cls), {}
        for field in fields(cls):
            key = cls.prefix + field.name
            if key not in config:
                if field.default is MISSING:
                    raise ConfigError(f"setting {key!r} is required")
                continue
            values[field.name] = convert(key, config[key], hints[field.name])
        return cls(**values)

    @classmethod
    def keys(cls) -> frozenset[str]:
        """Return the flat keys this spec reads."""
        return frozenset(cls.prefix + field.name for field in fields(cls))

    def require(self, ok: bool, field: str, rule: str) -> None:
        """Raise ``ConfigError`` naming ``field``, its value and ``rule`` unless ``ok``."""
        if not ok:
            raise ConfigError(f"setting {self.prefix + field!r} must be {rule}, got {getattr(self, field)!r}")


def convert(key: str, value: Any, want: Any) -> Any:
    """Return ``value`` as type ``want`` (int, float, bool, str, Literal, tuple[str, ...], X | None).

    Raises:
        ConfigError: If it is of another type; only int to float and scalar to one-element tuple are converted.
    """
    origin = get_origin(want)
    if origin in (Union, types.UnionType):
        options = [option for option in get_args(want) if option is not type(None)]
        return None if value is None else convert(key, value, options[0])
    if origin is Literal:
        return _one_of(key, value, get_args(want))
    if origin is tuple:
        listed = [] if value is None else list(value) if isinstance(value, list | tuple) else [value]
        return tuple(convert(key, entry, get_args(want)[0]) for entry in listed)
    if want is float and type(value) is int:
        return float(value)
    if want is str and value is None:
        return ""
    if type(value) is not want:
        raise ConfigError(f"setting {key!r} must be of type {want.__name__}, got {value!r}")
    return value


def _one_of(key: str, value: Any, allowed: tuple[Any, ...]) -> Any:
    words = YAML_WORDS[str(value)] if value is None or isinstance(value, bool) else ()
    meant = [word for word in words if word in allowed]
    if meant and value not in allowed:
        return meant[0]
    if value not in allowed or isinstance(value, bool) != any(isinstance(a, bool) and a == value for a in allowed):
        hint = nearest(str(value), [str(a) for a in allowed])
        raise ConfigError(f"setting {key!r} must be one of {', '.join(map(repr, allowed))}, got {value!r}{hint}")
    return value
