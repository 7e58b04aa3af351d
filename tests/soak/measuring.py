"""What a process holds, and whether it holds more and more."""

from __future__ import annotations

import atexit
import gc
import logging
import os
import signal
import sys
import tempfile
import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from scipy.stats import theilslopes

from recbole_hellm.results import give_back_memory

MB_A_RUN = 0.1
"""Most that memory may grow in a run: half of the 0.2 MB that must be noticed. Measured: 0.015
(docs/reliability.md)."""
MB_A_RUN_OF_FEW = 0.75
"""The same over ten runs, in which the allocator has not settled; objects and tensors are counted exactly there."""
OBJECTS_A_RUN = 2.0
"""Most that the number of Python's objects may grow in a run; of half a million, a steady process has a few more or
less from one run to the next."""


@dataclass(frozen=True)
class Sample:
    """What a process holds after a run."""

    rss_mb: float
    objects: int
    """Objects that Python's garbage collector knows."""
    tensors: int
    threads: int
    files: int
    """Open files, sockets and pipes."""
    children: int
    handlers: int
    """Logging handlers alive, on whichever logger."""
    root_handlers: int
    wrappers: int
    """Wrappers around standard output and error."""
    hooks: int
    """Functions to be called at exit, warning filters and import hooks."""
    temporary: int
    """Files and folders in the folder for temporary files."""


COUNTS = ("tensors", "threads", "files", "children", "handlers", "root_handlers", "wrappers", "hooks", "temporary")
"""What may not grow at all."""


def take() -> Sample:
    """Measure this process, after what is free has been given back."""
    gc.collect()
    give_back_memory()
    process, objects = psutil.Process(), gc.get_objects()
    return Sample(
        rss_mb=process.memory_info().rss / 2**20,
        objects=len(objects),
        tensors=sum(type(thing) in (torch.Tensor, torch.nn.Parameter) for thing in objects),
        threads=process.num_threads(),
        files=process.num_fds(),
        children=len(process.children(recursive=True)),
        handlers=len(logging._handlerList),
        root_handlers=sum(len(logging.getLogger(name).handlers) for name in (None, "recbole_hellm")),
        wrappers=_wrappers(sys.stdout) + _wrappers(sys.stderr),
        hooks=atexit._ncallbacks() + len(warnings.filters) + len(sys.meta_path),
        temporary=sum(1 for _ in Path(tempfile.gettempdir()).rglob("*")),
    )


def _wrappers(stream: Any) -> int:
    count = 0
    while hasattr(stream, "_StreamWrapper__wrapped"):
        stream, count = stream._StreamWrapper__wrapped, count + 1
    return count


def switches() -> dict[str, Any]:
    """Return the settings of this process that a run must leave as it finds them."""
    return {
        "signals": [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)],
        "timer": signal.getitimer(signal.ITIMER_REAL)[0] > 0,
        "dtype": torch.get_default_dtype(),
        "gradients": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_anomaly_enabled()),
        "deterministic": (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic,
                          torch.backends.cudnn.benchmark),
        "torch threads": torch.get_num_threads(),
        "folder": os.getcwd(),  # noqa: PTH109
        "environment": dict(os.environ),
        "streams": (sys.stdout, sys.stderr),
        "path": tuple(sys.path),
        "writers": [t.name for t in threading.enumerate() if "Writer" in type(t).__name__],
    }  # fmt: skip


def changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Return what differs, in words."""
    return [f"{name}: {before[name]!r} became {after[name]!r}" for name in before if before[name] != after[name]]


def slope(values: Sequence[float]) -> float:
    """Return the median growth from one value to the next (Theil-Sen): a few outliers do not move it."""
    return float(theilslopes(list(values)).slope)


def grown(samples: Sequence[Sample], mb_a_run: float = MB_A_RUN) -> list[str]:
    """Return what grows over the runs, in words; nothing for a process that holds as much as ever.

    Args:
        samples: A sample after each run, warm-up left out.
        mb_a_run: Most that memory may grow in a run.
    """
    found, half = [], len(samples) // 2
    parts = samples[:half], samples[half:]
    for name, bound in (("rss_mb", mb_a_run), ("objects", OBJECTS_A_RUN)):
        # What leaks grows in both halves; something that is loaded once, late, makes one step in one of them.
        steepness = min(slope([getattr(sample, name) for sample in part]) for part in parts)
        if steepness > bound:
            found.append(f"{name} grows by {steepness:.3f} a run, more than {bound}")
    for name in COUNTS:
        early, late = (max(getattr(s, name) for s in part) for part in parts)
        if late > early:
            found.append(f"{name} grew from {early} to {late}")
    return found


def stray(root: Path) -> list[str]:
    """Return files that a run should have removed: anything hidden but locks, unfinished or temporary."""
    found = []
    for path in root.rglob("*"):
        name = path.name
        if name.endswith(".lock"):  # stays, so that two runs never hold two locks of one name
            continue
        if (
            name.startswith(".")
            or name.endswith((".tmp", ".part"))
            or ".tmp." in name
            or "unfinished" in path.parts[:-1]
        ):
            found.append(str(path.relative_to(root)))
    return sorted(found)
