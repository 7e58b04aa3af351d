"""A comparison as Markdown, LaTeX and CSV."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from pathlib import Path

from recbole_hellm.artifacts import write_atomically
from recbole_hellm.benchmark.comparison import Comparison
from recbole_hellm.benchmark.contents import ablation_tables, main_tables, significance_tables, tie_tables
from recbole_hellm.benchmark.latex import escaped
from recbole_hellm.benchmark.layout import Column, Entry, Table, datasets_of
from recbole_hellm.benchmark.outline import table_parts
from recbole_hellm.benchmark.records import (
    cost_tables,
    data_table,
    environments,
    reported_table,
)
from recbole_hellm.benchmark.sentences import in_short, method
from recbole_hellm.benchmark.sheet import csv_text
from recbole_hellm.results import unwritable

LONGEST = 32
"""Characters of a LaTeX entry before it is broken into lines."""
_MARKDOWN = re.compile(r"([\\`*_\[\]|~$])")
_INTERVAL = re.compile(r"[+−]?[0-9.]+ to [+−]?[0-9.]+")


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
    parts, names = [f"# {md(comparison.name)}"], datasets_of(comparison)
    short = [f"**{md(name)}.** {md(' '.join(said))}" for name in names if (said := in_short(comparison, name))]
    parts += ["## In short", *short] if short else []
    parts += ["\n".join(f"- {md(note)}" for note in comparison.notes)] if comparison.notes else []
    parts += ["## What was compared", md_table(data_table(comparison))]
    for name in names:
        parts.append("\n".join([f"{md(name)}:", "", *(f"- {md(line)}" for line in method(comparison, name))]))
    for part in table_parts(comparison):
        parts += [f"## {part.title}", *map(md_table, part.tables)] if part.tables else []
    parts.append("\n".join(f"- {name}: {md(text)}" for name, text in environments(comparison)))
    return "\n\n".join(parts) + "\n"


def latex(comparison: Comparison) -> str:
    r"""Return the tables of results as LaTeX, to be used with ``\usepackage{booktabs}``."""
    tables = [*main_tables(comparison), *significance_tables(comparison), *tie_tables(comparison)]
    tables += [*cost_tables(comparison), *ablation_tables(comparison)]
    if reported := reported_table(comparison):
        tables.append(reported)
    head = "% Needs \\usepackage{booktabs}. The cells behind every number stand in report.csv.\n"
    head += "% A character that LaTeX has no standard command for stands as a question mark.\n"
    return head + "\n".join(map(_tex_table, tables))


def md(text: str) -> str:
    """Escape what Markdown or HTML would read as a sign."""
    plain = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKDOWN.sub(r"\\\1", plain)


def md_table(table: Table) -> str:
    """Return a table as Markdown under its heading."""
    ends = [":--" if column.kind in ("text", "code") else "--:" for column in table.columns]
    lines = [[md(column.name) for column in table.columns], ends]
    lines += [[_md_entry(entry) for entry in row] for row in table.rows]
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    parts = [f"### {md(table.title)}", md(" ".join(filter(None, [table.protocol, table.caption]))), body]
    return "\n\n".join(parts)


def _md_entry(entry: Entry) -> str:
    text = md(entry.text)
    text = f"**{text}**" if entry.place == 1 else f"<u>{text}</u>" if entry.place == 2 else text
    return text + md(entry.mark) + (f" ± {entry.spread}" if entry.spread else "")


def _tex_entry(entry: Entry) -> str:
    text = escaped(entry.text)
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
    protocol = "" if letters else table.protocol
    said = " ".join(filter(None, [f"{table.title}.", protocol, table.caption]))
    caption = " ".join([escaped(said), *letters])
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
    return _stacked([escaped(word) for word in re.split(" (?!%)", column.name)], _side(column), "b")


def _side(column: Column) -> str:
    return "l" if column.kind in ("text", "code") else "r"


def _lettered(table: Table) -> tuple[list[Column], list[list[Entry]], list[str]]:
    places = [place for place, column in enumerate(table.columns) if column.kind == "protocol"]
    if not places:
        return list(table.columns), [list(row) for row in table.rows], []
    said = [
        ", ".join(f"{escaped(table.columns[p].name.lower())} {escaped(row[p].text)}" for p in places)
        for row in table.rows
    ]
    names = [*string.ascii_lowercase, *map(str, range(len(said)))]
    letters = dict(zip(dict.fromkeys(said), names, strict=False))
    kept = [place for place in range(len(table.columns)) if place not in places]
    rows = [[row[p] for p in kept] + [Entry(letters[text])] for row, text in zip(table.rows, said, strict=True)]
    columns = [table.columns[place] for place in kept] + [Column("Protocol", "text")]
    return columns, rows, [f"Protocol {letter}: {text}." for text, letter in letters.items()]
