"""Modality ``image``: pictures of the items, encoded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path
from typing import Any

from recbole_hellm import registry
from recbole_hellm.config.specs import FeatureSpec
from recbole_hellm.data.catalogue import column_types, read_column
from recbole_hellm.data.features import FeatureTable, check_complete
from recbole_hellm.data.image_download import download_images, image_file, is_address, read_addresses
from recbole_hellm.data.images import BrokenImage, ImageSource, content_digest, decode, match_items, open_source
from recbole_hellm.data.item_file import IMAGE_COLUMN
from recbole_hellm.encoders.cache import EncodingCache, Things, encode_cached
from recbole_hellm.errors import DataError

logger = getLogger(__name__)

_BATCH = 64
_LISTS = (".tsv", ".txt")


def image_encoder(spec: FeatureSpec) -> Any:
    """Return the image encoder of the settings: a registered one, or a Hugging Face one for a path or hub name.

    Raises:
        ConfigError: If the name is unknown.
        HellmError: If the model is missing or broken.
    """
    name = spec.image_encoder
    if name in registry.image_encoders or ("/" not in name and not Path(name).is_dir()):
        return registry.image_encoders.get(name)()  # an unknown name raises with the near one
    from recbole_hellm.encoders.image import HFImageEncoder

    return HFImageEncoder(name)


@dataclass(frozen=True)
class Pictures:
    """The pictures of a data set's items, as files.

    Attributes:
        source: Where they are.
        names: Item token to the name of its picture there.
        digests: Item token to the SHA-256 of its picture; without unreadable ones.
        broken: Reasons why a picture could not be read, with their number.
    """

    source: ImageSource
    names: Mapping[str, str]
    digests: Mapping[str, str]
    broken: Counter[str]


def find_pictures(spec: FeatureSpec, item_file: Path, item_tokens: Sequence[str]) -> Pictures:
    """Find the picture of each item, fetching those known by address if that is allowed, and read it once.

    Args:
        spec: Settings.
        item_file: RecBole's ``.item`` file, which may be missing.
        item_tokens: Items of the data set, padding first.

    Raises:
        DataError: If there is no source, it is unsafe, or pictures would have to be fetched.
    """
    column = read_column(item_file, IMAGE_COLUMN) if IMAGE_COLUMN in column_types(item_file) else {}
    source = open_source(_source_path(spec, item_file, item_tokens, column))
    names = match_items(source, item_tokens[1:], column)
    digests, broken = dict[str, str](), Counter[str]()
    for token, name in names.items():
        try:
            digests[token] = content_digest(source.read(name))
        except BrokenImage as error:
            broken[str(error)] += 1
            logger.debug("picture %s of item %r %s", name, token, error)
    return Pictures(source, names, digests, broken)


def _source_path(spec: FeatureSpec, item_file: Path, item_tokens: Sequence[str], column: Mapping[str, str]) -> Path:
    """Return the folder or zip of the pictures, filling the folder first where they are known by address."""
    folder = item_file.parent / "images"
    beside = (folder, folder.with_suffix(".zip"), folder.with_suffix(".tsv"))
    path = Path(spec.image_source) if spec.image_source else next((each for each in beside if each.exists()), None)
    addresses = {token: cell for token, cell in column.items() if is_address(cell)}
    if path is not None and path.suffix.lower() in _LISTS and not path.is_dir():
        addresses = read_addresses(path)
        path = None
    if path is not None and not (path == folder and spec.image_download):
        return path
    addresses = {token: addresses[token] for token in item_tokens[1:] if token in addresses}
    if not addresses and path is not None:
        return path
    if not addresses:
        raise DataError(
            f"item feature 'image' has no pictures: {folder} does not exist; put <item id>.jpg files there, set "
            "image_source to a folder, a .zip or a .tsv of addresses, or give --item_features=[image=PATH.npy]"
        )
    absent = sum(image_file(folder, token) is None for token in addresses)
    if absent and not spec.image_download:
        raise DataError(
            f"item feature 'image': {absent} of {len(addresses)} pictures are known by address only; set "
            f"image_download=True to fetch them into {folder}, or image_source to a folder that has them"
        )
    if absent:
        download_images(addresses, folder)
    return folder


def image_inputs(spec: FeatureSpec, pictures: Pictures) -> list[Any]:
    """Return what identifies the image vectors: the pictures by content, and the encoder."""
    joined = "\n".join(f"{token}\t{digest}" for token, digest in sorted(pictures.digests.items()))
    return [content_digest(joined.encode(errors="replace")), image_encoder(spec).fingerprint()]


def encode_pictures(
    spec: FeatureSpec, pictures: Pictures, item_tokens: Sequence[str], cache: Path, show_progress: bool
) -> FeatureTable:
    """Return a vector for each item; a picture that is broken gives zeros, which ``feature_missing`` deals with.

    Args:
        spec: Settings.
        pictures: From :func:`find_pictures`.
        item_tokens: Items of the data set, padding first.
        cache: Folder of encoded vectors.
        show_progress: Whether to draw a progress bar.

    Raises:
        DataError: If no item has a usable picture.
    """
    wanted = [token for token in item_tokens[1:] if token in pictures.digests]
    broken = Counter(pictures.broken)

    def load(places: Sequence[int]) -> list[Any]:
        images: list[Any] = []
        for place in places:
            name = pictures.names[wanted[place]]
            try:
                images.append(decode(pictures.source.read(name)))
            except BrokenImage as error:
                broken[str(error)] += 1
                logger.debug("picture %s of item %r %s", name, wanted[place], error)
                images.append(None)
        return images

    where, n_items = pictures.source.where, len(item_tokens) - 1
    if not wanted:
        raise DataError(
            f"{where}: no item of the data set has a usable picture: files must be named by item id "
            f"({', '.join(item_tokens[1:4])}, ...) or stand in column 'image' of the .item file"
        )
    check_complete(f"image of {where}", wanted, item_tokens, spec.feature_missing)
    encoder = image_encoder(spec)
    logger.info("encoding the pictures of %d items with %s", len(wanted), spec.image_encoder)
    things = Things([pictures.digests[token] for token in wanted], load, _BATCH, "images")
    vectors = encode_cached(encoder, things, EncodingCache(cache, encoder), show_progress)
    said = "; ".join(f"{count} {reason}" for reason, count in broken.most_common()) or "none"
    logger.info("pictures in %s: %d of %d items have one; broken: %s", where, len(pictures.names), n_items, said)
    return FeatureTable(f"image of {where}", vectors, tuple(wanted))
