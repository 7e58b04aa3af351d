"""A function in a process of its own, so that its memory is its own: ``python -m benchmarks.child module:function``."""

from __future__ import annotations

import gc
import importlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from benchmarks.options import ROOT
from recbole_hellm.artifacts import write_atomically
from recbole_hellm.results import give_back_memory, peak_memory_mb, plain, reset_peak_memory


def in_child(function: str, **arguments: Any) -> dict[str, Any]:
    """Call ``module:function`` with plain arguments in a new process and return its mapping.

    Raises:
        RuntimeError: If the process fails; the end of its error output is in the message.
    """
    with tempfile.TemporaryDirectory() as folder:
        given, answer = Path(folder) / "arguments.json", Path(folder) / "answer.json"
        given.write_text(json.dumps(plain(arguments)), encoding="utf-8")
        run([sys.executable, "-m", "benchmarks.child", function, str(given), str(answer)], function)
        found: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
        return found


def run(command: Sequence[str], name: str, cwd: Path = ROOT) -> None:
    """Run a command in the checkout.

    Raises:
        RuntimeError: If it fails.
    """
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    done = subprocess.run(command, cwd=cwd, env={**os.environ, "PYTHONPATH": path}, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise RuntimeError(f"{name} ended with code {done.returncode}:\n{done.stderr[-3000:]}")


def measured(work: Callable[[], Any]) -> dict[str, Any]:
    """Return seconds and peak memory above what the process held before, in MB; and the result under ``result``."""
    gc.collect()
    give_back_memory()  # what is kept for later calls would hide as much of this one
    before = psutil.Process().memory_info().rss / 2**20
    reset_peak_memory()
    started = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "peak_mb": max(0.0, peak_memory_mb() - before), "before_mb": before, "result": result}


class PeakOfTree:
    """The largest memory of a process and its children together, looked at every half second; in MB."""

    def __init__(self, pid: int) -> None:
        self.peak_mb = 0.0
        self._process, self._over = psutil.Process(pid), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._over.wait(0.5):
            try:
                tree = [self._process, *self._process.children(recursive=True)]
                self.peak_mb = max(self.peak_mb, sum(each.memory_info().rss for each in tree) / 2**20)
            except psutil.Error:
                continue

    def stop(self) -> float:
        """End watching; return the peak."""
        self._over.set()
        self._thread.join()
        return self.peak_mb


def main(argv: Sequence[str]) -> None:
    """Call the named function."""
    name, given, answer = argv
    module, _, function = name.partition(":")
    arguments: Mapping[str, Any] = json.loads(Path(given).read_text(encoding="utf-8"))
    result = getattr(importlib.import_module(module), function)(**arguments)
    write_atomically(Path(answer), json.dumps(plain(result)))


if __name__ == "__main__":
    main(sys.argv[1:])
