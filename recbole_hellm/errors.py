"""Errors a user can act on; each message names the setting or file to change."""

import difflib
from collections.abc import Iterable


class HellmError(Exception):
    """Base of every error this package raises on purpose."""

    exit_code = 2
    """Exit code of the command it ends."""


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
    folded = {entry.casefold(): entry for entry in reversed(names)}
    near = difflib.get_close_matches(name, names, n=1) or [
        folded[entry] for entry in difflib.get_close_matches(name.casefold(), folded, n=1)
    ]
    same = [folded[name.casefold()]] if name.casefold() in folded else near
    return f" (did you mean {same[0]!r}?)" if same else ""
