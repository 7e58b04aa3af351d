"""Item vectors in ``.npy`` and ``.pt`` files, never without knowing whose they are."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_hellm.data.features import FeatureTable
from recbole_hellm.data.reading import read_lines
from recbole_hellm.data.sources.base import OpenSource
from recbole_hellm.data.tokens import escaped
from recbole_hellm.errors import ConfigError, DataError

SUFFIXES = (".npy", ".pt", ".pth")


def parse_entry(entry: str) -> tuple[str, Path, Path | None]:
    """Split ``name=array.npy`` or ``name=array.npy,ids.txt``.

    Raises:
        ConfigError: If the entry has another form.
    """
    name, _, rest = entry.partition("=")
    path, _, ids = rest.partition(",")
    if not name.isidentifier() or not path:
        raise ConfigError(
            f"option 'features': {entry!r} must be NAME=ARRAY.npy or NAME=ARRAY.npy,IDS.txt, NAME letters, digits and _"
        )
    if Path(path).suffix.lower() not in SUFFIXES:
        raise ConfigError(f"option 'features': {path} must end in {', '.join(SUFFIXES)}")
    return name, Path(path), Path(ids) if ids else None


def entry_files(entry: str) -> list[Path]:
    """Return the files of an entry.

    Raises:
        DataError: If one is missing.
    """
    _, path, ids = parse_entry(entry)
    ids = ids or _beside(path)
    files = [path, *([ids] if ids else [])]
    for file in files:
        if not file.is_file():
            raise DataError(f"file {file} is missing: correct --features")
    return files


def read_entry(entry: str, source: OpenSource) -> FeatureTable:
    """Read the vectors of an entry with the ids of their rows.

    Raises:
        DataError: If the file is broken, or nothing says which item a row belongs to.
    """
    name, path, ids_path = parse_entry(entry)
    ids_path = ids_path or _beside(path)
    matrix, own_ids = _read_array(path)
    if ids_path is not None:
        ids = _read_ids(ids_path)
    elif own_ids is not None:
        ids = own_ids
    elif source.feature_ids is not None:
        ids = source.feature_ids(len(matrix))
    else:
        raise DataError(
            f"{path}: nothing says which item each of its {len(matrix)} rows belongs to, and a guess would mix them "
            f"up: put {path.stem}.ids.txt beside it, one item id a line, or give --features {name}={path.name},IDS.txt"
        )
    if len(ids) != len(matrix):
        raise DataError(
            f"{path}: {len(matrix)} rows, but {len(ids)} ids{f' in {ids_path.name}' if ids_path else ''}: one id a row "
            "is needed, in the order of the rows"
        )
    return named_table(name, path, matrix, ids)


def named_table(name: str, path: Path, matrix: NDArray[Any], ids: tuple[str, ...]) -> FeatureTable:
    """Return a table with escaped ids.

    Raises:
        DataError: If the array is no matrix of numbers, or breaks a rule of ``FeatureTable``; the file is named.
    """
    if matrix.ndim != 2 or matrix.dtype.kind not in "fiu":
        raise DataError(f"{path}: must be a matrix of numbers [items, width], got {matrix.dtype} {list(matrix.shape)}")
    try:
        with np.errstate(over="ignore"):
            vectors = matrix.astype(np.float32, copy=False)
        return FeatureTable(name, vectors, tuple(map(escaped, ids)))
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _beside(path: Path) -> Path | None:
    ids = path.with_suffix(".ids.txt")
    return ids if ids.is_file() else None


def _read_ids(path: Path) -> tuple[str, ...]:
    """Read one id a line, the first cell; or a .npy array."""
    if path.suffix == ".npy":
        ids = load_array(path)
        if ids.ndim != 1 or ids.dtype.kind not in "iuU":
            raise DataError(
                f"{path}: ids must be a 1-d array of integers or strings, got {ids.dtype} {list(ids.shape)}"
            )
        return tuple(map(str, ids.tolist()))
    lines = [line.split("\t")[0] for _, line in read_lines(path)]
    if "" in lines:
        raise DataError(f"{path}:{lines.index('') + 1}: the line has no item id")
    return tuple(lines[1:] if lines[0] in ("item_id", "item_id:token") else lines)


def _read_array(path: Path) -> tuple[NDArray[Any], tuple[str, ...] | None]:
    """Return a matrix, and ids where the file has them."""
    return (load_array(path), None) if path.suffix.lower() == ".npy" else _load_tensor(path)


def load_array(path: Path) -> NDArray[Any]:
    """Memory-map a ``.npy`` file that needs no pickle.

    Raises:
        DataError: If the file is missing or broken.
    """
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise DataError(f"file {path} is missing") from error
    except Exception as error:  # numpy parses the header as Python: whatever is in there may go wrong
        reason = " ".join(str(error).split())[:80]
        raise DataError(
            f"{path}: no readable .npy file ({reason}): save it with numpy.save, without objects"
        ) from error
    if not isinstance(array, np.ndarray):
        raise DataError(f"{path}: holds several arrays: save the matrix alone with numpy.save")
    return array


def _load_tensor(path: Path) -> tuple[NDArray[Any], tuple[str, ...] | None]:
    """Read a tensor, a mapping of ids to vectors, or the only matrix of a state; nothing in the file is run."""
    import torch

    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's readers raise whatever a broken archive makes them stumble over
        reason = " ".join(str(error).split())[:80]
        raise DataError(f"{path}: no readable .pt file of plain tensors ({reason}): save it with torch.save") from error
    if isinstance(loaded, torch.Tensor):
        return _as_array(path, loaded), None
    tensors = {k: v for k, v in loaded.items() if isinstance(v, torch.Tensor)} if isinstance(loaded, Mapping) else {}
    matrices = [value for value in tensors.values() if value.ndim == 2]
    if len(matrices) == 1:
        return _as_array(path, matrices[0]), None
    if tensors and not matrices and len({(v.ndim, v.numel()) for v in tensors.values()}) == 1:
        rows = [value.reshape(-1) for value in tensors.values()]
        return _as_array(path, torch.stack(rows)), tuple(map(str, tensors))
    raise DataError(
        f"{path}: must hold one matrix [items, width] or a mapping of item id to vector, got "
        f"{type(loaded).__name__} with {len(matrices)} matrices"
    )


def _as_array(path: Path, tensor: Any) -> NDArray[Any]:
    try:
        array: NDArray[Any] = tensor.detach().float().numpy()
    except (RuntimeError, TypeError, NotImplementedError) as error:
        raise DataError(f"{path}: must hold a dense tensor of numbers, got {tensor.dtype}") from error
    return array
