"""A study as its report sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbole_hellm.benchmark.wording import number
from recbole_hellm.tune.best import best_of
from recbole_hellm.tune.plan import Plan

FEW = 20
"""Complete trials below which importances are mostly noise."""


@dataclass(frozen=True)
class Findings:
    """What a study found."""

    name: str
    plan: Plan
    about: dict[str, Any]
    """Its identity."""
    metric: str
    bigger: bool
    records: tuple[dict[str, Any], ...]
    """Of every ended trial, by number."""
    importances: dict[str, float]
    best_file: Path

    @property
    def best(self) -> dict[str, Any] | None:
        """The best complete trial."""
        return best_of(list(self.records), self.bigger)

    def ranked(self) -> list[dict[str, Any]]:
        """Return complete trials best first, then pruned ones by their best value, then failed ones."""
        order = {"complete": 0, "pruned": 1, "failed": 2}
        sign = -1 if self.bigger else 1
        return sorted(self.records, key=lambda r: (order[r["status"]], sign * (r["value"] or 0), r["trial"]))


def counts(records: Sequence[dict[str, Any]]) -> str:
    """Return in words how trials ended."""
    states = ["repeated" if record["same_as"] is not None else record["status"] for record in records]
    names = ("complete", "pruned", "failed", "repeated")
    return ", ".join(f"{states.count(name)} {name}" for name in names if name in states) or "none"


def in_short(found: Findings) -> str:
    """Return the result in a sentence or two."""
    plan, best = found.plan, found.best
    ended = f"{len(found.records)} trials of {plan.model} on {plan.dataset}: {counts(found.records)}."
    if best is None:
        return f"{ended} None is complete, so there are no best settings yet."
    sd = f" (standard deviation {number(best['sd'])} over {len(best['runs'])} seeds)" if best["sd"] is not None else ""
    return f"{ended} The best is trial {best['trial']}: {found.metric} {number(best['value'])}{sd} on validation."


def notes(found: Findings) -> list[str]:
    """Return what a reader should keep in mind."""
    said = [
        "Every number here is of the validation split; the test split was not read. The best of many trials looks "
        "better than it is, as its luck was chosen with it: the test says what it is worth."
    ]
    complete = [record for record in found.records if record["status"] == "complete" and record["same_as"] is None]
    if found.importances and len(complete) < FEW:
        said.append(f"Importances from {len(complete)} complete trials are mostly noise; {FEW} or more say something.")
    if len(found.plan.seeds) == 1:
        said.append("One seed a trial: a difference as small as that between seeds is none.")
    commits = sorted({str(run["commit"]) for record in found.records for run in record["runs"].values()})
    if len(commits) > 1:
        said.append(f"The trials ran at several commits: {', '.join(commits)}.")
    return said
