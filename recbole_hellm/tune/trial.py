"""One run of a trial in a process of its own: trained and validated, never tested."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_hellm.benchmark.child import answer
from recbole_hellm.errors import HellmError
from recbole_hellm.quick_start import run_recbole_hellm
from recbole_hellm.results import plain
from recbole_hellm.tune.link import Asker

COPIED = ("best_epoch", "stages", "peak_memory_mb", "commit", "parameters")
"""Fields of a run's result file that the trial's record repeats."""


def run_trial(request: Mapping[str, Any], asker: Asker | None) -> dict[str, Any]:
    """Run one trial with one seed.

    Args:
        request: ``model``, ``dataset``, ``settings``; ``result`` (path of what comes back).
        asker: Reports every validated epoch, and may end the run; ``None``: nobody is told.

    Returns:
        The best value of validation, the epoch, the curve ``[epoch, value, loss, seconds]`` and the cost.

    Raises:
        HellmError: If the run fails, or nothing was validated.
    """
    scratch = Path(request["result"]).with_name("run.json")
    settings = {**request["settings"], "result_file": str(scratch), "show_progress": False}
    outcome = run_recbole_hellm(
        request["model"], request["dataset"], config_dict=settings, saved=False, test=False, after_validation=asker
    )
    if outcome["best_valid_result"] is None:
        raise HellmError("nothing was validated; set eval_step to at most the number of epochs")
    about = json.loads(scratch.read_text(encoding="utf-8"))
    metric = str(outcome["config"]["valid_metric"]).lower()
    curve = [
        [entry["epoch"], entry["valid"][metric] if entry["valid"] else None, entry["loss"], round(entry["seconds"], 2)]
        for entry in about["curves"]["training"]
    ]
    return {
        "value": float(outcome["best_valid_result"][metric]),
        "valid": plain(outcome["best_valid_result"]),
        "is_pruned": asker is not None and asker.is_pruned,
        "curve": curve,
        **{name: about[name] for name in COPIED},
    }


def main(argv: list[str]) -> int:
    """Run the trial of the request file ``argv[0]``; return the exit code."""
    return answer(Path(argv[0]), _asked)


def _asked(request: Mapping[str, Any]) -> dict[str, Any]:
    asker = Asker(request["socket"], request["metric"], request["epochs"]) if "socket" in request else None
    return run_trial(request, asker)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
