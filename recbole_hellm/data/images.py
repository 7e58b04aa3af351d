"""Pictures of items in a folder or a zip archive, found by item and decoded with limits."""

from __future__ import annotations

import hashlib
import io
import os
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote

from recbole_hellm.data.tokens import unescaped
from recbole_hellm.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")
"""Files that are looked at; where an item has several, the kind that stands first here wins."""
MAX_BYTES = 30 * 2**20
"""Largest picture file that is read."""
MAX_PIXELS = 50_000_000
"""Most pixels a picture may claim before it is decoded: a small file can unpack to gigabytes."""
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
_LONGEST_STEM = 200
_SIDE = 640
"""Longest side, in pixels, of a decoded picture; encoders look at less."""


class BrokenImage(Exception):
    """A picture cannot be used; the message says why, in a few words that are the same for pictures of one fault."""


class ImageSource(Protocol):
    """A place with pictures."""

    where: str
    """Path, for messages."""

    def names(self) -> Iterable[str]:
        """Return the name of every picture, folders in front."""

    def read(self, name: str) -> bytes:
        """Return the bytes of a picture.

        Raises:
            BrokenImage: If they cannot be had, or are too many.
        """


class ImageFolder:
    """Pictures in a folder and in the folders below it.

    Args:
        folder: The folder.

    Raises:
        DataError: If it is none, or a link below it leads out of it.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise DataError(f"folder of images {folder} does not exist: correct --images or setting 'image_source'")
        self.where, self._folder, self._root = str(folder), folder, folder.resolve()
        self._names = sorted(self._scan())

    def names(self) -> Iterable[str]:
        """Return the path of every picture below the folder."""
        return self._names

    def _scan(self) -> Iterable[str]:
        for folder, _, files in os.walk(self._folder):  # links to folders are not followed
            for file in files:
                if Path(file).suffix.lower() in SUFFIXES and not file.startswith("."):
                    path = Path(folder, file)
                    if path.is_symlink() and not path.resolve().is_relative_to(self._root):
                        raise DataError(f"{path} is a link to a file outside {self._folder}: copy the picture instead")
                    yield path.relative_to(self._folder).as_posix()

    def read(self, name: str) -> bytes:
        """Return the bytes of a picture; see :class:`ImageSource`."""
        try:
            with (self._folder / name).open("rb") as file:
                return _limited(file.read)
        except OSError as error:
            raise BrokenImage(f"cannot be read ({error.strerror or error})") from error


class ImageZip:
    """Pictures in a zip archive. Nothing is ever unpacked to the disk.

    Args:
        path: The archive.

    Raises:
        DataError: If it is none, or a name in it is absolute or leads out of it.
    """

    def __init__(self, path: Path) -> None:
        self.where = str(path)
        try:
            self._archive = zipfile.ZipFile(path)
        except FileNotFoundError as error:
            raise DataError(
                f"zip of images {path} does not exist: correct --images or setting 'image_source'"
            ) from error
        except (zipfile.BadZipFile, OSError, ValueError) as error:
            raise DataError(f"{path}: no readable zip archive ({error}): copy it again") from error
        self._names = []
        for name in self._archive.namelist():
            plain = PurePosixPath(name.replace("\\", "/"))
            if plain.is_absolute() or ".." in plain.parts or ":" in plain.parts[0]:
                raise DataError(
                    f"{path}: the name {name!r} leads out of the archive: it was made to do harm, or wrongly"
                )
            hidden = plain.name.startswith(".") or "__MACOSX" in plain.parts
            if plain.suffix.lower() in SUFFIXES and not hidden:
                self._names.append(name)

    def names(self) -> Iterable[str]:
        """Return the name of every picture in the archive."""
        return self._names

    def read(self, name: str) -> bytes:
        """Return the bytes of a picture; see :class:`ImageSource`."""
        try:
            with self._archive.open(name) as file:
                return _limited(file.read)
        except (zipfile.BadZipFile, zlib.error, OSError, EOFError) as error:
            raise BrokenImage(f"cannot be unpacked ({error})") from error
        except (RuntimeError, NotImplementedError) as error:
            raise BrokenImage("is encrypted or packed in an unknown way") from error


def _limited(read: Callable[[int], bytes]) -> bytes:
    data = read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise BrokenImage(f"has more than {MAX_BYTES} bytes")
    if not data:
        raise BrokenImage("is empty")
    return data


def open_source(path: Path) -> ImageSource:
    """Return the pictures in a folder or ``.zip`` file.

    Raises:
        DataError: As :class:`ImageFolder` and :class:`ImageZip`.
    """
    return ImageZip(path) if path.suffix.lower() == ".zip" else ImageFolder(path)


def match_items(source: ImageSource, tokens: Iterable[str], given: Mapping[str, str]) -> dict[str, str]:
    """Return item token -> name of its picture, for those that have one.

    Args:
        source: The pictures.
        tokens: Items.
        given: Item to the path of its picture in the source, or a path or address that ends in its file name (column
            ``image`` of the ``.item`` file); nothing outside the source is ever looked at. Any other item has
            ``<item>.jpg`` or ``<item>_<anything>.jpg`` (also png, ...), in whatever folder; ``%XX`` in an item id may
            stand for the character itself.
    """
    wanted = list(tokens)
    own = {option for token in wanted for option in _stems(token)}
    by_path, by_file, by_stem, by_start = dict[str, str](), dict[str, str](), dict[str, str](), dict[str, str]()
    for name in sorted(source.names(), key=lambda name: (SUFFIXES.index(Path(name).suffix.lower()), name)):
        path = PurePosixPath(name)
        by_path[name] = name
        by_file.setdefault(path.name, name)
        by_stem.setdefault(path.stem, name)
        if path.stem not in own:  # 1_2.jpg is a picture of item 1 only where there is no item 1_2
            by_start.setdefault(path.stem.split("_")[0], name)
    found = {}
    for token in wanted:
        options = [*(by_stem.get(stem) for stem in _stems(token)), by_start.get(token)]
        if cell := given.get(token, ""):
            path = PurePosixPath(cell.replace("\\", "/"))
            options = [by_path.get(str(path)), by_file.get(path.name.split("?")[0]), *options]
        named = next((option for option in options if option is not None), None)
        if named is not None:
            found[token] = named
    return found


def image_stem(token: str) -> str:
    """Return the file name, without ending, that a fetched picture of an item gets."""
    stem = quote(token, safe="%")
    return stem if len(stem) <= _LONGEST_STEM else hashlib.sha256(token.encode(errors="replace")).hexdigest()


def _stems(token: str) -> tuple[str, str, str]:
    return token, unescaped(token), image_stem(token)


def content_digest(data: bytes) -> str:
    """Return the SHA-256 of a picture file, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def decode(data: bytes) -> Image.Image:
    """Return a picture in RGB, at most 640 pixels a side, turned as its camera says; transparent parts are white.

    Raises:
        BrokenImage: If the bytes are no JPEG, PNG, WebP, GIF or BMP picture, cut, or claim too many pixels.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own limits are looked at below; damaged EXIF is no matter
            picture = Image.open(io.BytesIO(data), formats=_FORMATS)
            if picture.width * picture.height > MAX_PIXELS:
                raise BrokenImage(f"claims more than {MAX_PIXELS} pixels")
            picture.draft("RGB", (_SIDE, _SIDE))
            turned: Image.Image = picture
            with suppress(Exception):  # EXIF that cannot be read turns nothing
                turned = ImageOps.exif_transpose(picture)
            turned.load()
            return _opaque(turned)
    except UnidentifiedImageError as error:
        raise BrokenImage("is no JPEG, PNG, WebP, GIF or BMP picture") from error
    except Image.DecompressionBombError as error:
        raise BrokenImage(f"claims more than {MAX_PIXELS} pixels") from error
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError, KeyError, MemoryError) as error:
        raise BrokenImage("is damaged") from error


def _opaque(picture: Image.Image) -> Image.Image:
    """Return a picture in RGB and at the size encoders are given."""
    from PIL import Image

    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    picture = picture.convert("RGB")
    picture.thumbnail((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    return picture
