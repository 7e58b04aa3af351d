"""The pictures of a data set, found as runs find them, and thumbnails that stand inside an HTML page."""

import base64
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path

import yaml
from PIL import Image

from recbole_hellm.data.catalogue import column_types, read_column
from recbole_hellm.data.images import BrokenImage, ImageSource, decode, match_items, open_source
from recbole_hellm.data.item_file import IMAGE_COLUMN
from recbole_hellm.errors import DataError

logger = getLogger(__name__)

_SIDE = 160


@dataclass(frozen=True)
class Pictures:
    """Where the pictures are, and item to the name of its picture there."""

    source: ImageSource
    names: Mapping[str, str]


def find_images(folder: Path, images: Path | None, tokens: Iterable[str]) -> Pictures | None:
    """Return the pictures of a data set; ``None`` if there is no place to look.

    Args:
        folder: Of the data set.
        images: Folder or ``.zip``; by default ``images/`` or ``images.zip`` of the data set, else ``image_source`` of
            its own settings file.
        tokens: Items.

    Raises:
        DataError: If ``images`` does not exist or is unsafe, or the settings file is broken.
    """
    place = images or _usual_place(folder)
    if place is None:
        return None
    source = open_source(place)
    return Pictures(source, match_items(source, tokens, _named(folder / f"{folder.name}.item")))


def _named(item_file: Path) -> Mapping[str, str]:
    """Return the names in the column ``image``."""
    try:
        return read_column(item_file, IMAGE_COLUMN) if IMAGE_COLUMN in column_types(item_file) else {}
    except DataError as error:  # a run stops there; the page tells the rest
        logger.warning("the column %r is not used: %s", IMAGE_COLUMN, error)
        return {}


def _usual_place(folder: Path) -> Path | None:
    """Return where runs look for pictures, if something is there."""
    places = [folder / "images", folder / "images.zip"]
    settings = folder / f"{folder.name}.yaml"
    if settings.is_file():
        try:
            given = yaml.safe_load(settings.read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise DataError(f"{settings}: broken settings ({' '.join(str(error).split())}): correct them") from error
        if isinstance(given, dict) and given.get("image_source"):
            places.insert(0, Path(str(given["image_source"])))
    return next((place for place in places if place.is_dir() or place.suffix == ".zip" and place.is_file()), None)


def thumbnail(pictures: Pictures, token: str) -> str:
    """Return an item's picture as a ``data:`` address of a small JPEG; ``""``, and a log line, if it is broken."""
    name = pictures.names[token]
    try:
        small = decode(pictures.source.read(name))
    except BrokenImage as error:
        logger.warning("picture %s of item %r %s", name, token, error)
        return ""
    small.thumbnail((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=72, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
