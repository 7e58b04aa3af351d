"""Rows worked on at a time, halved when memory does not suffice."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from logging import getLogger

import torch

from recbole_hellm.errors import HellmError
from recbole_hellm.out_of_memory import is_memory_error
from recbole_hellm.results import give_back_memory

logger = getLogger(__name__)


class Halving:
    """Rows worked on at a time: all, until memory does not suffice; then half of them, and so on.

    Args:
        what: The work, for the log.
        setting: The setting that decides the rows, for log and error.
        most: Rows at a time from the start; 0: all.
    """

    def __init__(self, what: str, setting: str, most: int = 0) -> None:
        self.what, self.setting, self.most, self.fixed = what, setting, most, False

    def parts(self, n_rows: int) -> Iterator[slice]:
        """Yield slices of ``n_rows`` rows; a limit that falls meanwhile holds from the next slice on."""
        start = 0
        while start < n_rows:
            stop = min(n_rows, start + (self.most or n_rows))
            yield slice(start, stop)
            start = stop

    def halve(self, n_rows: int, error: BaseException) -> None:
        """Take half as many rows from now on, and say so in the log.

        Args:
            n_rows: Rows that did not fit.
            error: What was raised.

        Raises:
            HellmError: If it was a single row.
        """
        if self.fixed:
            raise HellmError(
                f"{self.what}: memory does not suffice for {n_rows} rows ({said(error)}), and with llm_sharded=True "
                "all processes must take as many: lower train_batch_size or eval_batch_size"
            ) from error
        if n_rows <= 1:
            raise HellmError(
                f"{self.what}: memory does not suffice for a single row ({said(error)}); take a smaller "
                "model (llm_layers), a shorter MAX_ITEM_LIST_LENGTH, or more memory"
            ) from error
        self.most = n_rows // 2
        logger.warning(
            "%s: %d rows do not fit into memory, going on with %d at a time (same result); %s=%d avoids the attempt",
            self.what, n_rows, self.most, self.setting, self.most,
        )  # fmt: skip

    def over(self, n_rows: int, work: Callable[[slice], None]) -> None:
        """Do ``work`` on all rows, part by part; a part that does not fit is begun again with half as many rows.

        Args:
            n_rows: Number of rows.
            work: Takes a slice of the rows; leaves nothing behind when it fails.

        Raises:
            HellmError: If a single row does not fit.
        """
        start = 0
        while start < n_rows:
            part = slice(start, min(n_rows, start + (self.most or n_rows)))
            failed = None
            try:
                work(part)
            except (MemoryError, RuntimeError) as error:
                if not is_memory_error(error):
                    raise
                failed = error.with_traceback(None)  # it holds the tensors of the attempt, which must go first
            if failed is None:
                start = part.stop
            else:
                free_memory()
                self.halve(part.stop - part.start, failed)


def free_memory() -> None:
    """Give back what is no longer referred to."""
    gc.collect()
    give_back_memory()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def said(error: BaseException) -> str:
    """Return the first line of what an error says."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
