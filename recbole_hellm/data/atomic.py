"""Writes RecBole's atomic files, feature matrices and a manifest as one complete folder."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from logging import getLogger
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from recbole_hellm.data.features import FeatureTable
from recbole_hellm.data.manifest import write_manifest
from recbole_hellm.data.publish import published_folder
from recbole_hellm.data.records import TEXT_COLUMNS, CatalogueItem, UserSequence
from recbole_hellm.errors import DataError

logger = getLogger(__name__)

MissingText = Literal["error", "empty"]
FEW_INTERACTIONS = 3
"""A user with fewer has no training row after leave-one-out for validation and test."""


@dataclass(frozen=True)
class Counts:
    """Sizes of a data set, as they are known from the literature."""

    n_users: int
    n_items: int
    """Distinct items of the interactions."""
    n_interactions: int


@dataclass(frozen=True)
class Contents:
    """All that goes into a data set folder."""

    sequences: Iterable[UserSequence]
    """One record a user; read once."""
    items: Iterable[CatalogueItem]
    """One record an item; read once."""
    features: Sequence[FeatureTable] = ()
    """Named by modality; float32 tables, rows that are all zero are left out of the files."""
    expected: Counts | None = None
    """Known sizes that must come out, if there are any."""
    missing_text: MissingText = "error"
    """What to do with an item of the interactions that has no catalogue row."""


@dataclass
class _Interactions:
    """What was counted while the interactions were written."""

    n_users: int = 0
    n_interactions: int = 0
    n_same_time_steps: int = 0
    n_users_with_few: int = 0
    items: dict[str, None] | None = None


def write_dataset(target: Path, contents: Contents, inputs: dict[str, Any]) -> None:
    """Write ``<target>/<name>.inter``, ``.item``, ``features/`` and ``manifest.json``; the name is the folder's.

    ``.inter`` has ``user_id:token item_id:token timestamp:float day_gap:float``. Timestamps are integers that float32
    keeps exactly and grow strictly within a user, because RecBole casts them to float32 and sorts by them.
    ``day_gap`` is 0 where an interaction ties in time with the one before it; it is not loaded by default.
    ``.item`` has ``item_id:token`` and those of ``TEXT_COLUMNS`` that occur, as ``token_seq``.
    ``features/<modality>.npy`` has one float16 row for each token in ``features/<modality>.ids.txt``.

    Args:
        target: Folder to make or replace; it appears at once, when all is written and counted.
        contents: Sequences, items and features.
        inputs: Head of the manifest, from ``manifest.describe_source``.

    Raises:
        DataError: If an item has no catalogue row, counts differ from the known ones, or a file cannot be written.
    """
    name = target.name
    with published_folder(target) as folder:
        seen = _write_interactions(folder / f"{name}.inter", contents.sequences)
        items = list(tqdm(contents.items, desc=f"{name}: item texts", unit=" items", disable=None))
        counted = _check_counts(name, seen, contents.expected)
        used = seen.items or {}
        items, n_no_row = _complete(items, used, contents.missing_text)
        missing_text = _write_items(folder / f"{name}.item", items)
        results = {
            "counts": {
                **asdict(counted),
                "n_catalogue_items": len(items),
                "n_items_without_interactions": sum(item.token not in used for item in items),
                f"n_users_with_fewer_than_{FEW_INTERACTIONS}_interactions": seen.n_users_with_few,
                "n_steps_tied_in_time": seen.n_same_time_steps,
            },
            "missing": {"catalogue_row": n_no_row, **missing_text},
            "features": {table.name: _write_features(folder / "features", table, used) for table in contents.features},
        }
        write_manifest(folder, inputs, results)
    logger.info("%s: %s; missing texts: %s", target, counted, results["missing"])


def _write_interactions(path: Path, sequences: Iterable[UserSequence]) -> _Interactions:
    """Write the ``.inter`` file and count."""
    seen, items = _Interactions(), dict[str, None]()
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write("user_id:token\titem_id:token\ttimestamp:float\tday_gap:float\n")
        for sequence in tqdm(sequences, desc=f"{path.stem}: interactions", unit=" users", disable=None):
            rows = zip(sequence.items, sequence.timestamps, sequence.day_gaps, strict=True)
            file.writelines(f"{sequence.user}\t{item}\t{time}\t{gap:.7g}\n" for item, time, gap in rows)
            items.update(dict.fromkeys(sequence.items))
            seen.n_users += 1
            seen.n_interactions += len(sequence.items)
            seen.n_users_with_few += len(sequence.items) < FEW_INTERACTIONS
            seen.n_same_time_steps += sum(gap == 0 for gap in sequence.day_gaps[1:])
    seen.items = items
    return seen


def _check_counts(name: str, seen: _Interactions, expected: Counts | None) -> Counts:
    """Return what was counted.

    Raises:
        DataError: If it is not what is known of the data set.
    """
    counted = Counts(seen.n_users, len(seen.items or {}), seen.n_interactions)
    if expected is not None and counted != expected:
        raise DataError(f"data set {name}: expected {expected}, got {counted}: the source is cut or another version")
    return counted


def _complete(
    items: list[CatalogueItem], used: dict[str, None], missing_text: MissingText
) -> tuple[list[CatalogueItem], int]:
    """Add an empty row for each item of the interactions that has none, or refuse; also return how many."""
    known = {item.token for item in items}
    absent = [token for token in used if token not in known]
    if absent and missing_text == "error":
        raise DataError(
            f"item {absent[0]!r} of the interactions has no row in the item texts ({len(absent)} such items): "
            "add the rows or set missing_text to 'empty'"
        )
    if absent:
        logger.warning("%d items have no row in the item texts and get empty texts, first %r", len(absent), absent[0])
    return [*items, *(CatalogueItem(token) for token in absent)], len(absent)


def _write_items(path: Path, items: Sequence[CatalogueItem]) -> dict[str, int]:
    """Write the ``.item`` file; return for each of its text columns how many items have none."""
    columns = [column for column in TEXT_COLUMNS if any(column in item.texts for item in items)]
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write("\t".join(["item_id:token", *(f"{column}:token_seq" for column in columns)]) + "\n")
        for item in items:
            file.write("\t".join([item.token, *(item.texts.get(column, "") for column in columns)]) + "\n")
    return {column: sum(column not in item.texts for item in items) for column in columns}


def _write_features(folder: Path, table: FeatureTable, used: dict[str, None]) -> dict[str, Any]:
    """Write the rows that are not all zero as float16 with their tokens beside; return what the manifest says."""
    folder.mkdir(exist_ok=True)
    present = table.present()
    tokens = [token for token, has in zip(table.tokens, present, strict=True) if has]
    covered = sum(token in used for token in tokens)
    if covered == 0:
        raise DataError(f"features {table.name}: no item of the interactions has a vector: ids must be item tokens")
    np.save(folder / f"{table.name}.npy", table.vectors[present].astype(np.float16), allow_pickle=False)
    (folder / f"{table.name}.ids.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    return {"rows": len(tokens), "width": table.vectors.shape[1], "items_without_vector": len(used) - covered}
