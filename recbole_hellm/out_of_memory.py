"""How an error says that memory did not suffice."""

from __future__ import annotations

import torch

from recbole_hellm.errors import HellmError

_WORDS = ("not enough memory", "can't allocate memory", "cannot allocate memory", "out of memory", "alloc_failed")
"""What torch says: of the processor's memory, and of a GPU's in some versions and libraries."""


def is_memory_error(error: BaseException) -> bool:
    """Return whether an error means that memory did not suffice, be it Python's, torch's or CUDA's."""
    if isinstance(error, HellmError):
        return False
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _WORDS)
