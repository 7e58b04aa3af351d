"""Errors a user can act on; each message names the setting or file to change."""

import difflib
from collections.abc import Iterable


class HellmError(Exception):
    """Base of every error this package raises on purpose."""


class ConfigError(HellmError, ValueError):
    """A setting is unknown, has the wrong type or contradicts another one."""


class DataError(HellmError, ValueError):
    """A data file is missing, broken or does not fit the others."""


class ArtifactError(HellmError, RuntimeError):
    """A stored result is missing, incomplete or belongs to other inputs."""


class MissingModelError(HellmError, FileNotFoundError):
    """A pretrained model is not on this machine."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the closest of ``known``, or an empty string."""
    names = list(known)
    near = [entry for entry in names if entry.casefold() == name.casefold()] or difflib.get_close_matches(
        name, names, n=1
    )
    return f" (did you mean {near[0]!r}?)" if near else ""
