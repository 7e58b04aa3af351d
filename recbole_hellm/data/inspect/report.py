"""``inspect``: one page about a data set, printed and written as HTML."""

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from recbole_hellm.artifacts import write_atomically
from recbole_hellm.data.inspect.facts import gather
from recbole_hellm.data.inspect.page import Page, as_text, build_page
from recbole_hellm.data.manifest import package_version
from recbole_hellm.errors import DataError


def inspect_dataset(name: str, data_path: Path, output: Path | None = None, images: Path | None = None) -> str:
    """Describe a RecBole data set, write ``output`` as one HTML file and return the same as text.

    Args:
        name: Of the folder in ``data_path`` and of the files in it; prepared by this package or not.
        data_path: Folder of data sets.
        output: HTML file; by default ``<name>-inspect.html`` in the current folder.
        images: Folder or ``.zip`` of item pictures; by default where runs look for them.

    Raises:
        DataError: If there is no such data set, it is broken, or the page cannot be written.
    """
    target = output or Path(f"{name}-inspect.html")
    if target.is_dir():
        raise DataError(f"{target} is a folder: give --output the name of an .html file")
    page = build_page(gather(name, data_path, images))
    try:
        write_atomically(target, as_html(page))
    except OSError as error:
        raise DataError(f"cannot write {target} ({error.strerror or error}): choose another --output") from error
    return f"{as_text(page)}\npage: {target}"


def as_html(page: Page) -> str:
    """Return the page as one HTML file that needs nothing beside it."""
    environment = Environment(
        loader=PackageLoader("recbole_hellm.data.inspect", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["together"] = lambda text: text.replace(" %", "\u00a0%")  # a line never begins with %
    return environment.get_template("page.html.j2").render(page=page, version=package_version())
