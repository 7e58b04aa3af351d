"""Finds the pictures of items and makes thumbnails that stand inside an HTML page."""

import base64
import io
import os
import warnings
from collections.abc import Iterable, Mapping
from logging import getLogger
from pathlib import Path, PurePosixPath

from PIL import Image, ImageOps

from recbole_hellm.data.interactions import ITEM
from recbole_hellm.data.item_file import IMAGE_COLUMN
from recbole_hellm.data.reading import read_lines
from recbole_hellm.errors import DataError

logger = getLogger(__name__)

_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp"})
_SIDE = 160
_MAX_PIXELS = 50_000_000
"""A picture that claims more is not opened: a small file can unpack to gigabytes."""


def find_images(folder: Path, tokens: Iterable[str], named: Mapping[str, str]) -> dict[str, Path]:
    """Return the picture of each item that has one.

    Args:
        folder: Folder of pictures.
        tokens: Items.
        named: Item to the path of its picture below ``folder``, or a path or address that ends in the file's name.
            Any other item has ``<token>.jpg`` or ``<token>_<anything>.jpg`` (also png, ...).

    Raises:
        DataError: If ``folder`` is no folder.
    """
    if not folder.is_dir():
        raise DataError(f"folder of images {folder} does not exist: give --images the folder with <item id>.jpg files")
    wanted, found = set(tokens), dict[str, Path]()
    for token, name in named.items():
        for path in (folder / name, folder / PurePosixPath(name).name):
            if token in wanted and path.is_file() and path.resolve().is_relative_to(folder.resolve()):
                found[token] = path
                break
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda each: each.name):
            stem, suffix = Path(entry.name).stem, Path(entry.name).suffix
            if suffix.lower() not in _SUFFIXES:
                continue
            for token in (stem, stem.split("_")[0]):
                if token in wanted:
                    found.setdefault(token, Path(entry.path))
                    break
    return found


def named_images(item_file: Path) -> dict[str, str]:
    """Return item to the cell of its column ``image`` in an ``.item`` file; empty without file or column.

    Raises:
        DataError: If the file cannot be read.
    """
    named: dict[str, str] = {}
    places: list[int] = []
    for number, line in read_lines(item_file) if item_file.is_file() else ():
        cells = line.split("\t")
        if number == 1:
            names = [cell.split(":")[0] for cell in cells]
            if ITEM not in names or IMAGE_COLUMN not in names:
                break
            places = [names.index(ITEM), names.index(IMAGE_COLUMN)]
        elif len(cells) > max(places) and cells[places[1]]:
            named.setdefault(cells[places[0]], cells[places[1]])
    return named


def thumbnail(path: Path) -> str:
    """Return the picture as a ``data:`` address of a small JPEG; ``""``, and a log line, if it cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the size is looked at below
            with Image.open(path) as picture:
                if picture.width * picture.height > _MAX_PIXELS:
                    raise ValueError(f"{picture.width} x {picture.height} pixels")
                picture.draft("RGB", (_SIDE * 2, _SIDE * 2))
                small = ImageOps.exif_transpose(picture).convert("RGB")
                small.thumbnail((_SIDE, _SIDE))
        stream = io.BytesIO()
        small.save(stream, "JPEG", quality=72, optimize=True)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        logger.warning("%s: no usable picture (%s)", path, error)
        return ""
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
