"""The whole of HeLLM on Toys by its command, from an empty stage cache; then its start with the stages cached."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.child import PeakOfTree
from benchmarks.data import Data, find_data, settings
from benchmarks.fragment import Fragment, fingerprint, run_alone
from benchmarks.options import ROOT, Options
from benchmarks.targets import keys_of

PLACES = ("--data_path=", "--stage_cache_dir=", "--checkpoint_dir=", "--result_file=")
"""Arguments that name folders of the machine: they decide no result, and do not belong in its record."""


def measure(options: Options) -> Fragment:
    """Run the command once, then start it some times and stop it after its first training step."""
    data = find_data("amazon-toys", options)
    folder = options.scratch / "toys-total"
    shutil.rmtree(folder, ignore_errors=True)  # stages of an earlier run would make this one short
    folder.mkdir(parents=True)
    arguments = command_line(data, options, folder)
    whole = run_whole(arguments, folder)
    starts = [start_up(arguments, folder, number) for number in range(options.pairs or 3)]
    keys: dict[str, float | None] = {
        "toys_total_minutes": whole["seconds"] / 60,
        "startup_seconds": statistics.median(starts),
    }
    command = " ".join(argument for argument in arguments if not argument.startswith(PLACES))
    details = {"data": data.name, "data_sha256": fingerprint(data), "command": command, "run": whole,
               "startup_seconds": starts}  # fmt: skip
    return Fragment(keys, details)


def command_line(data: Data, options: Options, folder: Path) -> list[str]:
    """Return the arguments of the run: everything at its default but where files go."""
    chosen = settings(data, options, stage_cache_dir=str(folder / "stages"), checkpoint_dir=str(folder / "checkpoints"),
                      result_file=str(folder / "result.json"), state="INFO")  # fmt: skip
    given = {key: json.dumps(value) if not isinstance(value, str) else value for key, value in chosen.items()}
    return ["--model=HeLLM", f"--dataset={data.name}", *(f"--{key}={value}" for key, value in given.items())]


def run_whole(arguments: list[str], folder: Path) -> dict[str, Any]:
    """Run the command in a process of its own; return seconds, peak memory, parts and metrics.

    Raises:
        RuntimeError: If it fails.
    """
    command = [sys.executable, str(ROOT / "run_recbole_hellm.py"), *arguments]
    started = time.perf_counter()
    with (folder / "run.log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(command, cwd=folder, env=_environment(), stdout=log, stderr=subprocess.STDOUT)
        watch = PeakOfTree(process.pid)
        code = process.wait()
        peak = watch.stop()
    seconds = time.perf_counter() - started
    if code:
        raise RuntimeError(f"the run ended with code {code}: {(folder / 'run.log').read_text()[-2000:]}")
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    reported = {key: result.get(key) for key in REPORTED}
    reported["stages"] = [{key: value for key, value in stage.items() if key != "path"} for stage in result["stages"]]
    return {"seconds": seconds, "peak_mb": peak, **reported}


REPORTED = ("best_epoch", "best_valid_result", "test_result", "stages", "evaluation_users_per_second", "curves")


def start_up(arguments: list[str], folder: Path, number: int) -> float:
    """Return the seconds from the start of a process to the end of its first forward pass in stage 2.

    Raises:
        RuntimeError: If it ends without one.
    """
    moment = folder / f"first-step-{number}.txt"
    command = [sys.executable, "-m", "benchmarks.first_step", str(moment), *arguments]
    started = time.time()
    done = subprocess.run(command, cwd=folder, env=_environment(), capture_output=True, text=True)
    if done.returncode or not moment.is_file():
        raise RuntimeError(f"the start ended with code {done.returncode}: {(done.stdout + done.stderr)[-2000:]}")
    return float(moment.read_text(encoding="utf-8")) - started


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))}


if __name__ == "__main__":
    run_alone(measure, keys_of("toys"), str(__doc__))
