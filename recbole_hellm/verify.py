"""Check this package against numbers printed by the authors' own code."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from recbole_hellm.errors import DataError
from recbole_hellm.models.fidelity_stage1 import recompute_stage1
from recbole_hellm.models.fidelity_stage2 import recompute_stage2

GRAPHS = frozenset({"ui_norm", "u2u_norm", "i2i_incidence", "i2i_norm"})
GRAPH_LIMIT, LIMIT = 1e-5, 1e-4
Recompute = Callable[[Mapping[str, np.ndarray], Mapping[str, Any]], dict[str, np.ndarray]]


@dataclass(frozen=True)
class Difference:
    """One recomputed quantity."""

    name: str
    largest: float
    """Largest absolute difference."""
    limit: float

    @property
    def ok(self) -> bool:
        """Whether the difference stays within the limit."""
        return self.largest <= self.limit  # False for NaN

    def __str__(self) -> str:
        """Return the line that is printed."""
        return f"{'ok  ' if self.ok else 'FAIL'} {self.name:<24} {self.largest:.2e}  (limit {self.limit:.0e})"


def verify(golden: Path) -> list[Difference]:
    """Recompute every output of a golden folder through this package's modules.

    Args:
        golden: Folder with ``config.json``, ``stage1.npz`` and ``stage2.npz``.

    Returns:
        A difference per output.

    Raises:
        DataError: If a file is missing or broken, or lacks an array.
    """
    config = _read_config(golden / "config.json")
    differences: list[Difference] = []
    stages: tuple[tuple[str, Recompute], ...] = (("stage1", recompute_stage1), ("stage2", recompute_stage2))
    for name, recompute in stages:
        path = golden / f"{name}.npz"
        arrays = _read_arrays(path)
        try:
            found = recompute(arrays, config)
        except KeyError as error:
            raise DataError(f"{path} or config.json lacks {error}: inputs, weights and sizes must be there") from error
        except DataError:
            raise
        except (RuntimeError, ValueError, IndexError) as error:  # shapes or ids that contradict each other
            reason = " ".join(str(error).split())
            raise DataError(f"{path} or config.json holds arrays that do not fit together: {reason}") from error
        for key, value in found.items():
            if key not in arrays:
                raise DataError(f"{path} lacks the output {key!r}")
            differences.append(_compare(f"{name} {key}", arrays[key], value, GRAPH_LIMIT if key in GRAPHS else LIMIT))
    return differences


def _compare(name: str, want: np.ndarray, got: np.ndarray, limit: float) -> Difference:
    if want.shape != got.shape:
        raise DataError(f"{name}: expected shape {want.shape}, recomputed {got.shape}")
    largest = float(np.abs(want.astype(np.float64) - got.astype(np.float64)).max()) if want.size else 0.0
    return Difference(name, largest, limit)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; give a folder with config.json, stage1.npz, stage2.npz") from error
    except ValueError as error:
        raise DataError(f"{path} is no valid JSON: {error}") from error


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; give a folder with config.json, stage1.npz, stage2.npz") from error
    except (ValueError, OSError, EOFError, BadZipFile, zlib.error) as error:
        raise DataError(f"{path} cannot be read as a numpy archive: {error}") from error
