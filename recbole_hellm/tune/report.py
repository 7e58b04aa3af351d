"""What a study found: in the terminal, as Markdown and as one HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbole_hellm.artifacts import write_atomically
from recbole_hellm.benchmark.layout import Column, Entry, Table
from recbole_hellm.benchmark.tables import md, md_table
from recbole_hellm.benchmark.wording import NONE, amount, number
from recbole_hellm.config.specs import RunSpec
from recbole_hellm.results import unwritable
from recbole_hellm.tune.best import best_settings, command
from recbole_hellm.tune.identity import data_fingerprint
from recbole_hellm.tune.plan import Plan
from recbole_hellm.tune.space import Domain
from recbole_hellm.tune.study import Study, best_of

SHOWN = 10
"""Trials on the terminal."""
FEW = 20
"""Complete trials below which importances are mostly noise."""


@dataclass(frozen=True)
class Findings:
    """A study as its report sees it."""

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


def write_report(study: Study, name: str) -> str:
    """Write ``report.md`` and ``report.html`` into the study's folder; return the leaderboard for the terminal.

    Raises:
        ArtifactError: If a file cannot be written.
    """
    from recbole_hellm.tune.page import page

    found = Findings(
        name,
        study.plan,
        study.about,
        study.metric,
        study.bigger,
        tuple(study.records()),
        study.importances(),
        study.folder / "best.yaml",
    )
    for file, text in (("report.md", markdown(found)), ("report.html", page(found))):
        try:
            write_atomically(study.folder / file, text)
        except OSError as error:
            raise unwritable(study.folder / file, error) from error
    return leaderboard(found)


def leaderboard(found: Findings) -> str:
    """Return the best trials as aligned columns, and how to run the best settings with the test."""
    table = trials_table(found)
    lines = [[column.name for column in table.columns]]
    lines += [[entry.text for entry in row] for row in table.rows[:SHOWN]]
    widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
    text = "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n" for line in lines
    )
    if len(table.rows) > SHOWN:
        text += f"... and {len(table.rows) - SHOWN} more\n"
    text += f"report: {found.best_file.with_name('report.html')}\n"
    if found.best is None:
        return text + "no trial is complete, so there are no best settings yet\n"
    return text + f"best settings, with the test: {command(found.plan, found.best_file)}\n"


def markdown(found: Findings) -> str:
    """Return the report as Markdown: the tables of the page, without its plots."""
    parts = [f"# {md(found.name)}", md(in_short(found)), "\n".join(f"- {md(note)}" for note in notes(found))]
    parts += [md_table(table) for table in tables(found)]
    if found.best is not None:
        parts += ["The best settings, with the test:", f"```sh\n{command(found.plan, found.best_file)}\n```"]
    return "\n\n".join(parts) + "\n"


def in_short(found: Findings) -> str:
    """Return the result in a sentence or two."""
    plan, best, counts = found.plan, found.best, _counts(found.records)
    ended = f"{len(found.records)} trials of {plan.model} on {plan.dataset}: {counts}."
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


def tables(found: Findings) -> list[Table]:
    """Return the tables of the report, in order."""
    best = [best_table(found)] if found.best is not None else []
    errors = tuple((Entry(str(r["trial"])), Entry(r["error"])) for r in found.records if r["status"] == "failed")
    columns = (Column("Trial", "text"), Column("Error", "text"))
    failed = [Table("failed", "", "Failed trials", "They count, but say nothing.", columns, errors)] if errors else []
    return [*best, trials_table(found), *failed, cost_table(found), about_table(found)]


def best_table(found: Findings) -> Table:
    """Return the settings of the best trial, the searched ones with their range and importance."""
    assert found.best is not None
    chosen, rows = found.best["settings"], []
    domains = {domain.key: domain for domain in found.plan.space}
    for key, domain in domains.items():
        share = found.importances.get(key)
        weight = NONE if share is None else f"{share:.2f}"
        rows.append((Entry(key), Entry(_value(chosen.get(key, NONE))), Entry(_searched(domain)), Entry(weight)))
    for key, value in best_settings(found.plan, found.best).items():
        if key not in domains:
            rows.append((Entry(key), Entry(_value(value)), Entry("fixed"), Entry(NONE)))
    columns = (Column("Setting", "text"), Column("Value", "code"), Column("Searched in", "text"), Column("Importance"))
    caption = "Importance: share of the spread of the complete trials that the setting explains alone (PED-ANOVA)."
    return Table("best", "", f"Settings of trial {found.best['trial']}", caption, columns, tuple(rows))


def trials_table(found: Findings) -> Table:
    """Return every trial, the best first."""
    keys = [domain.key for domain in found.plan.space]
    rows = []
    for place, record in enumerate(found.ranked(), start=1):
        first: dict[str, Any] = next(iter(record["runs"].values()), {})
        state = f"as trial {record['same_as']}" if record["same_as"] is not None else record["status"]
        entries = [
            Entry(str(record["trial"])),
            Entry(
                number(record["value"]),
                place if place < 3 and record["status"] == "complete" else 0,
                spread=number(record["sd"]) if record["sd"] is not None else "",
            ),
            Entry(state),
            *(Entry(_value(record["settings"].get(key, NONE))) for key in keys),
            Entry(str(first.get("best_epoch") or NONE)),
            Entry(str(len(first.get("curve", [])) or NONE)),
            Entry(amount(record["seconds"])),
        ]
        rows.append(tuple(entries))
    columns = [Column("Trial", "text"), Column(found.metric), Column("Ended", "text"), *(Column(key) for key in keys)]
    columns += [Column("Best epoch", "minor"), Column("Epochs", "minor"), Column("Seconds")]
    n_seeds = len(found.plan.seeds)
    mean = f", mean over {n_seeds} seeds" if n_seeds > 1 else ""
    caption = (
        f"{found.metric} on validation at the best epoch{mean}; of a pruned trial "
        "the best before it ended. Epochs of the first seed; seconds of the whole trial, start of processes included."
    )
    return Table("trials", "", "Trials", caption, tuple(columns), tuple(rows))


def cost_table(found: Findings) -> Table:
    """Return what the study took, and what shared stages saved."""
    runs = [run for record in found.records if record["same_as"] is None for run in record["runs"].values()]
    stages = [stage for run in runs for stage in run["stages"] if "path" in stage]
    reused = [stage for stage in stages if stage["status"] == "reused"]
    saved = sum(stage["computed_seconds"] - stage["seconds"] for stage in reused)
    facts = [
        ("Trials", _counts(found.records)),
        ("Seconds of all trials", amount(sum(record["seconds"] for record in found.records))),
        ("Stages run", str(len(stages) - len(reused))),
        ("Stages reused", f"{len(reused)} ({amount(saved)} s saved)"),
        ("Peak memory of a run, MB", amount(max((run["peak_memory_mb"] or 0 for run in runs), default=None))),
    ]
    return _facts("cost", "Cost", "Stages are kept by content: trials that do not change a stage share it.", facts)


def about_table(found: Findings) -> Table:
    """Return what all trials have in common."""
    search, about = found.plan.search, found.about
    settings = about["setting"]
    after = search.prune_after_epochs
    pruner = {
        "median": f"below the median from epoch {after} on, after {search.prune_after_trials} complete trials",
        "halving": f"successive halving from epoch {after} on",
    }
    commits = sorted({str(run["commit"]) for record in found.records for run in record["runs"].values()})
    facts = [
        ("Model", found.plan.model),
        ("Data set", f"{found.plan.dataset}, files {data_fingerprint(about)}"),
        ("Seeds", ", ".join(map(str, found.plan.seeds))),
        ("Epochs at most", str(settings["epochs"])),
        ("Minutes a run at most", _value(search.minutes_per_trial or NONE)),
        ("Sampler", search.sampler),
        ("Pruned", pruner.get(search.pruner, "never")),
        ("History masked", RunSpec.from_config(settings).mask_history),
        ("Code", ", ".join(f"{key} {value}" for key, value in about["code"].items())),
        ("Commit", ", ".join(commits) or NONE),
    ]
    return _facts("about", "In common", "A study refuses to go on once one of these has changed.", facts)


def _facts(key: str, title: str, caption: str, facts: Sequence[tuple[str, str]]) -> Table:
    rows = tuple((Entry(name), Entry(text)) for name, text in facts)
    return Table(key, "", title, caption, (Column("What", "text"), Column("Value", "text")), rows)


def _counts(records: Sequence[dict[str, Any]]) -> str:
    states = ["repeated" if record["same_as"] is not None else record["status"] for record in records]
    names = ("complete", "pruned", "failed", "repeated")
    return ", ".join(f"{states.count(name)} {name}" for name in names if name in states) or "none"


def _searched(domain: Domain) -> str:
    if domain.kind == "choice":
        text = ", ".join(_value(value) for value in domain.choices)
    else:
        text = f"{domain.low:g} to {domain.high:g}{' by logarithm' if 'log' in domain.kind else ''}"
        text += f" in steps of {domain.step:g}" if domain.step else ""
    when = " and ".join(f"{key} {' or '.join(map(_value, values))}" for key, values in domain.when.items())
    return text + (f", if {when}" if when else "")


def _value(value: Any) -> str:
    return f"{value:.4g}" if type(value) is float else str(value)
