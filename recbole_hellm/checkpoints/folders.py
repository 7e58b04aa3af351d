"""A folder of files that is there completely or not at all, and in which a changed bit is found."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from secrets import token_hex
from typing import Any

from safetensors import SafetensorError

from recbole_hellm.artifacts import file_digest
from recbole_hellm.errors import ArtifactError

MANIFEST = "checkpoint.json"
"""The file that names all others with their digests."""
_EXCHANGE, _HERE = 2, -100
"""``RENAME_EXCHANGE`` and ``AT_FDCWD`` of Linux."""


def write_folder(target: Path, about: Mapping[str, Any], fill: Callable[[Path], None], way_out: str) -> None:
    """Make the files of a folder under a scratch name, then put it in the place of ``target`` at once.

    Everything is on the disk before the name changes: a crash, a full disk or a power cut leaves the folder before.

    Args:
        target: Where the folder shall be; an older one there is replaced.
        about: What the manifest says beside the digests.
        fill: Writes the files into the folder it is given.
        way_out: What a user can do if it cannot be written, for the message.

    Raises:
        ArtifactError: If it cannot be written.
    """
    scratch = target.parent / f".{target.name}-{token_hex(8)}"
    try:
        scratch.mkdir(parents=True)
        fill(scratch)
        files = sorted(path for path in scratch.rglob("*") if path.is_file())
        digests = {str(path.relative_to(scratch)): file_digest(path) for path in files}
        document = {**about, "files": digests}
        text = json.dumps({**document, "digest": _digest(document)}, indent=2, sort_keys=True)
        (scratch / MANIFEST).write_text(text, encoding="utf-8")
        for path in files:
            path.chmod(0o666 & ~_umask())  # safetensors lets nobody else read what it writes
        for path in [*files, scratch / MANIFEST, *(p for p in scratch.rglob("*") if p.is_dir()), scratch]:
            sync(path)
        replace_folder(scratch, target)
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{target} cannot be written ({_reason(error)}); {way_out}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a folder after checking every file against its digest.

    Raises:
        ArtifactError: If the folder, its manifest or a file is missing or was changed; the message names it.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise ArtifactError(f"{folder} is no checkpoint: it has no {MANIFEST}")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} cannot be read ({_reason(error)}): it was damaged or cut off") from error
    if not isinstance(document, dict) or not isinstance(document.get("files"), dict):
        raise ArtifactError(f"{path} holds no manifest of a checkpoint")
    if document.pop("digest", None) != _digest(document):
        raise ArtifactError(f"{path} differs from its own digest: it was changed or damaged")
    for name, digest in document["files"].items():
        check_inside(folder, name)
        file = folder / name
        if not file.is_file():
            raise ArtifactError(f"{file} is missing: {MANIFEST} names it")
        if file_digest(file) != digest:
            raise ArtifactError(f"{file} differs from its digest in {MANIFEST}: it was changed or damaged")
    return document


def check_inside(folder: Path, name: str) -> None:
    """Refuse a file name that leads out of ``folder``.

    Raises:
        ArtifactError: If it does.
    """
    if not (folder / name).resolve().is_relative_to(folder.resolve()):
        raise ArtifactError(
            f"{folder / MANIFEST} names {name!r}, which leads out of the folder: it was made to do harm"
        )


def replace_folder(scratch: Path, target: Path) -> None:
    """Give ``scratch`` the name ``target``; a folder of that name is exchanged with it and deleted.

    On Linux with a local file system the exchange is one step. Elsewhere the older folder is renamed first; what
    :func:`settle` finds after a crash between the two steps is put back.
    """
    if not target.exists():
        scratch.rename(target)
    elif exchange(scratch, target):
        shutil.rmtree(scratch, ignore_errors=True)
    else:
        older = target.with_name(f".{target.name}.older")
        shutil.rmtree(older, ignore_errors=True)
        target.rename(older)
        scratch.rename(target)
        shutil.rmtree(older, ignore_errors=True)
    sync(target.parent)


def exchange(one: Path, other: Path) -> bool:
    """Exchange the names of two folders in one step; returns whether the system could."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    return rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0


def settle(folder: Path) -> None:
    """Put away what a killed process left among the checkpoints in ``folder``, which nobody else writes to.

    A folder that had been set aside while its successor was not in place yet gets its name back.
    """
    for older in folder.glob(".*.older"):
        target = folder / older.name.removeprefix(".").removesuffix(".older")
        if (older / MANIFEST).is_file() and not target.exists():
            older.rename(target)
    for scratch in folder.glob(".*-????????????????"):
        shutil.rmtree(scratch, ignore_errors=True)
    for older in folder.glob(".*.older"):
        shutil.rmtree(older, ignore_errors=True)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _digest(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())
