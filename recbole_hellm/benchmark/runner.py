"""Run the missing cells of a plan, each in a process of its own."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from logging import getLogger
from pathlib import Path
from typing import Any

from recbole_hellm.artifacts import file_digest
from recbole_hellm.benchmark.child import surroundings
from recbole_hellm.benchmark.inputs import what_differs
from recbole_hellm.benchmark.lines import ResultsFile, check_results_path, log_of, real_path
from recbole_hellm.benchmark.plan import Cell, Plan
from recbole_hellm.benchmark.processes import run_process, stoppable, why_ended
from recbole_hellm.benchmark.progress import say

logger = getLogger(__name__)
MODULE = "recbole_hellm.benchmark.cell"
"""What runs one cell."""
Inputs = Mapping[tuple[str, str], Mapping[str, Any]]
"""By label and data set: what :func:`recbole_hellm.benchmark.checks.check_plan` gives."""


@dataclass(frozen=True)
class Counts:
    """What became of a plan's cells."""

    ran: int
    """Cells that ran now and have a result."""
    failed: int
    """Cells that ran now and ended in an error."""
    skipped: int
    """Cells whose result was there already."""


@dataclass(frozen=True)
class _Places:
    """Where the files beside a results file lie."""

    results: Path

    @property
    def stem(self) -> str:
        return self.results.name.removesuffix(".jsonl")

    def users(self, cell: Cell) -> Path:
        return self.results.with_name(f"{self.stem}.users") / f"{cell.key}.npz"

    def work(self, cell: Cell) -> Path:
        return self.users(cell).with_name(f".work-{cell.key}")

    def log(self, cell: Cell) -> Path:
        return log_of(self.results, cell.key)


def run_plan(
    plan: Plan,
    results_path: Path,
    command: str,
    env: Mapping[str, str] | None = None,
    module: str = MODULE,
    inputs: Inputs | None = None,
) -> Counts:
    """Run every cell that has no result yet, and write its line the moment it ends.

    A failed cell is a line with its error, and is tried again by the next call. A cell whose inputs changed since it
    ran runs again. Ctrl-C, SIGTERM and SIGHUP end the
    running cell and leave no line of it.

    Args:
        plan: What to run; :func:`recbole_hellm.benchmark.checks.check_plan` finds its mistakes before.
        results_path: The results file; per-user files and logs lie beside it.
        command: What the user typed, for the record.
        env: Changes to the environment of the cells.
        module: Module that runs one cell, given the path of its request.
        inputs: What the cells read besides their own settings, noted in their lines.

    Raises:
        ArtifactError: If the results file is locked, belongs to another plan, or cannot be written.
        ConfigError: If it may not be called so.
    """
    check_results_path(results_path)
    results_path = real_path(results_path)
    places, cells = _Places(results_path), plan.cells()
    ran = failed = skipped = 0
    kept = f"finished cells are in {results_path}; the same command runs the others"
    with ResultsFile(results_path, plan.header()) as results, stoppable(kept):
        for number, cell in enumerate(cells, start=1):
            known, reads = results.cells.get(cell.key), (inputs or {}).get((cell.label, cell.dataset), {})
            has_result = known is not None and _has_result(known, results_path.parent)
            differs = what_differs(known, reads) if known and has_result else ""
            if differs:
                logger.warning("%s runs again: %s", cell, differs)
            if known and has_result and not differs:
                skipped += 1
                named = {"label": cell.label, "group": cell.group}
                if any(known.get(key) != value for key, value in named.items()):  # renamed in the plan
                    results.append({**known, **named})
                continue
            say(f"[{number}/{len(cells)}] {cell} ... ")
            started = time.monotonic()
            line = _run(cell, reads, places, command, env or {}, module)
            results.append(line)
            ran, failed = ran + (line["status"] == "ok"), failed + (line["status"] == "failed")
            say(f"{_outcome(line, places.log(cell), time.monotonic() - started)}\n")
    return Counts(ran, failed, skipped)


def _has_result(line: Mapping[str, Any], folder: Path) -> bool:
    """Tell whether a line and the per-user file it names are both complete."""
    if line["status"] != "ok":
        return False
    file = folder / str(line.get("users_file"))
    return file.is_file() and file_digest(file) == line.get("users_sha256")


def _run(
    cell: Cell, reads: Mapping[str, Any], places: _Places, command: str, env: Mapping[str, str], module: str
) -> dict[str, Any]:
    """Run one cell in a process of its own and return its line."""
    work, log, users = places.work(cell), places.log(cell), places.users(cell)
    shutil.rmtree(work, ignore_errors=True)  # what a kill left behind
    work.mkdir(parents=True)
    log.parent.mkdir(exist_ok=True)
    planned = {**cell.line(), **reads, "users_file": f"{users.parent.name}/{users.name}", "command": command}
    request = {
        "model": cell.model,
        "dataset": cell.dataset,
        "settings": {"checkpoint_dir": str(work / "saved"), **cell.settings, "seed": cell.seed},  # models are not kept
        "argv": [],
        "cell": planned,
        "result": str((work / "result.json").resolve()),
        "users": str((work / "users.npz").resolve()),
        **surroundings(cell.model),
    }
    try:
        (work / "request.json").write_text(json.dumps(request, indent=2), encoding="utf-8")
        code = run_process([sys.executable, "-m", module, str((work / "request.json").resolve())], log, env)
        error = why_ended(code, log) if code else ""
        result = {} if error else _result(work / "result.json")
        if not error and (result.get("cell") != cell.key or not _has_result(_at(result, "users.npz"), work)):
            error = f"the run ended without a complete result; its log is {log}"
        if error:
            now = datetime.now().isoformat(timespec="seconds")
            return {**planned, "status": "failed", "error": error, "time": now, "users_file": None}
        (work / "users.npz").replace(users)
        return {**result, **{key: planned[key] for key in ("label", "group", "users_file", "command")}}
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _at(result: Mapping[str, Any], users_file: str) -> dict[str, Any]:
    return {"status": "failed", **result, "users_file": users_file}


def _result(path: Path) -> dict[str, Any]:
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return result if isinstance(result, dict) and isinstance(result.get("test"), dict) else {}


def _outcome(line: Mapping[str, Any], log: Path, seconds: float) -> str:
    if line["status"] == "failed":
        return f"failed after {seconds:.0f} s: {line['error']} (log: {log})"
    metrics = line["test"]
    name = "ndcg@10" if "ndcg@10" in metrics else next(iter(metrics), None)
    return f"ok {seconds:.0f} s" + (f", {name} {metrics[name]:.4f}" if name else "")
