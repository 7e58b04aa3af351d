"""The manifest of a prepared data set: counts, checksums, and whether a folder still fits it."""

import json
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from logging import getLogger
from pathlib import Path
from typing import Any

from recbole_hellm.artifacts import file_digest
from recbole_hellm.data.fingerprint import folder_digests
from recbole_hellm.errors import DataError

logger = getLogger(__name__)

MANIFEST = "manifest.json"
FORMAT = 1
"""Raised whenever the same source would give other files."""
COUNTS = ("n_users", "n_items", "n_interactions")
"""Counts that stand at the top of a manifest as well."""


def describe_source(name: str, layout: str, files: Iterable[Path], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a manifest that decides the written files: source checksums, options and format.

    Raises:
        DataError: If a source file cannot be read.
    """
    try:
        checksums = {file.name: file_digest(file) for file in files}
    except OSError as error:
        raise DataError(f"file {error.filename} cannot be read ({error.strerror}): copy the complete folder") from error
    return {
        "format": FORMAT,
        "name": name,
        "source": {"layout": layout, "sha256": checksums},
        "options": dict(options),
    }


def write_manifest(
    folder: Path, inputs: Mapping[str, Any], results: Mapping[str, Any], events: str = ""
) -> dict[str, Any]:
    """Write ``manifest.json`` over all files in ``folder``, which must be complete, and return its contents.

    Beside ``inputs`` and ``results`` it gets ``n_users``, ``n_items``, ``n_interactions`` (those of
    ``results["counts"]``) and ``fingerprint`` at the top.

    Args:
        folder: With all files of the data set.
        inputs: From :func:`describe_source`.
        results: What came out.
        events: Digest of the interactions, if it is known; else they are read again.
    """
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    written = {
        file.relative_to(folder).as_posix(): {"sha256": file_digest(file), "bytes": file.stat().st_size}
        for file in files
    }
    counts = results.get("counts", {})
    manifest = {
        **inputs,
        "package_version": package_version(),
        **{key: counts[key] for key in COUNTS if key in counts},
        "fingerprint": folder_digests(folder, inputs["name"], events),
        **results,
        "files": written,
    }
    text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    logger.info("data set %s: fingerprint %s", inputs["name"], manifest["fingerprint"]["dataset"])
    return manifest


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a prepared folder.

    Raises:
        DataError: If there is none or it is broken.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"file {path} is missing: prepare the data set again") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: broken manifest ({error}): prepare the data set again with --force") from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise DataError(f"{path}: not a manifest of a prepared data set: prepare it again with --force")
    return manifest


def difference(folder: Path, inputs: Mapping[str, Any]) -> str:
    """Say how a prepared folder differs from what ``inputs`` would give; ``""`` if it does not.

    Compares the deciding part of the manifest and the checksum of every written file.
    """
    try:
        manifest = read_manifest(folder)
    except DataError as error:
        return str(error)
    for key, value in inputs.items():
        if manifest.get(key) != value:
            return f"{key} was {manifest.get(key)!r} and is now {value!r}"
    for file, facts in manifest["files"].items():
        path = folder / file
        if not path.is_file():
            return f"file {file} is missing"
        if file_digest(path) != facts["sha256"]:
            return f"file {file} was changed"
    return ""


def is_prepared(folder: Path) -> bool:
    """Tell whether ``folder`` has a manifest and all files of it in the right size (contents are not read)."""
    try:
        files = read_manifest(folder)["files"]
    except DataError:
        return False
    return all((folder / f).is_file() and (folder / f).stat().st_size == facts["bytes"] for f, facts in files.items())


def package_version() -> str:
    """Return the version of this package, ``unknown`` in a checkout that was not installed."""
    try:
        return version("recbole-hellm")
    except PackageNotFoundError:
        return "unknown"
