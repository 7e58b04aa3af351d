"""A comparison as one HTML page that needs nothing else: no network, no other file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import jinja2
from markupsafe import Markup

from recbole_hellm.artifacts import write_atomically
from recbole_hellm.benchmark.comparison import Comparison
from recbole_hellm.benchmark.contents import ablation_tables, main_tables, significance_tables, tie_tables
from recbole_hellm.benchmark.drawing import Plot, looks
from recbole_hellm.benchmark.layout import Table, datasets_of
from recbole_hellm.benchmark.plots import ablation_plots, curve_plots, group_plots, result_plots
from recbole_hellm.benchmark.records import (
    REPORTED,
    cost_tables,
    data_table,
    environments,
    failed_table,
    provenance_table,
    reported_table,
)
from recbole_hellm.benchmark.wording import in_short, method
from recbole_hellm.results import unwritable


@dataclass(frozen=True)
class Section:
    """A part of the page under a heading; left out if it has neither tables nor figures."""

    key: str
    title: str
    tables: tuple[Table, ...] = ()
    plots: tuple[Plot, ...] = ()
    warning: str = ""

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
        metric=comparison.metric,
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
    failed, reported = failed_table(comparison), reported_table(comparison)
    yield Section("results", "Results on test", tuple(main_tables(comparison)))
    yield Section("significance", "Significance", tuple(significance_tables(comparison)))
    yield Section("ties", "Tie-aware view", tuple(tie_tables(comparison)))
    yield Section("cost", "Cost", tuple(cost_tables(comparison)))
    yield Section("figures", "Quality and cost", plots=tuple(result_plots(comparison)))
    yield Section("users", "User groups", plots=tuple(group_plots(comparison)))
    yield Section("training", "Training curves", plots=tuple(curve_plots(comparison)))
    yield Section("ablation", "Ablation", tuple(ablation_tables(comparison)), tuple(ablation_plots(comparison)))
    yield Section("failures", "Failed cells", (failed,) if failed else ())
    yield Section("elsewhere", "Reported elsewhere", (reported,) if reported else (), warning=REPORTED)
    yield Section("provenance-section", "Provenance", (provenance_table(comparison),))
