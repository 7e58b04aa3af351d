"""A results file: JSON lines, a header first, then one line for every cell that ended."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from logging import getLogger
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from recbole_hellm.artifacts import write_atomically
from recbole_hellm.benchmark.reading import Read, load_lines, read
from recbole_hellm.errors import ArtifactError, ConfigError

__all__ = ["ResultsFile", "check_results_path", "load_lines", "log_of", "real_path", "unwritable"]

logger = getLogger(__name__)


class ResultsFile:
    """A results file a plan writes, locked against every other writer while it is open.

    Args:
        path: The file; made if missing.
        header: The plan's header.
    """

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        self.path = path
        self.header = dict(header)
        self.cells: dict[str, dict[str, Any]] = {}
        """The last line of every cell in the file, by its key."""
        self._lock: IO[str] | None = None

    def __enter__(self) -> Self:
        """Take the lock, check whose file it is, and repair a last line that a kill cut off.

        Raises:
            ArtifactError: If another process writes the file, another plan owns it, or it is damaged.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = self._locked()
            self._open()
        except OSError as error:
            self._unlock()
            raise self._unwritable(error) from error
        except BaseException:
            self._unlock()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._unlock()

    def append(self, line: Mapping[str, Any]) -> None:
        """Write one line, so that it survives a kill and a power cut from here on.

        Raises:
            ArtifactError: If it cannot be written; nothing of it stays in the file then.
        """
        before = self.path.stat().st_size if self.path.exists() else 0
        text = json.dumps(line) + "\n"
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            with suppress(OSError):
                os.truncate(self.path, before)
            raise self._unwritable(error) from error
        if line["kind"] == "cell":
            self.cells[line["cell"]] = dict(line)

    def _open(self) -> None:
        found = read(self.path) if self.path.exists() else Read([], {}, 0, True)
        for header in found.headers[:1]:
            if header["digest"] != self.header["digest"]:
                raise ArtifactError(
                    f"results file {self.path} belongs to plan {header['plan']!r}{self._difference(header)}, not to "
                    f"{self.header['plan']!r}; give another --results FILE, or delete it"
                )
        if found.dropped or not found.ends:
            if found.dropped:
                logger.warning("%s: the last line was cut off by a kill and is dropped; its cell runs again", self.path)
            whole = self.path.read_bytes()
            kept = whole[: len(whole) - found.dropped].decode("utf-8")
            write_atomically(self.path, kept + ("" if found.ends else "\n"))
        self.cells = found.cells
        if found.headers[-1:] != [json.loads(json.dumps(self.header))]:
            self.append(self.header)

    def _difference(self, header: Mapping[str, Any]) -> str:
        """Name what differs in the protocol of two plans of one name."""
        if header["plan"] != self.header["plan"]:
            return ""
        there, here = header.get("protocol") or {}, self.header["protocol"]
        differ = [f"{key} {there.get(key)!r} there, {here[key]!r} here" for key in here if here[key] != there.get(key)]
        return f" under another protocol ({'; '.join(differ)})"

    def _locked(self) -> IO[str]:
        side = self.path.with_name(f".{self.path.name}.lock")
        file = side.open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            owner = file.read().strip() or "another process"
            file.close()
            raise ArtifactError(
                f"results file {self.path} is being written by {owner}; wait for its end, or give another "
                "--results FILE"
            ) from error
        except OSError:
            file.close()
            raise
        file.truncate(0)
        file.write(f"plan {self.header['plan']!r} (process {os.getpid()})")
        file.flush()
        return file

    def _unlock(self) -> None:
        if self._lock is not None:
            with suppress(OSError):
                self._lock.truncate(0)
            self._lock.close()  # and the lock goes with it; the side file stays, or two could lock two files
            self._lock = None

    def _unwritable(self, error: OSError) -> ArtifactError:
        return ArtifactError(
            f"results file {self.path} cannot be written ({unwritable(self.path.parent) or error.strerror or error}); "
            "free space there, or give another --results FILE"
        )


def check_results_path(path: Path) -> None:
    """Check that a results file may be called so and can be written.

    Raises:
        ConfigError: If it does not end in ``.jsonl``, or its folder cannot be written.
    """
    if path.suffix != ".jsonl":  # "a" and "a.jsonl" would share their logs and user files
        raise ConfigError(f"results file {path} must end in .jsonl; give --results {path}.jsonl")
    problem = f"{path} is a folder" if path.is_dir() else unwritable(path.parent)
    if problem:
        raise ConfigError(f"results file {path} cannot be written ({problem}); give another --results FILE")


def unwritable(folder: Path) -> str:
    """Return why nothing can be written in a folder that may have to be made, or an empty string."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists() or path.is_symlink())
    return "" if there.is_dir() and os.access(there, os.W_OK | os.X_OK) else f"{there} is no folder that can be written"


def real_path(results: Path) -> Path:
    """Return where a results file lies: two names of one file share its lock, logs and user files."""
    real = results.resolve()
    return results if real == Path(os.path.abspath(results)) else real  # noqa: PTH100 (resolve follows links)


def log_of(results: Path, key: str) -> Path:
    """Return the log of the cell ``key``."""
    real = real_path(results)
    return real.with_name(f"{real.stem}.logs") / f"{key}.log"
