"""Formats of checkpoints: what is read as it is, what is brought up to date, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from recbole_hellm.errors import ArtifactError

FORMAT = 1
"""Format that is written. Raise it with every change a reader has to know of, and add a step to ``MIGRATIONS``."""

MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""By format: what makes a manifest of it one of the next format."""


def migrated(folder: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest in the current format.

    Raises:
        ArtifactError: If it is newer than this package, or too old to be read; the message has both versions.
    """
    found = manifest.get("format")
    about = manifest.get("about")
    versions = about.get("versions") if isinstance(about, dict) else None
    made_by = versions.get("recbole-hellm", "unknown") if isinstance(versions, dict) else "unknown"
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise ArtifactError(f"{folder} has the unknown format {found!r}, made by recbole_hellm {made_by}")
    if found > FORMAT:
        raise ArtifactError(
            f"{folder} has format {found}, made by recbole_hellm {made_by}; this version reads formats up to {FORMAT}: "
            "update recbole_hellm"
        )
    while manifest["format"] < FORMAT:
        step = MIGRATIONS.get(manifest["format"])
        if step is None:
            raise ArtifactError(
                f"{folder} has format {found}, made by recbole_hellm {made_by}; this version reads no format below "
                f"{manifest['format'] + 1}: load it with that version"
            )
        manifest = {**step(manifest), "format": manifest["format"] + 1}
    return manifest
