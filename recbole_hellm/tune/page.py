"""A study as one HTML page, in the look of a comparison's."""

from __future__ import annotations

import jinja2
from markupsafe import Markup

from recbole_hellm.tune.best import command
from recbole_hellm.tune.findings import Findings, in_short, notes
from recbole_hellm.tune.plots import plots
from recbole_hellm.tune.tables import tables


def page(found: Findings) -> str:
    """Return the report as HTML that needs nothing else: no network, no other file."""
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(
            [
                jinja2.PrefixLoader({"tune": jinja2.PackageLoader("recbole_hellm.tune", ".")}),
                jinja2.PackageLoader("recbole_hellm.benchmark", "."),
            ]
        ),
        autoescape=True,  # names and errors are other people's words
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("tune/page.html.j2").render(
        name=found.name,
        short=in_short(found),
        notes=notes(found),
        command=command(found.plan, found.best_file) if found.best is not None else "",
        tables=tables(found),
        plots=plots(found),
        colours={},
        markup=Markup,
    )
