"""One cell of a comparison in a process of its own: memory, random state and RecBole's globals start fresh."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from recbole_hellm.artifacts import file_digest
from recbole_hellm.benchmark.child import answer
from recbole_hellm.benchmark.users import user_columns
from recbole_hellm.errors import HellmError
from recbole_hellm.quick_start import run_recbole_hellm
from recbole_hellm.results import plain

COPIED = (
    "protocol",
    "data",
    "parameters",
    "stages",
    "peak_memory_mb",
    "training_samples_per_second",
    "evaluation_users_per_second",
    "curves",
    "best_epoch",
    "commit",
    "versions",
    "hardware",
    "time",
)
"""Fields of a run's result file that its line in the results file repeats."""


def run_cell(request: Mapping[str, Any]) -> dict[str, Any]:
    """Run one cell.

    Args:
        request: ``model``, ``dataset``, ``settings``, ``argv``; ``cell`` (fields of its line that are known before);
            ``result`` (path of the line) and ``users`` (path of the user columns).

    Returns:
        The cell's line: ``cell`` and what was measured.

    Raises:
        HellmError: If the run fails.
    """
    users, scratch = Path(request["users"]), Path(request["result"]).with_name("run.json")
    settings = {**request["settings"], "result_file": str(scratch), "show_progress": False}
    outcome = run_recbole_hellm(
        request["model"], request["dataset"], config_dict=settings, argv=tuple(request.get("argv", ()))
    )
    if outcome["test_result"] is None:
        raise HellmError("setting 'train_stage' must be auto or finetune in a comparison: there is no test result")
    about = json.loads(scratch.read_text(encoding="utf-8"))
    config = outcome["config"]
    inter = Path(config["data_path"]) / f"{config['dataset']}.inter"
    columns = user_columns(outcome["trainer"].ranks, outcome["loaders"], inter, config)
    write_columns(users, columns)
    return {
        **request["cell"],
        "status": "ok",
        **{name: about[name] for name in COPIED},
        "run_settings": about["settings"],
        "decimals": about["settings"]["metric_decimal_place"],
        "valid": plain(outcome["best_valid_result"] or {}),
        "test": plain(outcome["test_result"]),
        "users_sha256": file_digest(users),
    }


def write_columns(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    """Write arrays to an ``.npz`` file through a scratch file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.stem}.tmp.npz")
    try:
        np.savez_compressed(scratch, **columns)  # type: ignore[arg-type]
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def main(argv: list[str]) -> int:
    """Run the cell of the request file ``argv[0]``; return the exit code."""
    return answer(Path(argv[0]), run_cell)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
