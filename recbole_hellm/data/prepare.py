"""``prepare``: one named data set from its source files to a RecBole data set folder."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from logging import getLogger
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_hellm.data import movielens, sequences
from recbole_hellm.data.atomic import Contents, write_dataset
from recbole_hellm.data.features import FeatureTable
from recbole_hellm.data.item_file import MissingText
from recbole_hellm.data.manifest import MANIFEST, describe_source, difference, is_prepared
from recbole_hellm.data.origins import ORIGINS, fetch_origin, is_there
from recbole_hellm.data.own import OwnSource
from recbole_hellm.data.records import Counts
from recbole_hellm.data.sources.base import SourceOptions
from recbole_hellm.errors import ConfigError, DataError, nearest

__all__ = ["DATASETS", "Recipe", "is_prepared", "prepare"]

logger = getLogger(__name__)


@dataclass(frozen=True)
class Recipe:
    """How one data set is found and read, and what must come out."""

    layout: str
    """Name of the source layout, for the manifest."""
    expected: Counts
    """Known sizes."""
    find: Callable[[Path | None], Path]
    """``--source`` to the folder with the files."""
    files: Callable[[Path], list[Path]]
    """Folder to the files that are read."""
    read: Callable[[Path, MissingText], Contents]
    """Folder to all that is written."""


def prepare(
    name: str,
    source: Path | None,
    output: Path,
    force: bool = False,
    missing_text: MissingText = "error",
    *,
    format: str | None = None,
    options: SourceOptions | None = None,
    filters: Mapping[str, Any] | None = None,
    keep_cold_items: bool = False,
) -> Path:
    """Write the RecBole data set ``<output>/<name>`` and return that folder.

    A folder that was written from the same source files with the same options is kept as it is. A name of
    ``DATASETS`` has a recipe, or with ``format`` must come out in the known sizes; other names are one's own data.

    Args:
        name: Name of the data set.
        source: File or folder; ``None`` for what comes with recbole or (``ORIGINS``) is downloaded unless it is there.
        output: Folder of data set folders, RecBole's ``data_path``.
        force: Replace an existing folder that has other contents.
        missing_text: ``error`` or ``empty``, for an item without a row in the source's item texts.
        format: Format of the source; ``None`` finds out.
        options: How the source is read.
        filters: Fields of ``filters.Filters`` that differ from the format's defaults.
        keep_cold_items: Keep items of the catalogue without interactions in the ``.item`` file.

    Raises:
        ConfigError: If an option is unknown or wrong.
        DataError: If the source is broken, counts are not the known ones, or the output cannot or must not be written.
    """
    if missing_text not in ("error", "empty"):
        raise DataError(f"missing_text must be 'error' or 'empty', got {missing_text!r}")
    start, target = time.monotonic(), Path(output) / name
    changes = options is not None or bool(filters) or keep_cold_items
    if source is None and format is None and name in ORIGINS:
        if not (force or changes) and is_there(target, missing_text):
            return target
        source, format = fetch_origin(name)
    if name in DATASETS and format is None:
        if changes:
            raise ConfigError(f"data set {name!r} has a recipe, no options: take another name, or give its --format")
        inputs, read = _open_recipe(name, source, missing_text)
    else:
        inputs, read = _open_own(name, source, format, options, filters, keep_cold_items, missing_text)
    if not (reused := _is_up_to_date(target, inputs, force)):
        write_dataset(target, read(), inputs)
    logger.info("%s %s in %.1f s", "reused" if reused else "written to", target, time.monotonic() - start)
    return target


_Opened = tuple[dict[str, Any], Callable[[], Contents]]


def _open_recipe(name: str, source: Path | None, missing_text: MissingText) -> _Opened:
    """Return what decides the files of a known data set, and how to read it."""
    recipe = DATASETS[name]
    folder = recipe.find(source)
    inputs = describe_source(name, recipe.layout, recipe.files(folder), {"missing_text": missing_text})
    return inputs, lambda: recipe.read(folder, missing_text)


def _open_own(
    name: str,
    source: Path | None,
    format: str | None,
    options: SourceOptions | None,
    filters: Mapping[str, Any] | None,
    keep_cold_items: bool,
    missing_text: MissingText,
) -> _Opened:
    """Return what decides the files of one's own data set, and how to read it."""
    if source is None:
        known = f"; known without a source or with a recipe: {', '.join(DATASETS)}"
        near = nearest(name, DATASETS)
        raise DataError(f"unknown data set {name!r}{near}{known}; for one's own data give --source FILE or FOLDER")
    if format is None and (near := nearest(name, DATASETS)):
        logger.warning("data set %r is read as your own data, without the recipe of a known one%s", name, near)
    own = OwnSource(
        name, Path(source), format, options or SourceOptions(), filters or {}, keep_cold_items, missing_text
    )
    expected = DATASETS[name].expected if name in DATASETS else None
    return own.inputs, lambda: own.read(expected)


def _is_up_to_date(target: Path, inputs: dict[str, Any], force: bool) -> bool:
    """Tell whether ``target`` is what would be written; refuse to replace, even with force, what is no data set."""
    changed = difference(target, inputs) if target.exists() else "missing"
    if not target.exists() or not changed:
        return not changed
    if not force:
        raise DataError(f"{target} exists and differs ({changed}): choose another output or replace it with --force")
    if not target.is_dir():
        raise DataError(f"{target} is not a folder: move it away or choose another output")
    foreign = (
        any(target.iterdir()) and not (target / MANIFEST).exists() and not (target / f"{target.name}.inter").exists()
    )
    if foreign:
        raise DataError(f"{target} holds files that are no prepared data set: move them away or choose another output")
    return False


def _find_amazon(stem: str, source: Path | None) -> Path:
    if source is None:
        raise DataError(
            f"data set {stem} is not shipped with this package: give --source the folder that holds {stem}/"
        )
    return sequences.find_source(Path(source), stem)


def _amazon_files(stem: str, clip: bool, folder: Path) -> list[Path]:
    files = sequences.source_files(folder, stem)
    extra = [folder / file for file in (*_CLIP.values(), _HAS_IMAGE)] if clip else []
    for file in extra:
        if not file.is_file():
            raise DataError(f"file {file} is missing: copy the complete data set folder")
    return [*files, *extra]


def _read_amazon(stem: str, clip: bool, expected: Counts, folder: Path, missing_text: MissingText) -> Contents:
    return Contents(
        sequences=sequences.read_sequences(folder, stem),
        items=sequences.read_catalogue(folder),
        features=[_read_clip(folder, modality, expected.n_items) for modality in _CLIP] if clip else [],
        expected=expected,
        missing_text=missing_text,
    )


_CLIP = {"image": "clip_vitb32_image_f16.npy", "clip_text": "clip_vitb32_text_f16.npy"}
_HAS_IMAGE = "has_image.npy"


def _read_clip(folder: Path, modality: str, n_items: int) -> FeatureTable:
    """Read a CLIP matrix whose row number is the item id; row 0 is padding and left out.

    Raises:
        DataError: If the shape is wrong, or an image row is zero where ``has_image.npy`` has one or the other way.
    """
    path = folder / _CLIP[modality]
    vectors = _load(path)
    if vectors.ndim != 2 or len(vectors) != n_items + 1:
        raise DataError(f"{path}: expected {n_items + 1} rows (padding and one an item), got {list(vectors.shape)}")
    table = FeatureTable(modality, vectors[1:].astype(np.float32), tuple(str(i) for i in range(1, n_items + 1)))
    if modality == "image":
        has_image = _load(folder / _HAS_IMAGE).astype(bool)
        if has_image.shape != (n_items + 1,) or (has_image[1:] != table.present()).any():
            raise DataError(
                f"{folder / _HAS_IMAGE}: does not fit the zero rows of {path.name}: take both from one source"
            )
    return table


def _load(path: Path) -> NDArray[np.generic]:
    try:
        array: NDArray[np.generic] = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise DataError(f"{path}: no readable .npy file ({error}): copy the file again") from error
    return array


def _find_movielens(source: Path | None) -> Path:
    if source is None:
        return movielens.packaged_folder()
    folder = Path(source)
    return folder / "ml-100k" if (folder / "ml-100k").is_dir() else folder


def _read_movielens(folder: Path, missing_text: MissingText) -> Contents:
    return Contents(
        sequences=movielens.read_sequences(folder),
        items=movielens.read_catalogue(folder),
        expected=_MOVIELENS_COUNTS,
        missing_text=missing_text,
    )


def _amazon(stem: str, expected: Counts, clip: bool = False) -> Recipe:
    return Recipe(
        layout="s3rec",
        expected=expected,
        find=partial(_find_amazon, stem),
        files=partial(_amazon_files, stem, clip),
        read=partial(_read_amazon, stem, clip, expected),
    )


_MOVIELENS_COUNTS = Counts(n_users=943, n_items=1_682, n_interactions=100_000)

DATASETS: dict[str, Recipe] = {
    "ml-100k": Recipe("recbole", _MOVIELENS_COUNTS, _find_movielens, movielens.source_files, _read_movielens),
    "amazon-toys": _amazon("Toys_and_Games", Counts(19_412, 11_924, 167_597), clip=True),
    "amazon-beauty": _amazon("Beauty", Counts(22_363, 12_101, 198_502)),
    "amazon-sports": _amazon("Sports_and_Outdoors", Counts(35_598, 18_357, 296_337)),
}
"""Data sets by the name of their folder and yaml."""
