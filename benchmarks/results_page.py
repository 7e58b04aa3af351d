"""The tables of ``docs/results.md`` and ``docs/results.json`` from results files of ``recbole-hellm compare``.

``python -m benchmarks.results_page results/results-toys.jsonl ...``: a file per data set and protocol; what is said of
data sets that are not given stays.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.table import replace_between, split
from recbole_hellm.artifacts import write_atomically
from recbole_hellm.benchmark.comparison import Comparison, Row
from recbole_hellm.benchmark.lines import load_lines
from recbole_hellm.benchmark.significance import PairedResult
from recbole_hellm.benchmark.stored import load_cells
from recbole_hellm.benchmark.summary import compare

RECALL, NDCG = "recall@10", "ndcg@10"
MAIN = "history kept, fitted on train"
"""The protocol ``docs/results.json`` speaks of."""
OURS, WITHOUT = "HeLLM", "HeLLM without the language model"
HEAD = (
    "| data | model | R@10 | N@10 | N@10, untied users | R@10, rare targets | valid N@10 | seeds | minutes | p |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)
RARE = 5
"""Targets with fewer training events than this are the rare ones."""


@dataclass(frozen=True)
class Measured:
    """One results file of one data set under one protocol."""

    comparison: Comparison
    rare: Mapping[str, tuple[int, float]]
    """By label: number of users whose target is rare, and Recall@10 over them, a mean over seeds."""
    path: Path

    @property
    def dataset(self) -> str:
        """Return the data set."""
        return self.comparison.rows[0].dataset

    @property
    def protocol(self) -> Mapping[str, Any]:
        """Return the switches that all rows have in common."""
        return self.comparison.rows[0].protocol

    def row(self, label: str) -> Row:
        """Return the row of a label."""
        return next(row for row in self.comparison.rows if row.label == label)

    def test(self, other: str) -> PairedResult:
        """Return HeLLM against another row, NDCG@10."""
        return next(test for test in self.comparison.tests[self.dataset, NDCG] if test.other == other)


def load(path: Path) -> Measured:
    """Read a results file; its users files lie beside it."""
    header, lines = load_lines(path)
    comparison = compare(lines, header, path.parent, metric=NDCG, against=OURS)
    rare: dict[str, list[tuple[int, float]]] = {}
    for cell in load_cells([line for line in lines if line["status"] == "ok"], path.parent, (RECALL,)):
        few = cell.users["popularity"].to_numpy() < RARE
        rare.setdefault(cell.line["label"], []).append((int(few.sum()), float(cell.vectors[RECALL][few].mean())))
    means = {label: (values[0][0], float(np.mean([value for _, value in values]))) for label, values in rare.items()}
    return Measured(comparison, means, path)


def entry(found: Measured) -> dict[str, Any]:
    """Return what ``docs/results.json`` says of a data set."""
    ours = found.row(OURS)
    baselines = [row for row in found.comparison.rows if row.model != OURS]
    best = max(baselines, key=lambda row: row.valid_mean[NDCG])  # on validation: test chooses nothing
    test, alone = found.test(best.label), found.test(WITHOUT)
    line = ours.cells[0]
    return {
        RECALL: ours.mean[RECALL],
        NDCG: ours.mean[NDCG],
        f"{RECALL}_sd": _or_none(ours.std[RECALL]),
        f"{NDCG}_sd": _or_none(ours.std[NDCG]),
        "n_seeds": len(ours.seeds),
        "protocol": dict(ours.protocol),
        "minutes": ours.cost.seconds / 60,
        "command": command(found),
        "commit": line["commit"],
        "data_fingerprint": line["data"]["fingerprint"],
        "best_baseline": best.label,
        f"best_baseline_{RECALL}": best.mean[RECALL],
        f"best_baseline_{NDCG}": best.mean[NDCG],
        "p_value": test.p_users,
        "without_language_model": {
            RECALL: found.row(WITHOUT).mean[RECALL],
            NDCG: found.row(WITHOUT).mean[NDCG],
            "p_value": alone.p_users,
        },
    }


def lines_of(found: Measured) -> list[str]:
    """Return the rows of a data set as markdown, and last a line on where they come from."""
    lines = []
    for row in found.comparison.rows:
        untied = f"{row.untied[NDCG]:.4f}" if row.untied else "-"
        p = "" if row.label == OURS else _p(found.test(row.label))
        lines.append(
            f"| {found.dataset} | {row.label} | {_spread(row, RECALL)} | {_spread(row, NDCG)} | {untied} "
            f"| {found.rare[row.label][1]:.4f} | {row.valid_mean[NDCG]:.4f} | {len(row.seeds)} "
            f"| {row.cost.seconds / 60:.1f} | {p} |"
        )
    row = found.row(OURS)
    line, tied = row.cells[0], "unknown" if row.tied_share is None else f"{row.tied_share:.0%}"
    commits = {cell["commit"]: None for other in found.comparison.rows for cell in other.cells}
    older = [name for name in commits if name != line["commit"]]
    others = f" (rows but HeLLM's: {', '.join(f'`{name}`' for name in older)})" if older else ""
    return [
        *lines,
        f"- {found.dataset}: {row.n_users:,} test users, {tied} of them tied, {found.rare[OURS][0]:,} with a rare "
        f"target; seeds {', '.join(map(str, row.seeds))}; commit `{line['commit']}`{others}; data "
        f"`{line['data']['fingerprint'][:12]}`; `{command(found)}`.",
    ]


def command(found: Measured) -> str:
    """Return the command that makes a data set's rows."""
    plan, protocol = found.comparison.name, found.protocol
    plain = f"recbole-hellm compare --plan {plan}"
    if title(protocol) == MAIN:
        return plain
    history = "masked" if protocol["history_masked"] else "kept"
    more = f"--history {history} --fitted-on {protocol['fitted_on']} --seeds {len(found.row(OURS).seeds)}"
    return f"{plain} {more} --results results/{found.path.name}"


def lines_in(table: str) -> dict[str, list[str]]:
    """Return the lines of a table as :func:`table_of` makes it, by data set."""
    found: dict[str, list[str]] = {}
    for line in table.removeprefix(HEAD).splitlines():
        if named := re.match(r"\| (\S+) \||- (\S+):", line):
            found.setdefault(named[1] or named[2], []).append(line)
    return found


def table_of(lines: Mapping[str, Sequence[str]]) -> str:
    """Return one table of the lines of some data sets."""
    every = [line for one in lines.values() for line in one]
    rows = [line for line in every if line.startswith("|")]
    return "\n".join([HEAD, *rows, "", *(line for line in every if line not in rows)])


def _spread(row: Row, metric: str) -> str:
    sd = row.std[metric]
    return f"{row.mean[metric]:.4f}" + ("" if np.isnan(sd) else f" ± {sd:.4f}")


def _p(test: PairedResult) -> str:
    return "< .001" if test.p_users < 0.001 else f"{test.p_users:.3f}"


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value


def title(protocol: Mapping[str, Any]) -> str:
    """Return a protocol in words, which also names its generated part."""
    return f"history {'masked' if protocol['history_masked'] else 'kept'}, fitted on {protocol['fitted_on']}"


def write(docs: Path, measured: Sequence[Measured]) -> None:
    """Write both files; what they say of data sets that are not given stays."""
    page, machine = docs / "results.md", docs / "results.json"
    text = page.read_text(encoding="utf-8") if page.is_file() else "# Results\n"
    document = json.loads(machine.read_text(encoding="utf-8")) if machine.is_file() else {}
    for found in measured:
        name = title(found.protocol)
        _, before, _ = split(text, name) or ("", "", "")
        text = replace_between(text, name, table_of(lines_in(before) | {found.dataset: lines_of(found)}))
        if name == MAIN:
            document[found.dataset] = entry(found)
    write_atomically(page, text)
    if document:
        write_atomically(machine, json.dumps(document, indent=2, sort_keys=True) + "\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", nargs="+", type=Path, help="results files of recbole-hellm compare")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="folder of results.md and results.json")
    options = parser.parse_args(arguments)
    write(options.docs, [load(path) for path in options.results])


if __name__ == "__main__":
    main()
