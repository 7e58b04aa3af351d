"""Results of finished stages, kept on disk under a key made of everything that decides them."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path
from secrets import token_hex
from typing import Any

from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from recbole_hellm.errors import ArtifactError

logger = getLogger(__name__)


def fingerprint(**parts: Any) -> str:
    """Return a hex digest of ``parts``; tensors count by shape, dtype and content, the rest as JSON."""
    digest = hashlib.sha256()
    for name in sorted(parts):
        value = parts[name]
        digest.update(f"\n{name}=".encode())
        if isinstance(value, Tensor):
            digest.update(f"{tuple(value.shape)}{value.dtype}".encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        else:
            digest.update(json.dumps(value, sort_keys=True).encode())
    return digest.hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def write_atomically(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` through a temporary file, so that a crash leaves the old content or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}-{token_hex(8)}")  # not by tempfile: others may read what a run leaves
    try:
        scratch.write_text(text, encoding="utf-8")
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


@dataclass(frozen=True)
class ArtifactStore:
    """A folder of stage results. A result is visible only once it is complete."""

    root: Path

    def path(self, stage: str, key: str) -> Path:
        """Return the folder a result has, or would have."""
        return self.root / f"{stage}-{key[:16]}"

    def load(self, stage: str, key: str, ids: str) -> dict[str, Tensor] | None:
        """Return the tensors saved under ``key``, or ``None`` if there are none.

        Args:
            stage: Name of the stage.
            key: Full key of the wanted result.
            ids: Digest of the item and user ids the caller works with.

        Raises:
            ArtifactError: If the folder holds another key, other ids, or a damaged file.
        """
        folder = self.path(stage, key)
        if not folder.is_dir():
            return None
        way_out = f"delete {folder} and run again"
        try:
            manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ArtifactError(f"{folder}/manifest.json cannot be read ({error}); {way_out}") from error
        if not isinstance(manifest, dict):
            raise ArtifactError(f"{folder}/manifest.json holds no mapping; {way_out}")
        if manifest.get("key") != key:
            raise ArtifactError(f"{folder} holds key {manifest.get('key')!r}, wanted {key!r}; {way_out}")
        if manifest.get("ids") != ids:
            raise ArtifactError(f"{folder} was made for other user or item ids than this data set has; {way_out}")
        tensors = folder / "tensors.safetensors"
        if not tensors.is_file() or file_digest(tensors) != manifest.get("sha256"):
            raise ArtifactError(f"{tensors} is missing or differs from its checksum; {way_out}")
        try:
            return load_file(tensors)
        except SafetensorError as error:  # a manifest rewritten to fit a damaged file
            raise ArtifactError(f"{tensors} cannot be read ({error}); {way_out}") from error

    def seconds(self, stage: str, key: str) -> float:
        """Return what a stored result took to make; 0 where that was not noted, or it was deleted since."""
        try:
            manifest = json.loads((self.path(stage, key) / "manifest.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return 0.0
        return float(manifest.get("seconds", 0.0))

    @contextmanager
    def lock(self, stage: str, key: str) -> Iterator[None]:
        """Inside, no other run makes the same result; one that has begun before is waited for.

        Raises:
            ArtifactError: If the folder cannot be written to, which a long stage shall not find out at its end.
        """
        folder = self.path(stage, key)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder.with_name(f".{folder.name}.lock"))
            try:
                lock.acquire(timeout=0)
            except Timeout:
                logger.info("stage %s: another run is making this result, waiting for it", stage)
                lock.acquire(poll_interval=0.2)
        except OSError as error:
            raise ArtifactError(
                f"result of stage {stage!r} cannot be written to {folder} ({error.strerror or error}); free space "
                "there, or set stage_cache_dir to a folder that can be written to"
            ) from error
        try:
            yield
        finally:
            lock.release()

    def save(self, stage: str, key: str, ids: str, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> Path:
        """Write ``tensors`` into a scratch folder and rename it, so a crash leaves no half result.

        Raises:
            ArtifactError: If the folder cannot be written to, or the disk is full.
        """
        target = self.path(stage, key)
        try:
            return self._save(stage, target, {"key": key, "ids": ids, **about}, tensors)
        except (OSError, SafetensorError) as error:
            raise ArtifactError(
                f"result of stage {stage!r} cannot be written to {target} ({error}); free space there, or set "
                "stage_cache_dir to a folder that can be written to"
            ) from error

    def _save(self, stage: str, target: Path, manifest: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Path:
        self.root.mkdir(parents=True, exist_ok=True)
        scratch = self.root / f".{stage}-{token_hex(8)}"
        try:
            scratch.mkdir()
            plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
            save_file(plain, scratch / "tensors.safetensors")
            document = {**manifest, "sha256": file_digest(scratch / "tensors.safetensors")}
            (scratch / "manifest.json").write_text(json.dumps(document, indent=2, sort_keys=True), encoding="utf-8")
            try:
                scratch.replace(target)
            except OSError:
                if not target.is_dir():  # otherwise another run finished the same key first: its result is ours
                    raise
                shutil.rmtree(scratch, ignore_errors=True)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
        return target
