"""Python values as JSON and named tensors, and back: what a checkpoint holds instead of a pickle."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recbole_hellm.errors import ArtifactError

SPARSE = ("csr", "csc", "coo")
"""Formats of scipy's sparse matrices that can be packed."""


class Packer:
    """Turns values into JSON; tensors and arrays go to :attr:`tensors` and are named in the JSON.

    None, booleans, numbers, strings, lists, tuples, mappings with plain keys, tensors, numpy arrays and scalars and
    scipy's sparse matrices can be packed. Nothing else can: reading a packed value never runs code of its own.

    Args:
        prefix: Put before the names of the tensors.
    """

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self.tensors: dict[str, Tensor] = {}

    def pack(self, value: Any, name: str) -> Any:
        """Return ``value`` as JSON.

        Args:
            value: What to pack.
            name: Of the value; names its tensors.

        Raises:
            ArtifactError: If it holds something of another kind; the message has its place and type.
        """
        if isinstance(value, np.generic):  # before float: numpy's own is one
            return {"scalar": [value.dtype.str, self._keep(_as_tensor(np.asarray(value), name), name)]}
        if value is None or isinstance(value, bool | int | str):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else {"float": repr(value)}
        if isinstance(value, list):
            return [self.pack(entry, f"{name}.{index}") for index, entry in enumerate(value)]
        if isinstance(value, tuple):
            return {"tuple": [self.pack(entry, f"{name}.{index}") for index, entry in enumerate(value)]}
        if isinstance(value, Mapping):
            return {"map": [[_key(key, name), self.pack(entry, f"{name}.{key}")] for key, entry in value.items()]}
        return self._pack_array(value, name)

    def _pack_array(self, value: Any, name: str) -> Any:
        if isinstance(value, Tensor) and value.layout == torch.strided:
            return {"tensor": self._keep(value, name)}
        if isinstance(value, np.ndarray) and type(value) is np.ndarray:
            return {"array": [value.dtype.str, self._keep(_as_tensor(value, name), name)]}
        if isinstance(value, np.matrix):
            return {"matrix": [value.dtype.str, self._keep(_as_tensor(np.asarray(value), name), name)]}
        kind = getattr(value, "format", None)
        if kind in SPARSE and type(value).__module__.startswith("scipy.sparse"):
            flat = value.tocoo()
            parts = [self.pack(np.asarray(part), f"{name}.{at}") for at, part in
                     (("row", flat.row), ("column", flat.col), ("data", flat.data))]  # fmt: skip
            return {"sparse": [type(value).__name__, [int(size) for size in value.shape], *parts]}
        raise ArtifactError(
            f"{name} is of type {type(value).__module__}.{type(value).__qualname__}, which cannot be saved safely; "
            "a checkpoint holds numbers, strings, lists, mappings, tensors, arrays and sparse matrices"
        )

    def _keep(self, tensor: Tensor, name: str) -> str:
        key = self.prefix + name
        self.tensors[key] = tensor.detach().to("cpu", copy=True).contiguous()
        return key


def _key(key: Any, name: str) -> Any:
    if isinstance(key, bool | int | str):
        return key
    raise ArtifactError(f"{name} has a key of type {type(key).__qualname__}, which cannot be saved safely")


def _as_tensor(array: np.ndarray, name: str) -> Tensor:
    if array.dtype.kind not in "biuf":
        raise ArtifactError(f"{name} is an array of {array.dtype}, which cannot be saved safely")
    # torch knows few operations on unsigned numbers: they travel as signed ones of the same bits.
    signed = array.view(array.dtype.str.replace("u", "i")) if array.dtype.kind == "u" else array
    return torch.from_numpy(np.array(signed, order="C", copy=True))


class Unpacker:
    """Turns what :class:`Packer` gave back into values.

    Args:
        tensors: By name.
        where: File of the JSON, for messages.
    """

    def __init__(self, tensors: Mapping[str, Tensor], where: str) -> None:
        self.tensors, self.where = tensors, where
        self._readers: dict[str, Callable[[Any], Any]] = {
            "float": float,
            "tuple": lambda body: tuple(self.unpack(entry) for entry in body),
            "map": lambda body: {key: self.unpack(entry) for key, entry in body},
            "tensor": self._tensor,
            "array": self._array,
            "scalar": lambda body: self._array(body)[()],
            "matrix": lambda body: np.asmatrix(self._array(body)),
            "sparse": self._sparse,
        }

    def unpack(self, document: Any) -> Any:
        """Return the value.

        Raises:
            ArtifactError: If the JSON was not made by :class:`Packer`, or names a tensor that is not there.
        """
        if isinstance(document, list):
            return [self.unpack(entry) for entry in document]
        if not isinstance(document, dict):
            return document
        if len(document) != 1 or next(iter(document)) not in self._readers:
            raise ArtifactError(f"{self.where} holds a value of an unknown kind: {sorted(document)[:3]}")
        kind, body = next(iter(document.items()))
        try:
            return self._readers[kind](body)
        except (TypeError, ValueError, AttributeError, RuntimeError, OverflowError) as error:
            if isinstance(error, ArtifactError):
                raise
            raise ArtifactError(f"{self.where} holds a {kind} that cannot be read: {error}") from error

    def _tensor(self, key: str) -> Tensor:
        if key not in self.tensors:
            raise ArtifactError(f"{self.where} names the tensor {key!r}, which is missing beside it")
        return self.tensors[key].clone()

    def _array(self, body: Any) -> np.ndarray:
        kind, key = body
        return self._tensor(key).numpy().view(np.dtype(kind))

    def _sparse(self, body: Any) -> Any:
        from scipy import sparse

        name, shape, *parts = body
        if name not in {f"{kind}_{form}" for kind in SPARSE for form in ("matrix", "array")}:
            raise ArtifactError(f"{self.where} holds a sparse matrix of the unknown class {name!r}")
        row, column, data = (self.unpack(part) for part in parts)
        return getattr(sparse, name)((data, (row, column)), shape=tuple(shape))
