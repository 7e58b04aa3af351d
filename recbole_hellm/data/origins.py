"""Where the public originals of the known data sets are, and what they come under."""

from dataclasses import dataclass
from logging import getLogger
from pathlib import Path

from recbole_hellm.data.download import RemoteFile, Transfer, downloads_dir, fetch
from recbole_hellm.data.manifest import difference, is_prepared, read_manifest
from recbole_hellm.errors import DataError, nearest

logger = getLogger(__name__)

_AMAZON_2014 = "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles"
_MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Origin:
    """The files of one data set on a public server."""

    format: str
    """Format of ``prepare`` that reads them."""
    files: tuple[RemoteFile, ...]
    home: str
    """Page that describes them."""
    licence: str
    """What they may be used for."""
    cite: str
    """Publications the distributors ask to cite."""
    lacks: str
    """What the data set has from another source and not from this one."""


def _amazon(category: str, lacks: str) -> Origin:
    reviews, items = f"reviews_{category}_5.json.gz", f"meta_{category}.json.gz"
    return Origin(
        format="amazon2014",
        files=(
            RemoteFile(
                reviews, f"{_AMAZON_2014}/{reviews}", 500 * _MEGABYTE, about="reviews of users and items with 5 or more"
            ),
            RemoteFile(
                items, f"{_AMAZON_2014}/{items}", 3_000 * _MEGABYTE, about="titles, brands, categories, descriptions"
            ),
        ),
        home="https://cseweb.ucsd.edu/~jmcauley/datasets/amazon/links.html",
        licence="no licence is stated; for research, product texts and pictures belong to their sellers",
        cite="McAuley, Targett, Shi, van den Hengel (SIGIR 2015); He, McAuley (WWW 2016)",
        lacks=lacks,
    )


ORIGINS: dict[str, Origin] = {
    "amazon-beauty": _amazon("Beauty", lacks=""),
    "amazon-sports": _amazon("Sports_and_Outdoors", lacks=""),
    "amazon-toys": _amazon("Toys_and_Games", lacks="the CLIP vectors"),
}
"""Known data sets that no package brings along. No server states checksums: the first download's is recorded in
``downloads.json`` beside the files, every later use is checked against it, and the prepared data set must have the
published numbers of users, items and interactions."""


def fetch_origin(name: str, folder: Path | None = None, transfer: Transfer | None = None) -> tuple[Path, str]:
    """Download the public original of a known data set unless it is there.

    What is downloaded, from where and under which terms is logged first.

    Args:
        name: One of ``ORIGINS``.
        folder: Where the files go; by default a folder of that name in ``downloads_dir()``.
        transfer: How patient a download is.

    Returns:
        The folder with the files, and the format that ``prepare`` reads it as.

    Raises:
        DataError: If the name is unknown, the machine is offline (naming the files and where to put them), or a
            download fails.
    """
    if name not in ORIGINS:
        raise DataError(f"no public original of {name!r} is known{nearest(name, ORIGINS)}: give --source")
    origin, folder = ORIGINS[name], folder or downloads_dir() / name
    if not all((folder / file.name).is_file() for file in origin.files):
        lacks = f"; without {origin.lacks} of other sources" if origin.lacks else ""
        logger.info("%s: public original (%s); %s; cite %s%s", name, origin.home, origin.licence, origin.cite, lacks)
    fetch(origin.files, folder, transfer)
    return folder, origin.format


def is_there(target: Path, missing_text: str) -> bool:
    """Tell (and log) that a prepared data set is complete and unchanged, so that nothing has to be downloaded.

    Args:
        target: Its folder.
        missing_text: Option it must have been prepared with.
    """
    if not is_prepared(target) or difference(target, {}):
        return False
    if read_manifest(target).get("options", {}).get("missing_text") != missing_text:
        return False
    logger.info("data set %s: reused %s; --source or --force makes it again", target.name, target)
    return True
