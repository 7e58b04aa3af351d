"""Item feature vectors keyed by item token, and their alignment to RecBole's item ids."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from recbole_hellm.data.reading import read_lines
from recbole_hellm.errors import DataError, nearest

logger = getLogger(__name__)

ARRAYS = (".npy", ".safetensors")
"""Endings of feature files, in the order in which they are looked for."""
MissingPolicy = Literal["mean", "zero", "error"]
_CHUNK_ROWS = 65_536
_HEADERS = frozenset({"item_id", "item_id:token"})


@dataclass(frozen=True)
class FeatureTable:
    """Vectors of one modality, one row an item; an all-zero row means the item has none."""

    name: str
    """Modality or file, used in messages."""
    vectors: NDArray[np.float32]
    """Shape ``[n, d]``; may be a read-only memory map."""
    tokens: tuple[str, ...]
    """The item token of each row."""

    def __post_init__(self) -> None:
        """Check shape, tokens and values.

        Raises:
            DataError: If the sizes differ, a token comes twice, or a value is NaN or infinite.
        """
        if self.vectors.ndim != 2 or 0 in self.vectors.shape:
            raise DataError(f"features {self.name}: shape must be [rows, width], got {list(self.vectors.shape)}")
        if len(self.vectors) != len(self.tokens):
            raise DataError(
                f"features {self.name}: {len(self.vectors)} rows but {len(self.tokens)} ids: one id a row is needed"
            )
        if len(set(self.tokens)) != len(self.tokens):
            seen: set[str] = set()
            twice = next(token for token in self.tokens if token in seen or seen.add(token))  # type: ignore[func-returns-value]
            raise DataError(f"features {self.name}: item id {twice!r} comes twice: an item has one row")
        for start, chunk in _chunks(self.vectors):
            bad = ~np.isfinite(chunk).all(axis=1)
            if bad.any():
                row = start + int(bad.argmax())
                raise DataError(
                    f"features {self.name}: row {row} (item {self.tokens[row]!r}) has NaN or infinity: leave the row "
                    "out or set it to zeros to mark it as missing"
                )

    def present(self) -> NDArray[np.bool_]:
        """Tell which rows have a vector, shape ``[n]``: those that are not all zero."""
        return np.concatenate([chunk.any(axis=1) for _, chunk in _chunks(self.vectors)])


@dataclass(frozen=True)
class Coverage:
    """How many items of a data set a feature table serves (padding not counted)."""

    n_items: int
    """Items of the data set."""
    n_present: int
    """Items with a vector."""
    n_absent: int
    """Items without a row in the table."""
    n_zero: int
    """Items whose row is all zero."""
    n_unused: int
    """Rows of items that are not in the data set."""

    @property
    def ratio(self) -> float:
        """Share of the items that have a vector."""
        return self.n_present / self.n_items

    def __str__(self) -> str:
        """Return a one-line report."""
        return (
            f"{self.n_present} of {self.n_items} items ({100 * self.ratio:.2f} %), {self.n_absent} without a row, "
            f"{self.n_zero} with a zero row, {self.n_unused} rows unused"
        )


@dataclass(frozen=True)
class AlignedFeatures:
    """Vectors in the order of RecBole's item ids."""

    vectors: NDArray[np.float32]
    """Shape ``[n_items, d]``; row 0 is the padding item and all zero."""
    present: NDArray[np.bool_]
    """Shape ``[n_items]``; False for padding and for items whose row was filled in."""
    coverage: Coverage
    """Counts behind ``present``."""


def load_features(path: Path, ids_path: Path | None = None) -> FeatureTable:
    """Read a ``.npy`` or ``.safetensors`` matrix and the item tokens of its rows.

    Args:
        path: Floating-point array, shape ``[n, d]``, in safetensors under the name ``vectors``. A ``.npy`` file of
            float32 stays a memory map, other types are converted.
        ids_path: ``.npy`` array of ids, or a text file whose first tab-separated column is the id (a header
            ``item_id`` is skipped). By default ``<stem>.ids.txt`` beside ``path``.

    Raises:
        DataError: If a file is missing or broken, needs pickle, or breaks a rule of ``FeatureTable``.
    """
    ids_path = ids_path or path.with_suffix(".ids.txt")
    matrix = load_array(path)
    if matrix.dtype.kind != "f":
        raise DataError(
            f"{path}: type must be float16, float32 or float64, got {matrix.dtype}: save array.astype('float32')"
        )
    tokens = _load_ids(ids_path)
    with np.errstate(over="ignore"):
        vectors = matrix.astype(np.float32, copy=False)  # a float32 memory map stays one
    return FeatureTable(str(path), vectors, tokens)


def align(table: FeatureTable, item_tokens: Sequence[str], missing: MissingPolicy) -> AlignedFeatures:
    """Put the rows of ``table`` into the order of ``item_tokens``.

    Args:
        table: The vectors, in any order.
        item_tokens: RecBole's ``id -> token`` list; the first one is the padding token.
        missing: What an item without a vector gets: ``mean`` of the present items of the data set, ``zero``, or
            ``error``.

    Raises:
        DataError: If no item has a vector, or ``missing`` is ``error`` and one has none.
        ValueError: If ``missing`` is no such word or ``item_tokens`` holds nothing but padding.
    """
    if missing not in get_args(MissingPolicy):
        known = get_args(MissingPolicy)
        raise ValueError(f"missing must be one of {', '.join(known)}, got {missing!r}{nearest(missing, known)}")
    if len(item_tokens) < 2:
        raise ValueError(f"item_tokens must hold padding and at least one item, got {list(item_tokens)}")
    row_of = {token: row for row, token in enumerate(table.tokens)}
    rows = np.array([-1, *(row_of.get(str(token), -1) for token in item_tokens[1:])])
    found = rows >= 0
    present = found.copy()
    present[found] = table.present()[rows[found]]
    coverage = Coverage(
        n_items=len(rows) - 1,
        n_present=int(present.sum()),
        n_absent=int((~found[1:]).sum()),
        n_zero=int((found & ~present).sum()),
        n_unused=len(table.tokens) - int(found.sum()),
    )
    _check_coverage(table, item_tokens, present, coverage, missing)
    vectors = np.zeros((len(rows), table.vectors.shape[1]), dtype=np.float32)
    vectors[present] = table.vectors[rows[present]]
    if missing == "mean":
        filled = ~present
        filled[0] = False
        vectors[filled] = vectors[present].mean(axis=0, dtype=np.float64)
    logger.info("features %s: %s; missing: %s", table.name, coverage, missing)
    return AlignedFeatures(vectors, present, coverage)


def check_complete(name: str, tokens: Sequence[str], item_tokens: Sequence[str], missing: MissingPolicy) -> None:
    """Refuse, before anything is encoded, what :func:`align` would refuse afterwards under the policy ``error``."""
    if missing == "error" and len(tokens) < len(item_tokens) - 1:
        align(FeatureTable(name, np.ones((len(tokens), 1), dtype=np.float32), tuple(tokens)), item_tokens, missing)


def _check_coverage(
    table: FeatureTable, item_tokens: Sequence[str], present: NDArray[np.bool_], coverage: Coverage, missing: str
) -> None:
    """Refuse a table that serves no item, or not all of them under the policy ``error``."""
    if coverage.n_present == 0:
        reason = "every row is all zero, which marks an item as missing"
        if coverage.n_absent == coverage.n_items:
            reason = (
                f"its ids ({', '.join(table.tokens[:3])}, ...) must be the data set's item tokens "
                f"({', '.join(map(str, item_tokens[1:4]))}, ...)"
            )
        raise DataError(f"features {table.name}: no item of the data set has a vector: {reason}")
    if missing == "error" and coverage.n_present < coverage.n_items:
        first = item_tokens[1 + int((~present[1:]).argmax())]
        raise DataError(
            f"features {table.name}: item {first!r} has no vector ({coverage}): complete the file, or set "
            "feature_missing to 'zero' or 'mean'"
        )


def _chunks(vectors: NDArray[np.float32]) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield ``(first row, rows)`` in pieces that do not pull a whole memory map into memory."""
    for start in range(0, len(vectors), _CHUNK_ROWS):
        yield start, vectors[start : start + _CHUNK_ROWS]


def load_array(path: Path) -> NDArray[np.generic]:
    """Memory-map a ``.npy`` file that needs no pickle, or read the tensor ``vectors`` of a ``.safetensors`` file."""
    if path.suffix == ".safetensors":
        return _load_safetensors(path)
    try:
        array: NDArray[np.generic] = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise DataError(f"file {path} is missing") from error
    except (ValueError, EOFError, OSError) as error:
        raise DataError(f"{path}: no readable .npy file ({error}): save it with numpy.save, without objects") from error
    return array


def _load_safetensors(path: Path) -> NDArray[np.generic]:
    try:
        with safe_open(path, framework="numpy") as file:
            array: NDArray[np.generic] = file.get_tensor("vectors")
    except FileNotFoundError as error:
        raise DataError(f"file {path} is missing") from error
    except (OSError, SafetensorError, TypeError) as error:  # numpy has no bfloat16
        raise DataError(f"{path}: no readable tensor 'vectors' ({error}): save it as float32 or float16") from error
    return array


def _load_ids(path: Path) -> tuple[str, ...]:
    """Read item tokens from a ``.npy`` array or the first column of a text file."""
    if path.suffix == ".npy":
        ids = load_array(path)
        if ids.ndim != 1 or ids.dtype.kind not in "iuU":
            raise DataError(
                f"{path}: ids must be a 1-d array of integers or strings, got {ids.dtype} {list(ids.shape)}"
            )
        return tuple(str(token) for token in ids.tolist())
    tokens = []
    for number, line in read_lines(path):
        token = line.split("\t")[0].strip()
        if number == 1 and token in _HEADERS:
            continue
        if not token:
            raise DataError(f"{path}:{number}: the line has no item id")
        tokens.append(token)
    return tuple(tokens)
