"""Memory that this process may still take: the system's, and what its control group allows."""

from __future__ import annotations

from pathlib import Path

UNLIMITED = 1 << 60
"""Control groups of version 1 state no limit as a number beyond any memory."""


def available_bytes(root: Path = Path("/")) -> int | None:
    """Return bytes that can be taken without swapping, ``None`` where the system does not tell.

    The smaller of ``MemAvailable`` of ``/proc/meminfo`` and what the control groups of this process, version 1 or 2,
    and those above them leave (limit minus use, where file pages that can be dropped count as free).

    Args:
        root: Where ``proc`` and ``sys`` are.
    """
    found = [left for left in (_system(root / "proc/meminfo"), *_groups(root)) if left is not None]
    return min(found) if found else None


def resident_bytes(root: Path = Path("/")) -> int:
    """Return what this process takes now, 0 where the system does not tell."""
    try:
        for line in (root / "proc/self/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return 0


def _system(meminfo: Path) -> int | None:
    try:
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def _groups(root: Path) -> list[int | None]:
    """Return what each control group above this process leaves."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    found: list[int | None] = []
    for line in lines:
        _, controllers, path = (line.split(":", 2) + ["", "", ""])[:3]
        if controllers == "":
            found += _upwards(root / "sys/fs/cgroup", path, "memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            top = root / "sys/fs/cgroup/memory"
            found += _upwards(top, path, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    return found


def _upwards(top: Path, path: str, limit: str, use: str, droppable: str) -> list[int | None]:
    """Return what a group and those above it leave; in a container the group's path may be outside of what it sees."""
    folder = top / path.strip("/")
    while not folder.is_dir() and folder != top:
        folder = folder.parent
    found = []
    while True:
        found.append(_left(folder, limit, use, droppable))
        if folder == top:
            return found
        folder = folder.parent


def _left(folder: Path, limit: str, use: str, droppable: str) -> int | None:
    allowed, used = _number(folder / limit), _number(folder / use)
    if allowed is None or used is None or allowed >= UNLIMITED:
        return None
    free = 0
    try:
        for line in (folder / "memory.stat").read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == droppable:
                free = int(value)
    except (OSError, ValueError):
        pass
    return max(0, allowed - used + free)


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text().strip())  # "max" is no number: no limit
    except (OSError, ValueError):
        return None
