"""Writes RecBole's atomic files, feature matrices and a manifest as one complete folder."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from logging import getLogger
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from recbole_hellm.data.catalogue import column_types, read_column
from recbole_hellm.data.dataset_yaml import settings_text
from recbole_hellm.data.event_table import EventTable
from recbole_hellm.data.features import FeatureTable
from recbole_hellm.data.fingerprint import events_digest
from recbole_hellm.data.images import match_items, open_source
from recbole_hellm.data.item_file import IMAGE_COLUMN, ItemReport, MissingText, write_items
from recbole_hellm.data.manifest import write_manifest
from recbole_hellm.data.publish import published_folder
from recbole_hellm.data.records import FEW_INTERACTIONS, CatalogueItem, Counts, UserSequence
from recbole_hellm.errors import DataError

logger = getLogger(__name__)

_CHUNK_ROWS = 65_536


@dataclass(frozen=True)
class Contents:
    """All that goes into a data set folder."""

    sequences: Iterable[UserSequence] | EventTable
    """One record a user, read once; or all of them as arrays."""
    items: Iterable[CatalogueItem]
    """One record an item; read once."""
    features: Sequence[FeatureTable] = ()
    """Named by modality; float32 tables, rows that are all zero are left out of the files."""
    expected: Counts | None = None
    """Known sizes that must come out, if there are any."""
    missing_text: MissingText = "error"
    """What to do with an item of the interactions that has no catalogue row."""
    keep_cold: bool = True
    """Whether items and vectors without interactions are kept."""
    with_settings: bool = False
    """Whether ``<name>.yaml`` is written, for a data set whose settings do not come with this package."""
    images: Path | None = None
    """Folder or ``.zip`` with pictures of the items; not copied, but found again by the settings."""


@dataclass
class _Interactions:
    """What was counted while the interactions were written."""

    n_users: int = 0
    n_interactions: int = 0
    n_same_time_steps: int = 0
    n_users_with_few: int = 0
    items: dict[str, int] = field(default_factory=dict)
    """Item to its number, by first appearance."""
    digest: str = ""
    """``fingerprint.events_digest`` of what was written."""
    report: dict[str, Any] = field(default_factory=dict)


def write_dataset(target: Path, contents: Contents, inputs: dict[str, Any]) -> None:
    """Write ``<target>/<name>.inter``, ``.item``, ``features/`` and ``manifest.json``; the name is the folder's.

    ``.inter`` has ``user_id:token item_id:token timestamp:float day_gap:float``. Timestamps are integers that float32
    keeps exactly and grow strictly within a user, because RecBole casts them to float32 and sorts by them.
    ``day_gap`` is 0 where an interaction ties in time with the one before it; it is not loaded by default.
    ``.item`` has ``item_id:token`` and the columns that occur, as :func:`item_file.write_items` says.
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
        counted = _check_counts(name, seen, contents.expected)
        items = write_items(
            folder / f"{name}.item",
            tqdm(contents.items, desc=f"{name}: item texts", unit=" items", disable=None),
            seen.items,
            contents.missing_text,
            contents.keep_cold,
        )
        features = {}
        for table in contents.features:
            features[table.name] = _write_features(folder / "features", table, seen.items, contents.keep_cold)
        results = {"counts": _all_counts(counted, seen, items), **seen.report}
        results |= {"missing": {"catalogue_row": items.n_no_row, **items.missing}, "features": features}
        if contents.images is not None:
            results["pictures"] = _count_pictures(contents.images, folder / f"{name}.item", seen.items)
        if contents.with_settings:
            text = settings_text(name, counted, items, list(features), contents.images)
            (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
        write_manifest(folder, inputs, results, seen.digest)
    logger.info("%s: %s; missing texts: %s", target, counted, results["missing"])


def _all_counts(counted: Counts, seen: _Interactions, items: ItemReport) -> dict[str, int]:
    """Return the counts of the manifest."""
    return {
        **asdict(counted),
        "n_catalogue_items": items.n_items,
        "n_items_without_interactions": items.n_cold,
        f"n_users_with_fewer_than_{FEW_INTERACTIONS}_interactions": seen.n_users_with_few,
        "n_steps_tied_in_time": seen.n_same_time_steps,
    }


def _write_interactions(path: Path, sequences: Iterable[UserSequence] | EventTable) -> _Interactions:
    """Write the ``.inter`` file, count and digest."""
    if isinstance(sequences, EventTable):
        return _write_table(path, sequences)
    seen, users, codes = _Interactions(), list[str](), list[list[int]]()
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write("user_id:token\titem_id:token\ttimestamp:float\tday_gap:float\n")
        for sequence in tqdm(sequences, desc=f"{path.stem}: interactions", unit=" users", disable=None):
            rows = zip(sequence.items, sequence.timestamps, sequence.day_gaps, strict=True)
            file.writelines(f"{sequence.user}\t{item}\t{time}\t{gap:.7g}\n" for item, time, gap in rows)
            users.append(sequence.user)
            codes.append([seen.items.setdefault(item, len(seen.items)) for item in sequence.items])
            seen.n_users_with_few += len(sequence.items) < FEW_INTERACTIONS
            seen.n_same_time_steps += sum(gap == 0 for gap in sequence.day_gaps[1:])
    user = np.repeat(np.arange(len(users)), [len(row) for row in codes])
    item = np.concatenate([*codes, []]).astype(np.int64)
    seen.n_users, seen.n_interactions = len(users), len(item)
    seen.digest = events_digest(user, item, users, list(seen.items))
    return seen


def _write_table(path: Path, events: EventTable) -> _Interactions:
    """Write interactions that are there as arrays."""
    events.write(path)
    return _Interactions(
        n_users=len(events.user_tokens),
        n_interactions=len(events),
        n_same_time_steps=events.n_tied(),
        n_users_with_few=events.n_short(),
        items={token: number for number, token in enumerate(events.item_tokens)},
        digest=events_digest(events.user, events.item, events.user_tokens, events.item_tokens),
        report={"source_rows": events.report},
    )


def _check_counts(name: str, seen: _Interactions, expected: Counts | None) -> Counts:
    """Return what was counted.

    Raises:
        DataError: If it is not what is known of the data set.
    """
    counted = Counts(seen.n_users, len(seen.items), seen.n_interactions)
    if expected is not None and counted != expected:
        raise DataError(f"data set {name}: expected {expected}, got {counted}: the source is cut or another version")
    return counted


def _write_features(folder: Path, table: FeatureTable, used: Mapping[str, int], keep_cold: bool) -> dict[str, Any]:
    """Write the rows that are not all zero as float16 with their tokens beside; return what the manifest says."""
    folder.mkdir(exist_ok=True)
    present = table.present()
    if not keep_cold:
        present &= np.array([token in used for token in table.tokens])
    tokens = [token for token, has in zip(table.tokens, present, strict=True) if has]
    covered = sum(token in used for token in tokens)
    if covered == 0:
        raise DataError(f"features {table.name}: no item of the interactions has a vector: ids must be item tokens")
    rows = np.flatnonzero(present)
    with (folder / f"{table.name}.npy").open("wb") as file:
        shape = (len(rows), table.vectors.shape[1])
        header = {"descr": np.dtype(np.float16).str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, len(rows), _CHUNK_ROWS):  # a memory map is not read as a whole
            file.write(_half(table, rows[start : start + _CHUNK_ROWS]).tobytes())
    (folder / f"{table.name}.ids.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    return {"rows": len(tokens), "width": table.vectors.shape[1], "items_without_vector": len(used) - covered}


def _count_pictures(images: Path, item_file: Path, used: Mapping[str, int]) -> dict[str, int]:
    """Return how many items have a picture and how many have none.

    Raises:
        DataError: If the pictures cannot be found, or none is an item's.
    """
    named = read_column(item_file, IMAGE_COLUMN) if IMAGE_COLUMN in column_types(item_file) else {}
    found = match_items(open_source(images), used, named)
    logger.info("%s: %d of %d items have a picture", images, len(found), len(used))
    if not found:
        raise DataError(
            f"{images}: no item has a picture there: files must be named by item id ({', '.join([*used][:3])}, ...), "
            "or --columns image=COLUMN must name the column with their names"
        )
    return {"items_with_picture": len(found), "items_without_picture": len(used) - len(found)}


def _half(table: FeatureTable, rows: NDArray[np.int64]) -> NDArray[np.float16]:
    """Return rows as float16.

    Raises:
        DataError: If a value is beyond float16's range.
    """
    with np.errstate(over="ignore"):
        half = table.vectors[rows].astype(np.float16)
    bad = ~np.isfinite(half).all(axis=1)
    if bad.any():
        token = table.tokens[int(rows[int(bad.argmax())])]
        raise DataError(
            f"features {table.name}: item {token!r} has a value beyond 65504, the largest of float16: scale the array"
        )
    return half
