"""Digests that tell whether two data sets are the same: events, item texts, item features."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_hellm.artifacts import fingerprint
from recbole_hellm.data.features import ARRAYS, load_features
from recbole_hellm.data.interactions import Events, read_events
from recbole_hellm.data.reading import read_lines

_CHUNK = 100_000


def events_digest(
    user: NDArray[np.integer[Any]],
    item: NDArray[np.integer[Any]],
    user_tokens: Sequence[str] | NDArray[Any],
    item_tokens: Sequence[str] | NDArray[Any],
) -> str:
    """Digest (user, item) events by token: the same for every numbering, and for every model's reader.

    Equal to ``fingerprint(users=[...], items=[...])`` over the tokens of the events, sorted by user token, without
    ever holding 10 million tokens.

    Args:
        user: Index into ``user_tokens`` of each event, shape ``[N]``; each user's events in time order.
        item: Index into ``item_tokens`` of each event, shape ``[N]``.
        user_tokens: Raw user tokens.
        item_tokens: Raw item tokens.
    """
    rank = np.empty(len(user_tokens), dtype=np.int64)
    rank[np.argsort(np.asarray(user_tokens, dtype=str), kind="stable")] = np.arange(len(user_tokens))
    order = np.argsort(rank[user], kind="stable")
    digest = hashlib.sha256()
    for name, codes, tokens in (("items", item, item_tokens), ("users", user, user_tokens)):
        table = np.asarray(tokens, dtype=object)
        digest.update(f"\n{name}=[".encode())
        for start in range(0, len(order), _CHUNK):
            text = json.dumps([str(token) for token in table[codes[order[start : start + _CHUNK]]]])
            digest.update(((", " if start else "") + text[1:-1]).encode())
        digest.update(b"]")
    return digest.hexdigest()


def catalogue_digest(item_file: Path) -> str:
    """Digest the rows of an ``.item`` file, in whatever order they stand.

    Raises:
        DataError: If the file cannot be read.
    """
    header, rows = "", []
    for number, line in read_lines(item_file):
        if number == 1:
            header = line
        elif line:
            rows.append(hashlib.sha256(line.encode()).digest())
    return hashlib.sha256(header.encode() + b"".join(sorted(rows))).hexdigest()


def vectors_digest(vectors: NDArray[Any], tokens: Sequence[str]) -> str:
    """Digest the rows of a feature matrix with their item tokens, in whatever order they stand.

    Args:
        vectors: Shape ``[n, d]``.
        tokens: Item token of each row.
    """
    rows = [
        hashlib.sha256(token.encode() + b"\t" + np.ascontiguousarray(row).tobytes()).digest()
        for token, row in zip(tokens, vectors, strict=True)
    ]
    head = f"{vectors.dtype.str}{vectors.shape[1:]}".encode()
    return hashlib.sha256(head + b"".join(sorted(rows))).hexdigest()


def folder_digests(folder: Path, name: str, events: str = "") -> dict[str, Any]:
    """Digest a data set folder: ``events``, ``catalogue`` (``""`` without one), ``features``, and all as ``dataset``.

    Args:
        folder: Holds ``<name>.inter`` and maybe ``<name>.item`` and ``features/``.
        name: Of the data set.
        events: From ``events_digest``, if the interactions are at hand; else the file is read.

    Raises:
        DataError: If a file is missing or broken.
    """
    item_file = folder / f"{name}.item"
    parts: dict[str, Any] = {
        "events": events or digest_of(read_events(folder / f"{name}.inter")),
        "catalogue": catalogue_digest(item_file) if item_file.is_file() else "",
        "features": {},
    }
    for path in feature_files(folder):
        table = load_features(path)
        parts["features"][path.stem] = vectors_digest(table.vectors, table.tokens)
    return {"dataset": fingerprint(**parts), **parts}


def digest_of(events: Events) -> str:
    """Return ``events_digest`` of interactions that were read."""
    return events_digest(events.user, events.item, events.user_tokens, events.item_tokens)


def feature_files(folder: Path) -> list[Path]:
    """Return the feature matrices of a data set folder that runs read: of one name, the ending that comes first."""
    found = {path.stem: path for ending in reversed(ARRAYS) for path in (folder / "features").glob(f"*{ending}")}
    return [found[name] for name in sorted(found) if not name.endswith(".ids")]
