"""Tensors out of a pickle that nobody vouches for: RecBole's checkpoints, read without running what is in them."""

from __future__ import annotations

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from recbole_hellm.errors import ArtifactError

_REBUILD = {"_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter", "_rebuild_device_tensor_from_numpy"}
_KINDS = ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")


class Inert:
    """Stands for every object of a pickle that is no tensor or plain container; keeps its state, does nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        """Take an entry of a mapping and drop it."""

    def append(self, value: Any) -> None:
        """Take an entry of a list and drop it."""

    def extend(self, values: Any) -> None:
        """Take entries of a list and drop them."""

    def __call__(self, *args: Any, **kwargs: Any) -> Inert:
        return Inert()

    def __hash__(self) -> int:
        return id(self)


class _Unpickler(pickle.Unpickler):
    """Knows how tensors and ordered dictionaries are rebuilt; everything else of a pickle becomes ``Inert``."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what a pickle may build."""
        if module == "torch._utils" and name in _REBUILD:
            return super().find_class(module, name)
        if module == "torch" and name in {f"{kind}Storage" for kind in _KINDS}:
            return getattr(torch, name)
        if module == "torch.storage" and name in ("TypedStorage", "UntypedStorage", "_load_from_bytes"):
            if name == "_load_from_bytes":  # loads a pickle inside the pickle
                return Inert
            return super().find_class(module, name)
        if (module, name) == ("collections", "OrderedDict"):
            return super().find_class(module, name)
        return type(name, (Inert,), {"__module__": module})


def _load(file: Any, **kwargs: Any) -> Any:
    return _Unpickler(file, **kwargs).load()


_SAFE = SimpleNamespace(Unpickler=_Unpickler, load=_load, __name__="recbole_hellm.checkpoints.pickles")
"""What torch asks of a pickle module; its older formats call ``load``."""


def read_pickle(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Return the tensors and plain values of a torch checkpoint; objects in it come out inert.

    Args:
        path: A file of ``torch.save``.
        map_location: As for ``torch.load``.

    Raises:
        ArtifactError: If it is no such file, or holds no mapping.
    """
    try:
        loaded = torch.load(path, map_location=map_location, weights_only=False, pickle_module=_SAFE)
    except FileNotFoundError as error:
        raise ArtifactError(f"model file {path} does not exist") from error
    except Exception as error:  # a broken or hostile pickle may raise anything
        raise ArtifactError(f"model file {path} cannot be read ({' '.join(str(error).split())[:200]})") from error
    if not isinstance(loaded, dict):
        raise ArtifactError(f"model file {path} holds no model: it is a {type(loaded).__name__}")
    return loaded
