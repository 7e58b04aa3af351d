"""Run the trials of a study, each run in a process of its own."""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from recbole_hellm.artifacts import write_atomically
from recbole_hellm.benchmark.child import surroundings
from recbole_hellm.benchmark.processes import run_process, stoppable, why_ended
from recbole_hellm.benchmark.progress import say
from recbole_hellm.errors import HellmError
from recbole_hellm.tune.best import write_best
from recbole_hellm.tune.checks import config_of
from recbole_hellm.tune.link import answerer
from recbole_hellm.tune.study import Study, Ticket

MODULE = "recbole_hellm.tune.trial"
"""What runs one seed of a trial."""
HOPELESS = 3
"""First trials that fail, all of them, before a search gives up."""


def run_study(study: Study, module: str = MODULE) -> int:
    """Run trials until the study has all of them, or no time for another; return how many ran.

    Ctrl-C, SIGTERM and SIGHUP end the running trial; like one that was killed, it is run again by the next call.

    Args:
        study: Where trials come from.
        module: Module that runs one seed of a trial, given the path of its request.

    Raises:
        HellmError: If the first trials failed, all of them.
    """
    ran = 0
    with stoppable(f"finished trials are in {study.folder}; the same command goes on"):
        while (ticket := study.next_trial()) is not None:
            place = len(study.records()) + 1  # a trial that was killed has a number, but no place
            say(f"[{place}/{study.plan.trials}] trial {ticket.number + 1}: {worded(ticket.chosen)} ... ")
            record = ticket.same and _repeated(ticket, ticket.same)
            record = record or _run(study, ticket, module)
            study.end(ticket, record)
            keep(study)
            say(_outcome(study, record) + "\n")
            ran += 1
            _check_hope(study)
    return ran


def keep(study: Study) -> None:
    """Write ``trials.jsonl`` and ``best.yaml`` as the study is now, each complete at any time."""
    with study.locked():  # or a process could replace a newer file by an older one
        records = study.records()
        lines = [json.dumps(record, sort_keys=True) + "\n" for record in records]
        write_atomically(study.folder / "trials.jsonl", "".join(lines))
        best = study.best()
        if best is not None:
            write_best(study.folder / "best.yaml", study.plan, best, len(records))


def worded(chosen: Mapping[str, Any]) -> str:
    """Return settings as a reader sees them."""
    return ", ".join(
        f"{key} {value:.4g}" if type(value) is float else f"{key} {value}" for key, value in chosen.items()
    )


def _run(study: Study, ticket: Ticket, module: str) -> dict[str, Any]:
    """Run a trial once with each seed and return its record."""
    started, plan = time.monotonic(), study.plan
    runs: dict[str, dict[str, Any]] = {}
    error, is_pruned = "", False
    try:
        epochs = int(config_of(plan, ticket.chosen)["epochs"])
    except HellmError as refused:  # values that exclude each other
        error = str(refused)
    for seed in plan.seeds:
        if error or is_pruned:
            break
        # The other seeds have a curve too, but a trial has one: that of its first.
        decide = _decider(study, ticket) if seed == plan.seeds[0] else lambda said: False
        result, error = _run_seed(study, ticket, seed, epochs, decide, module)
        if not error:
            runs[str(seed)] = result
            is_pruned = bool(result.pop("is_pruned"))
    values = [run["value"] for run in runs.values()]
    status = "failed" if error else "pruned" if is_pruned else "complete"
    return {
        **_head(ticket),
        "status": status,
        "value": statistics.fmean(values) if values and not error else None,
        "sd": statistics.stdev(values) if len(values) > 1 and not error else None,
        "runs": runs,
        "error": error or None,
        "seconds": round(time.monotonic() - started, 1),
    }


def _head(ticket: Ticket) -> dict[str, Any]:
    now = datetime.now().isoformat(timespec="seconds")
    return {
        "trial": ticket.number + 1,
        "settings": ticket.chosen,
        "same_as": None,
        "time": now,
        "process": f"{platform.node()}:{os.getpid()}",
    }


def _repeated(ticket: Ticket, same: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record of a trial whose settings ran before: the same seeds would give the same values."""
    for epoch, value, *_ in next(iter(same["runs"].values()))["curve"]:
        if value is not None:
            ticket.trial.report(value, epoch)
    return {**same, **_head(ticket), "same_as": same["trial"], "seconds": 0.0}


def _run_seed(
    study: Study,
    ticket: Ticket,
    seed: int,
    epochs: int,
    decide: Callable[[Mapping[str, Any]], bool],
    module: str,
) -> tuple[dict[str, Any], str]:
    """Run one seed in a process of its own; return its result, and why it has none."""
    name = f"{ticket.number + 1}-{seed}"
    work, log = study.folder / "running" / name, study.folder / "logs" / f"{name}.log"
    shutil.rmtree(work, ignore_errors=True)  # what a kill left behind
    work.mkdir(parents=True)
    log.parent.mkdir(exist_ok=True)
    plan = study.plan
    ours, theirs = socket.socketpair()
    request = {
        "model": plan.model,
        "dataset": plan.dataset,
        "settings": {"checkpoint_dir": str(work / "saved"), **plan.run_settings(ticket.chosen, seed)},
        "metric": study.metric.lower(),
        "epochs": epochs,
        "socket": theirs.fileno(),
        "result": str((work / "result.json").resolve()),
        **surroundings(plan.model),
    }
    try:
        (work / "request.json").write_text(json.dumps(request, indent=2), encoding="utf-8")
        command = [sys.executable, "-m", module, str((work / "request.json").resolve())]
        code = run_process(command, log, {}, answerer(ours, decide), (theirs.fileno(),))
        if code:
            return {}, why_ended(code, log)
        result = _result(work / "result.json")
        return result, "" if result else f"the run ended without a result; its log is {log}"
    finally:
        ours.close()
        theirs.close()
        shutil.rmtree(work, ignore_errors=True)


def _decider(study: Study, ticket: Ticket) -> Callable[[Mapping[str, Any]], bool]:
    """Return what notes an epoch of a trial and says whether it ends there; after the last epoch there is no end."""

    def decide(said: Mapping[str, Any]) -> bool:
        return study.report(ticket, said["epoch"], said["value"]) and not said["last"]

    return decide


def _result(path: Path) -> dict[str, Any]:
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return result if isinstance(result, dict) and "value" in result else {}


def _outcome(study: Study, record: Mapping[str, Any]) -> str:
    if record["status"] == "failed":
        return f"failed after {record['seconds']:.0f} s: {record['error']}"
    if record["same_as"] is not None:
        return f"as trial {record['same_as']}"
    epochs = sum(len(run["curve"]) for run in record["runs"].values())
    ended = f"{epochs} epoch{'s' if epochs > 1 else ''}"
    ended = f"pruned after {ended}" if record["status"] == "pruned" else ended
    best = study.best()
    told = f", best {best['value']:.4f} of trial {best['trial']}" if best else ""
    return f"{study.metric} {record['value']:.4f} ({ended}, {record['seconds']:.0f} s{told})"


def _check_hope(study: Study) -> None:
    records = study.records()
    if len(records) >= min(HOPELESS, study.plan.trials) and all(r["status"] == "failed" for r in records):
        raise HellmError(
            f"the first {len(records)} trials failed, all of them; the last one: {records[-1]['error']}; the logs are "
            f"in {study.folder / 'logs'}; mend it and give another --study NAME, or delete {study.folder}"
        )
