"""A comparison as Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import string
from collections.abc import Sequence
from pathlib import Path

from recbole_hellm.artifacts import write_atomically
from recbole_hellm.benchmark.comparison import Comparison, Row
from recbole_hellm.benchmark.contents import ablation_tables, main_tables, significance_tables, tie_tables
from recbole_hellm.benchmark.layout import Column, Entry, Table, datasets_of
from recbole_hellm.benchmark.records import (
    cost_tables,
    data_table,
    environments,
    failed_table,
    provenance_table,
    reported_table,
)
from recbole_hellm.benchmark.significance import PairedResult
from recbole_hellm.benchmark.wording import in_short, method
from recbole_hellm.results import unwritable

CSV_COLUMNS = (
    *("dataset", "label", "model", "group", "metric", "test", "std", "interval_low", "interval_high", "valid"),
    *("untied", "tied_share", "seeds", "n_users", "history_masked", "fitted_on", "selected_on", "loss", "max_length"),
    *("minutes", "split", "against", "difference", "difference_low", "difference_high", "holm_wilcoxon"),
    *("holm_permutation", "holm_seeds", "parameters_trained", "parameters_total", "seconds", "peak_memory_mb", "cells"),
)
LONGEST = 32
"""Characters of a LaTeX entry before it is broken into lines."""
_MARKDOWN = re.compile(r"([\\`*_\[\]|~$])")
_INTERVAL = re.compile(r"[+−]?[0-9.]+ to [+−]?[0-9.]+")
_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "|": r"\textbar{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "±": r"$\pm$", "−": "$-$", "–": "--", "†": r"$\dagger$"},
}


def write_tables(comparison: Comparison, folder: Path) -> list[Path]:
    """Write ``report.md``, ``report.tex`` and ``report.csv`` into ``folder`` and return their paths.

    Raises:
        ArtifactError: If a file cannot be written.
    """
    writers = {"report.md": markdown, "report.tex": latex, "report.csv": csv_text}
    paths = []
    for name, text in writers.items():
        path = folder / name
        try:
            write_atomically(path, text(comparison))
        except OSError as error:
            raise unwritable(path, error) from error
        paths.append(path)
    return paths


def markdown(comparison: Comparison) -> str:
    """Return the report as Markdown: the tables of the page, without its plots."""
    parts, names = [f"# {_md(comparison.name)}"], datasets_of(comparison)
    short = [f"**{_md(name)}.** {_md(' '.join(said))}" for name in names if (said := in_short(comparison, name))]
    parts += ["## In short", *short] if short else []
    parts += ["\n".join(f"- {_md(note)}" for note in comparison.notes)] if comparison.notes else []
    parts += ["## What was compared", _md_table(data_table(comparison))]
    for name in names:
        parts.append("\n".join([f"{_md(name)}:", "", *(f"- {_md(line)}" for line in method(comparison, name))]))
    for title, tables in (
        ("Results on test", main_tables(comparison)),
        ("Significance", significance_tables(comparison)),
        ("Tie-aware view", tie_tables(comparison)),
        ("Cost", cost_tables(comparison)),
        ("Ablation", ablation_tables(comparison)),
    ):
        parts += _md_section(title, list(tables))
    parts += _md_section("Failed", [table for table in (failed_table(comparison),) if table])
    parts += _md_section("Reported elsewhere", [table for table in (reported_table(comparison),) if table])
    parts += _md_section("Where each number comes from", [provenance_table(comparison)])
    parts.append("\n".join(f"- {name}: {_md(text)}" for name, text in environments(comparison)))
    return "\n\n".join(parts) + "\n"


def latex(comparison: Comparison) -> str:
    r"""Return the tables of results as LaTeX, to be used with ``\usepackage{booktabs}``."""
    tables = [*main_tables(comparison), *significance_tables(comparison), *tie_tables(comparison)]
    tables += [*cost_tables(comparison), *ablation_tables(comparison)]
    if reported := reported_table(comparison):
        tables.append(reported)
    head = "% Needs \\usepackage{booktabs}. The cells behind every number stand in report.csv.\n"
    return head + "\n".join(map(_tex_table, tables))


def csv_text(comparison: Comparison) -> str:
    """Return one line per model, data set and metric, with protocol, tests, cost and cell keys."""
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in (*comparison.rows, *comparison.ablation_rows):
        for metric in comparison.metrics:
            values = {**_csv_row(row, metric), **_csv_test(_result(comparison, row, metric))}
            writer.writerow({name: "" if _missing(value) else value for name, value in values.items()})
    return text.getvalue()


def _csv_row(row: Row, metric: str) -> dict[str, object]:
    low, high = row.interval.get(metric, (math.nan, math.nan))
    names = ("history_masked", "fitted_on", "selected_on", "loss", "max_length", "minutes")
    return {
        **{"dataset": row.dataset, "label": row.label, "model": row.model, "group": row.group, "metric": metric},
        **{"test": row.mean[metric], "std": row.std.get(metric), "interval_low": low, "interval_high": high},
        **{"valid": row.valid_mean.get(metric), "untied": (row.untied or {}).get(metric)},
        **{"tied_share": row.tied_share, "seeds": " ".join(map(str, row.seeds)), "n_users": row.n_users},
        **{name: row.protocol.get(name) for name in names},
        "split": json.dumps(row.protocol.get("split"), sort_keys=True),
        **{"parameters_trained": row.cost.parameters_trained, "parameters_total": row.cost.parameters_total},
        **{"seconds": row.cost.seconds, "peak_memory_mb": row.cost.peak_memory_mb, "cells": " ".join(row.lines)},
    }


def _result(comparison: Comparison, row: Row, metric: str) -> PairedResult | None:
    """Return the test a row takes part in: of the other models, and of the variants of an ablation."""
    if row.group == "ablation":
        results = comparison.ablation.get(row.dataset, ()) if metric == comparison.metric else ()
        return next((result for result in results if result.label == row.label), None)
    return next((r for r in comparison.tests.get((row.dataset, metric), ()) if r.other == row.label), None)


def _csv_test(result: PairedResult | None) -> dict[str, object]:
    """Return the columns of one test; ``difference`` is that of ``against`` minus the row's, as it was tested."""
    if result is None or result.reason:
        return {}
    sign = 1.0 if result.alternative == "greater" else -1.0  # an ablation's variant is A there, here it is the row
    low, high = sorted(sign * end for end in result.interval)
    return {
        "against": result.label if result.alternative == "greater" else result.other,
        **{"difference": sign * result.difference, "difference_low": low, "difference_high": high},
        **{"holm_wilcoxon": result.holm_wilcoxon, "holm_permutation": result.holm_permutation},
        "holm_seeds": result.holm_seeds,
    }


def _missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _md(text: str) -> str:
    """Escape what Markdown or HTML would read as a sign."""
    plain = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKDOWN.sub(r"\\\1", plain)


def _md_section(title: str, tables: Sequence[Table]) -> list[str]:
    return [f"## {title}", *map(_md_table, tables)] if tables else []


def _md_table(table: Table) -> str:
    ends = [":--" if column.kind in ("text", "code") else "--:" for column in table.columns]
    lines = [[_md(column.name) for column in table.columns], ends]
    lines += [[_md_entry(entry) for entry in row] for row in table.rows]
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"### {_md(table.title)}\n\n{_md(table.caption)}\n\n{body}"


def _md_entry(entry: Entry) -> str:
    text = _md(entry.text)
    text = f"**{text}**" if entry.place == 1 else f"<u>{text}</u>" if entry.place == 2 else text
    return text + _md(entry.mark) + (f" ± {entry.spread}" if entry.spread else "")


def _tex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in " ".join(text.split()))


def _tex_entry(entry: Entry) -> str:
    text = _tex(entry.text)
    if len(entry.text) > LONGEST:
        text = rf"\parbox[t]{{3.6cm}}{{\raggedright {text}}}"
    text = rf"\textbf{{{text}}}" if entry.place == 1 else rf"\underline{{{text}}}" if entry.place == 2 else text
    text += f"$^{{{entry.mark}}}$" if entry.mark else ""
    if entry.spread:
        return _stacked([text, rf"{{\tiny $\pm$ {entry.spread}}}"])
    low, to, high = text.partition(" to ")
    return _stacked([f"{low} to", high]) if to and _INTERVAL.fullmatch(entry.text) else text


def _tex_table(table: Table) -> str:
    """Return a ``table*``; the columns of the protocol become one letter, which the caption explains."""
    columns, rows, letters = _lettered(table)
    caption = " ".join([_tex(f"{table.title}. {table.caption}"), *letters])
    heads = [_tex_head(column) for column in columns]
    spec = "".join(map(_side, columns))
    return "\n".join(
        [
            r"\begin{table*}[t]",
            rf"\caption{{{caption}}}\label{{tab:{table.key}}}",
            r"\centering\footnotesize\setlength{\tabcolsep}{3pt}",
            rf"\begin{{tabular}}{{@{{}}{spec}@{{}}}}",
            r"\toprule",
            " & ".join(heads) + r" \\",
            r"\midrule",
            *(" & ".join(_tex_entry(entry) for entry in row) + r" \\" for row in rows),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table*}",
            "",
        ]
    )


def _stacked(lines: Sequence[str], side: str = "r", at: str = "t") -> str:
    text = r" \\ ".join(lines)
    return rf"\begin{{tabular}}[{at}]{{@{{}}{side}@{{}}}}{text}\end{{tabular}}"


def _tex_head(column: Column) -> str:
    # Broken at its words: a head must not make a column of numbers wide.
    return _stacked([_tex(word) for word in re.split(" (?!%)", column.name)], _side(column), "b")


def _side(column: Column) -> str:
    return "l" if column.kind in ("text", "code") else "r"


def _lettered(table: Table) -> tuple[list[Column], list[list[Entry]], list[str]]:
    places = [place for place, column in enumerate(table.columns) if column.kind == "protocol"]
    if not places:
        return list(table.columns), [list(row) for row in table.rows], []
    said = [
        ", ".join(f"{_tex(table.columns[p].name.lower())} {_tex(row[p].text)}" for p in places) for row in table.rows
    ]
    names = [*string.ascii_lowercase, *map(str, range(len(said)))]
    letters = dict(zip(dict.fromkeys(said), names, strict=False))
    kept = [place for place in range(len(table.columns)) if place not in places]
    rows = [[row[p] for p in kept] + [Entry(letters[text])] for row, text in zip(table.rows, said, strict=True)]
    columns = [table.columns[place] for place in kept] + [Column("Protocol", "text")]
    return columns, rows, [f"Protocol {letter}: {text}." for text, letter in letters.items()]
