"""Where the vectors of each modality come from: a ready array, item texts, pictures, or a column of numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from recbole_hellm.config.specs import FeatureSpec
from recbole_hellm.data.catalogue import number_columns
from recbole_hellm.data.features import ARRAYS
from recbole_hellm.errors import ConfigError, DataError

Origin = Literal["array", "text", "image", "numbers"]


@dataclass(frozen=True)
class Modality:
    """One modality and where its vectors come from.

    Attributes:
        name: As in ``item_features``.
        origin: What they are made of.
        path: The array, for an array.
    """

    name: str
    origin: Origin
    path: Path | None = None


def find_modalities(spec: FeatureSpec, item_file: Path, features_dir: Path) -> list[Modality]:
    """Return the modalities of ``item_features`` in their order.

    Args:
        spec: Settings.
        item_file: RecBole's ``.item`` file, which may be missing.
        features_dir: Folder of ready arrays, which may be missing.

    Raises:
        ConfigError: If a modality stands twice.
        DataError: If there is nothing a modality could be made of.
    """
    found: dict[str, Modality] = {}
    for entry in spec.item_features:
        name, given, path = entry.partition("=")
        if name in found:
            raise ConfigError(f"setting 'item_features' names {name!r} twice")
        found[name] = _named(name, Path(path)) if given else _found(name, item_file, features_dir)
    return list(found.values())


def _named(name: str, path: Path) -> Modality:
    """Return a modality whose file is given."""
    if not path.is_file():
        raise DataError(f"item feature {name!r}: {path} does not exist; check setting 'item_features'")
    return Modality(name, "array", path)


def _found(name: str, item_file: Path, features_dir: Path) -> Modality:
    """Return a modality by what there is under its name; a ready array comes first."""
    for ending in ARRAYS:
        if (features_dir / f"{name}{ending}").is_file():
            return Modality(name, "array", features_dir / f"{name}{ending}")
    if name == "text":
        if not item_file.is_file():
            raise DataError(
                f"{item_file} does not exist, so item feature 'text' has no text to encode; add the file, give "
                "--item_features=[text=PATH.npy], or --item_features=[] for none"
            )
        return Modality(name, "text")
    if name == "image":
        return Modality(name, "image")
    numbers = number_columns(item_file)
    if name in numbers:
        return Modality(name, "numbers")
    have = ", ".join(sorted(path.stem for path in features_dir.glob("*") if path.suffix in ARRAYS)) or "none"
    raise DataError(
        f"item feature {name!r}: {features_dir / f'{name}.npy'} does not exist (there: {have}); put the array and "
        f"{name}.ids.txt there, or give --item_features=[{name}=PATH.npy]; columns of numbers in {item_file.name}: "
        f"{', '.join(numbers) or 'none'}"
    )
