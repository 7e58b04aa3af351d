"""What RecBole leaves in a process after a run, cleared away when the run ends, in whichever way it ends."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_writers: ContextVar[list[Any] | None] = ContextVar("_writers", default=None)
"""TensorBoard writers that the run of this thread has opened; ``None`` outside of a run."""


@contextmanager
def cleared() -> Iterator[None]:
    """Inside, a run of RecBole; what it leaves in the process is cleared away at the end.

    * Each of RecBole's trainers opens a TensorBoard writer, whose thread lives until the writer is closed, and nobody
      closes it. A closed writer opens a new file if its trainer is trained again.
    * Each ``init_logger`` puts another wrapper of colorama around ``sys.stdout`` and ``sys.stderr``: after some
      990 runs in one process, ``print`` would end in ``RecursionError``.
    """
    _note_writers()
    streams = {name: getattr(sys, name) for name in ("stdout", "stderr")}
    opened: list[Any] = []
    token = _writers.set(opened)
    try:
        yield
    finally:
        _writers.reset(token)
        for name, stream in streams.items():
            if _is_around(getattr(sys, name), stream):
                setattr(sys, name, stream)
        for writer in opened:
            writer.close()


def _is_around(outer: Any, inner: Any) -> bool:
    """Return whether ``outer`` is ``inner`` in wrappers of colorama; a stream that the user has set since is not."""
    from colorama.ansitowin32 import StreamWrapper

    while isinstance(outer, StreamWrapper) and outer is not inner:
        outer = outer._StreamWrapper__wrapped
    return outer is inner


def _note_writers() -> None:
    """Let RecBole's trainers, also one whose construction fails later on, tell which writer they have opened."""
    from recbole.trainer import trainer

    original = trainer.get_tensorboard
    if getattr(original, "_noted", False):
        return

    @functools.wraps(original)
    def get_tensorboard(logger: Any) -> Any:
        writer = original(logger)
        opened = _writers.get()
        if opened is not None:
            opened.append(writer)
        return writer

    get_tensorboard._noted = True  # type: ignore[attr-defined]
    trainer.get_tensorboard = get_tensorboard
