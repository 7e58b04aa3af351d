"""A comparison as one HTML page that needs nothing else: no network, no other file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import jinja2
from markupsafe import Markup

from recbole_hellm.artifacts import write_atomically
from recbole_hellm.benchmark.comparison import Comparison
from recbole_hellm.benchmark.drawing import Plot, looks
from recbole_hellm.benchmark.layout import Table, datasets_of
from recbole_hellm.benchmark.outline import table_parts
from recbole_hellm.benchmark.plots import ablation_plots, curve_plots, group_plots, result_plots
from recbole_hellm.benchmark.records import data_table, environments
from recbole_hellm.benchmark.sentences import in_short, method
from recbole_hellm.results import unwritable


@dataclass(frozen=True)
class Section:
    """A part of the page under a heading; left out if it has neither tables nor figures."""

    key: str
    title: str
    tables: tuple[Table, ...] = ()
    plots: tuple[Plot, ...] = ()
    apart: bool = False
    """Whether its numbers are other people's."""

    @property
    def figures(self) -> list[list[Plot]]:
        """The plots of each data set."""
        names = dict.fromkeys(plot.dataset for plot in self.plots)
        return [[plot for plot in self.plots if plot.dataset == name] for name in names]


def write_page(comparison: Comparison, path: Path) -> Path:
    """Write the report to ``path`` and return it; the same comparison gives the same bytes.

    Raises:
        ArtifactError: If the file cannot be written.
    """
    try:
        write_atomically(path, page(comparison))
    except OSError as error:
        raise unwritable(path, error) from error
    return path


def page(comparison: Comparison) -> str:
    """Return the report as HTML."""
    # Labels, sources and errors are other people's words: everything is escaped but the figures made here.
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("recbole_hellm.benchmark", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    names = datasets_of(comparison)
    return environment.get_template("page.html.j2").render(
        name=comparison.name,
        short=[(name, said) for name in names if (said := in_short(comparison, name))],
        notes=comparison.notes,
        data=data_table(comparison),
        methods=_alike(comparison, names),
        sections=[section for section in _sections(comparison) if section.tables or section.plots],
        colours={label: look.colour for label, look in looks(comparison).items()},
        environments=environments(comparison),
        markup=Markup,
    )


def _alike(comparison: Comparison, names: Iterable[str]) -> dict[tuple[str, ...], list[str]]:
    """Return the data sets by what is said of their method, so that it is said once."""
    said: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        said.setdefault(tuple(method(comparison, name)), []).append(name)
    return said


def _sections(comparison: Comparison) -> Iterable[Section]:
    plots = {
        "figures": result_plots(comparison),
        "users": group_plots(comparison),
        "training": curve_plots(comparison),
        "ablation": ablation_plots(comparison),
    }
    for part in table_parts(comparison):
        yield Section(part.key, part.title, part.tables, tuple(plots.get(part.key, ())), part.key == "elsewhere")
