"""What a results file holds, checked line by line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path
from typing import Any

from recbole_hellm.benchmark.line_fields import damaged_report
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


def load_lines(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the header of a results file, and the cells its plan asks for, in the plan's order.

    The header has two more entries: ``missing``, the planned cells without a line, and ``others``, the finished cells
    that are not planned; each cell is a mapping of ``label``, ``dataset`` and ``seed``, or its key where no more is
    known. A last line that a kill cut off is passed over; the file is not changed.

    Raises:
        ArtifactError: If the file is missing, no results file, or damaged; the message names the line.
    """
    try:
        found = read(path)
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
    wanted = list(header.get("cells", found.cells))
    return {**header, **_apart(header, found)}, [found.cells[key] for key in wanted if key in found.cells]


def _apart(header: Mapping[str, Any], found: Read) -> dict[str, Any]:
    """Return planned cells without a line, and finished cells that are not planned."""
    wanted = header.get("cells", found.cells)
    planned = header.get("planned", {})  # older files name the keys only
    others = [line for key, line in found.cells.items() if key not in set(wanted) and line["status"] == "ok"]
    return {
        "missing": [planned.get(key, key) for key in wanted if key not in found.cells],
        "others": [{name: line[name] for name in ("label", "dataset", "seed")} for line in others],
    }


def read(path: Path) -> Read:
    """Return what a results file holds; raises ``ArtifactError`` naming a damaged line, and ``OSError``."""
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
    wrong = [key for key, type_ in wanted.items() if not isinstance(line.get(key), type_)]
    if wrong:
        return f"has no proper {wrong[0]!r}"
    if kind == "plan":
        return _header_problem(line)
    return "" if line["status"] in ("ok", "failed") else f"has 'status' {line['status']!r}"


def _header_problem(header: Mapping[str, Any]) -> str:
    cells, planned = header.get("cells", []), header.get("planned", {})
    if not isinstance(cells, list) or not all(isinstance(key, str) for key in cells):
        return "has no proper 'cells'"
    if not isinstance(planned, dict) or not all(_is_named(cell) for cell in planned.values()):
        return "has no proper 'planned'"
    if not isinstance(header.get("protocol", {}), dict):
        return "has no proper 'protocol'"
    damaged = [problem for problem in map(damaged_report, header["reported"]) if problem]
    return f"has no proper 'reported' ({damaged[0]})" if damaged else ""


def _is_named(cell: Any) -> bool:
    return isinstance(cell, dict) and {"label", "dataset", "seed"} <= set(cell)
