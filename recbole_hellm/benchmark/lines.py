"""A results file: JSON lines, a header first, then one line for every cell that ended."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from recbole_hellm.artifacts import write_atomically
from recbole_hellm.benchmark.plan import FORMAT
from recbole_hellm.errors import ArtifactError

logger = getLogger(__name__)
REQUIRED: dict[str, type] = {
    "cell": str,
    "status": str,
    "label": str,
    "model": str,
    "dataset": str,
    "seed": int,
    "protocol": dict,
}
"""What every line of a cell has."""
HEADER_START = b'{"kind": "plan", '


@dataclass(frozen=True)
class Read:
    """What a results file holds."""

    headers: list[dict[str, Any]]
    """In the order they were written: a plan that grew has written another one."""
    cells: dict[str, dict[str, Any]]
    """The last line of every cell, by its key."""
    dropped: int
    """Bytes of a last line that a kill cut off."""
    ends: bool
    """Whether the last whole line ends in a newline."""


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
        found = _read(self.path) if self.path.exists() else Read([], {}, 0, True)
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
            f"results file {self.path} cannot be written ({error.strerror or error}); free space there, or give "
            "another --results FILE"
        )


def load_lines(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the header of a results file, and the cells its plan asks for, in the plan's order.

    A last line that a kill cut off is passed over; the file is not changed.

    Raises:
        ArtifactError: If the file is missing, no results file, or damaged; the message names the line.
    """
    try:
        found = _read(path)
    except OSError as error:
        raise ArtifactError(
            f"results file {path} cannot be read ({error.strerror or error}); check the path, or run "
            "'recbole-hellm compare' first"
        ) from error
    if not found.headers:
        raise ArtifactError(f"results file {path} is empty; run 'recbole-hellm compare' first")
    if found.dropped:
        logger.warning("%s: the last line was cut off by a kill and is left out", path)
    header = found.headers[-1]
    wanted = map(str, header.get("cells", found.cells))
    return header, [found.cells[key] for key in wanted if key in found.cells]


def _read(path: Path) -> Read:
    whole = path.read_bytes()
    *lines, last = whole.split(b"\n")
    ends = last == b""
    if not ends:
        lines.append(last)
    headers: list[dict[str, Any]] = []
    cells: dict[str, dict[str, Any]] = {}
    for number, text in enumerate(lines, start=1):
        line = _parsed(text)
        if line is None:
            # A cut header is told from a file of something else, which must not be overwritten.
            cut = number > 1 or text.startswith(HEADER_START) or HEADER_START.startswith(text)
            if number == len(lines) and cut:
                return Read(headers, cells, len(text) + ends, True)
            raise ArtifactError(
                f"results file {path} line {number} is no JSON object; it is no results file, or was changed by hand: "
                "delete the line or the file"
            )
        problem = _problem(line, first=number == 1)
        if problem:
            raise ArtifactError(f"results file {path} line {number} {problem}; delete the line or the file")
        if line["kind"] == "plan":
            headers.append(line)
        else:
            cells[line["cell"]] = line
    return Read(headers, cells, 0, ends)


def _parsed(text: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return line if isinstance(line, dict) else None


def _problem(line: Mapping[str, Any], first: bool) -> str:
    """Return what is wrong with a line, or an empty string."""
    kind = line.get("kind")
    if first and kind != "plan":
        return "is no header ('kind' must be 'plan')"
    if kind == "plan":
        if line.get("format") != FORMAT:
            return f"has format {line.get('format')!r}, this version reads {FORMAT}"
        wanted: dict[str, type] = {"plan": str, "digest": str, "reported": list}
    elif kind == "cell":
        wanted = REQUIRED
    else:
        return f"has 'kind' {kind!r}, must be 'plan' or 'cell'"
    if not isinstance(line.get("cells", []), list):
        return "has no proper 'cells'"
    wrong = [key for key, type_ in wanted.items() if not isinstance(line.get(key), type_)]
    if wrong:
        return f"has no proper {wrong[0]!r}"
    return "" if kind == "plan" or line["status"] in ("ok", "failed") else f"has 'status' {line['status']!r}"
