"""What a study found: in the terminal, as Markdown and as one HTML page."""

from __future__ import annotations

from recbole_hellm.artifacts import write_atomically
from recbole_hellm.benchmark.tables import md, md_table
from recbole_hellm.results import unwritable
from recbole_hellm.tune.best import command
from recbole_hellm.tune.findings import Findings, in_short, notes
from recbole_hellm.tune.page import page
from recbole_hellm.tune.study import Study
from recbole_hellm.tune.tables import tables, trials_table

SHOWN = 10
"""Trials on the terminal."""


def write_report(study: Study, name: str) -> str:
    """Write ``report.md`` and ``report.html`` into the study's folder; return the leaderboard for the terminal.

    Raises:
        ArtifactError: If a file cannot be written.
    """
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
