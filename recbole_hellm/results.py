"""What a run leaves behind: a JSON file, and the rank of every user's target beside it."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import platform
import resource
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from recbole_hellm.artifacts import write_atomically
from recbole_hellm.errors import ArtifactError

PACKAGES = ("recbole-hellm", "recbole", "torch", "transformers", "peft", "dgl", "numpy", "pandas", "scipy")


def versions() -> dict[str, str]:
    """Return the versions of what decides a result."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def commit() -> str | None:
    """Return the commit of the checkout this package runs from, ``+`` if files differ; ``None`` outside of one."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    try:
        found = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()


def hardware() -> dict[str, Any]:
    """Return processor, the widest vector instructions torch uses, cores and memory of this machine."""
    import torch  # takes seconds: not where results are only read

    from recbole_hellm.precision import use_bf16

    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].partition(":")[2].strip() if lines else model
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    # Processors of one name differ several times in speed by these.
    vectors = torch.backends.cpu.get_cpu_capability() + (" bf16" if use_bf16("auto", torch.device("cpu")) else "")
    memory = round(pages / 2**30, 1)
    return {"processor": model, "instructions": vectors, "cores": os.cpu_count(), "memory_gb": memory}


def give_back_memory() -> None:
    """Give freed memory back to the system, where the C library can (glibc).

    It keeps freed blocks below 32 MB for itself. Batches of ever other lengths leave gigabytes of them.
    """
    trim = getattr(_c_library(), "malloc_trim", None)
    if trim is not None:
        trim(0)


@cache
def _c_library() -> Any:
    """Return the C library this process runs with, ``None`` where that is not known."""
    try:
        return ctypes.CDLL(None)
    except (OSError, TypeError):  # the latter on Windows
        return None


def reset_peak_memory() -> None:
    """Start a new measurement of the process's peak memory, where the system allows it (Linux).

    What earlier work has freed is given back first, so that it does not count.
    """
    give_back_memory()
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_memory_mb() -> float:
    """Return the process's peak resident memory since :func:`reset_peak_memory`, in MB."""
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def plain(value: Any) -> Any:
    """Return ``value`` as JSON can hold it: numbers, strings, lists, mappings; anything else by its text."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(entry) for entry in value]
    return str(value)


def write_result(path: Path, result: Mapping[str, Any], ranks: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Write a run's result and, beside it, ``<stem>.ranks.npz`` with the rank of every user's target.

    Args:
        path: JSON file.
        result: Anything :func:`plain` can hold.
        ranks: By phase (``valid``, ``test``): arrays ``user``, ``item`` (tokens) and ``rank`` (1 = first).

    Raises:
        ArtifactError: If a file cannot be written; neither of the two is left behind then.
    """
    side = path.with_name(path.name.removesuffix(".json") + ".ranks.npz")
    arrays = {f"{phase}_{name}": array for phase, columns in ranks.items() for name, array in columns.items()}
    scratch = side.with_name(f".{side.stem}.tmp.npz")
    document = {**plain(result), "ranks_file": side.name}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(scratch, **arrays)  # type: ignore[arg-type]
        write_atomically(path, json.dumps(document, indent=2, sort_keys=True) + "\n")
        scratch.replace(side)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        with suppress(OSError):
            scratch.unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """Make the folder of a result file before a long run, which could not keep its result otherwise.

    Raises:
        ArtifactError: If that is not possible.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        with tempfile.TemporaryFile(dir=path.parent):
            return
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError) -> ArtifactError:
    """Return the error of a result file that cannot be written."""
    return ArtifactError(
        f"result file {path} cannot be written ({error.strerror or error}); free space there, or set result_file to "
        "another path"
    )
