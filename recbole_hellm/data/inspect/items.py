"""What can be said of the items of a data set: texts, feature matrices, examples."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from recbole_hellm.data.features import load_array, load_features
from recbole_hellm.data.fingerprint import feature_files
from recbole_hellm.data.inspect.events import Spread, spread
from recbole_hellm.data.interactions import ITEM, Events
from recbole_hellm.data.reading import read_lines
from recbole_hellm.data.text import category_text
from recbole_hellm.errors import DataError

_DISTINCT_AT_MOST = 100_000
_CHUNK = 65_536


@dataclass(frozen=True)
class ColumnFacts:
    """One column of the ``.item`` file, over the items that have interactions."""

    name: str
    kind: str
    """RecBole's type: token, token_seq, float or float_seq."""
    n_filled: int
    """Items whose cell is not empty."""
    words: Spread | None
    """Words a filled cell; ``None`` if none is filled."""
    longest: int
    """Characters of the longest cell."""
    n_distinct: int | None
    """Distinct cells, of a column of type token; ``None`` for other types or above 100,000."""


@dataclass(frozen=True)
class CatalogueFacts:
    """The ``.item`` file."""

    n_rows: int
    n_without_events: int
    """Rows of items that no user took."""
    n_without_row: int
    """Items of the interactions that have no row."""
    n_twice: int
    """Rows of an item that had one before."""
    columns: tuple[ColumnFacts, ...]


@dataclass(frozen=True)
class FeatureFacts:
    """One feature matrix."""

    name: str
    n_rows: int = 0
    width: int = 0
    dtype: str = ""
    n_zero: int = 0
    """Rows that are all zero, which marks an item without a vector."""
    n_covered: int = 0
    """Items of the interactions that have a vector."""
    n_unused: int = 0
    """Rows of items that no user took."""
    norm: tuple[float, float] = (0.0, 0.0)
    """Smallest and largest length of a vector."""
    problem: str = ""
    """Why the matrix cannot be used; the numbers are 0 then."""


@dataclass(frozen=True)
class Example:
    """One item as a reader sees it."""

    token: str
    n_events: int
    texts: dict[str, str]
    """Column to text, empty ones left out."""
    image: str = ""
    """``data:`` address of a thumbnail."""


@dataclass
class _Column:
    """What is counted while the rows go by."""

    name: str
    kind: str
    words: array = field(default_factory=lambda: array("l"))
    longest: int = 0
    distinct: set[str] | None = field(default_factory=set)

    def add(self, cell: str) -> None:
        self.words.append(cell.count(" ") + 1)
        self.longest = max(self.longest, len(cell))
        if self.distinct is not None:
            self.distinct.add(cell)
            if self.kind != "token" or len(self.distinct) > _DISTINCT_AT_MOST:
                self.distinct = None

    def facts(self) -> ColumnFacts:
        words = np.frombuffer(self.words, dtype=np.dtype("l"))
        kept = None if self.distinct is None or self.kind != "token" else len(self.distinct)
        spread_of = spread(words.astype(np.int64)) if len(words) else None
        return ColumnFacts(self.name, self.kind, len(words), spread_of, self.longest, kept)


def catalogue_facts(
    path: Path, events: Events, wanted: Sequence[str]
) -> tuple[CatalogueFacts, dict[str, dict[str, str]]]:
    """Read an ``.item`` file once, row by row.

    Args:
        path: The file.
        events: Interactions of the data set.
        wanted: Item tokens whose texts are returned.

    Returns:
        The facts, and column to text for each of ``wanted`` that has a row.

    Raises:
        DataError: If the file is broken, naming the row.
    """
    used, texts, seen = set(events.item_tokens.tolist()), dict.fromkeys(wanted), set[str]()
    columns: list[_Column] = []
    place = n_rows = n_twice = 0
    for number, line in read_lines(path):
        cells = line.split("\t")
        if number == 1:
            columns = [_Column(*cell.partition(":")[::2]) for cell in cells]
            place = _item_place(path, columns)
            continue
        if not line:
            continue
        if len(cells) != len(columns):
            raise DataError(f"{path}:{number}: expected {len(columns)} tab-separated cells, got {len(cells)}")
        token, n_rows = cells[place], n_rows + 1
        if token in seen:
            n_twice += 1
            continue
        seen.add(token)
        if token not in used:
            continue
        filled = [(column, cell) for column, cell in zip(columns, cells, strict=True) if cell]
        for column, cell in filled:
            column.add(cell)
        if token in texts:
            texts[token] = {column.name: _readable(column, cell) for column, cell in filled}
    n_with_row = len(used & seen)
    facts = CatalogueFacts(
        n_rows=n_rows,
        n_without_events=len(seen) - n_with_row,
        n_without_row=len(used) - n_with_row,
        n_twice=n_twice,
        columns=tuple(column.facts() for column in columns if column.name != ITEM),
    )
    return facts, {token: found for token, found in texts.items() if found is not None}


def _readable(column: _Column, cell: str) -> str:
    return category_text(cell) if column.name == "categories" else cell


def _item_place(path: Path, columns: Sequence[_Column]) -> int:
    names = [column.name for column in columns]
    if ITEM not in names:
        raise DataError(f"{path}:1: the header must have '{ITEM}:token', got {', '.join(names)}"[:400])
    return names.index(ITEM)


def feature_facts(folder: Path, events: Events) -> list[FeatureFacts]:
    """Describe the matrices in ``features/`` of a data set folder; a broken one says so."""
    used = set(events.item_tokens.tolist())
    return [_feature_facts(path, used) for path in feature_files(folder)]


def _feature_facts(path: Path, used: set[str]) -> FeatureFacts:
    try:
        table = load_features(path)
    except DataError as error:
        return FeatureFacts(path.stem, problem=str(error))
    norms = np.concatenate(
        [
            np.linalg.norm(table.vectors[start : start + _CHUNK].astype(np.float64), axis=1)
            for start in range(0, len(table.vectors), _CHUNK)
        ]
    )
    present = norms > 0
    known = np.array([token in used for token in table.tokens])
    return FeatureFacts(
        name=path.stem,
        n_rows=len(norms),
        width=table.vectors.shape[1],
        dtype=str(load_array(path).dtype),
        n_zero=int((~present).sum()),
        n_covered=int((present & known).sum()),
        n_unused=int((~known).sum()),
        norm=(float(norms[present].min()), float(norms.max())) if present.any() else (0.0, 0.0),
    )
