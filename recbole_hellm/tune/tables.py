"""A study as tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recbole_hellm.benchmark.layout import Column, Entry, Table
from recbole_hellm.benchmark.wording import NONE, amount, number
from recbole_hellm.config.specs import RunSpec
from recbole_hellm.tune.best import best_settings
from recbole_hellm.tune.findings import Findings, counts
from recbole_hellm.tune.identity import data_fingerprint
from recbole_hellm.tune.space import Domain


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
        ("Trials", counts(found.records)),
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
