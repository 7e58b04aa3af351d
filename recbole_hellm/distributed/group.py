"""The group of processes of a run, and words between them.

Started by ``torchrun`` or :mod:`recbole_hellm.distributed.launch`, which set the same environment. Accelerate
chooses what the processes talk by (NCCL, gloo, ...) and joins them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from recbole_hellm.errors import HellmError

WORDS = timedelta(days=2)
"""How long a process waits for words of another: as long as a stage may take, which one makes for all."""
POLL_SECONDS = 0.02


class PeerLost(HellmError):
    """Another process of the run ended, so that this one cannot go on. What it had to say, it has said itself."""

    exit_code = 69
    """``EX_UNAVAILABLE``: tells the process that began it from the one that followed."""


class _Joined:
    """Of this process: the device gradients are summed on, and the group for words, which is on the processor."""

    device = torch.device("cpu")
    words: Any = None


def launched() -> int:
    """Return how many processes were started for this run, by the environment; 1: it is alone."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "LOCAL_RANK" in os.environ else 1


def local_rank() -> int:
    """Return the place of this process among those on its machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def on_this_machine() -> int:
    """Return how many processes of this run were started on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if launched() > 1 else 1


def world_size() -> int:
    """Return the number of joined processes."""
    return dist.get_world_size() if _Joined.words is not None else 1


def rank() -> int:
    """Return the place of this process among all, from 0."""
    return dist.get_rank() if _Joined.words is not None else 0


def is_main() -> bool:
    """Return whether this process is the one that writes."""
    return rank() == 0


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Join the processes started for this run inside; alone, do nothing.

    Args:
        device: Where this process computes.
    """
    if launched() == 1 or _Joined.words is not None:
        yield
        return
    from accelerate import PartialState

    PartialState(cpu=device.type == "cpu")
    _Joined.device, _Joined.words = device, dist.new_group(backend="gloo", timeout=WORDS)
    try:
        yield
        wait()
    finally:
        # After an error the others may not come: the group ends with its processes.
        _Joined.words = None
    dist.destroy_process_group()
    PartialState._reset_state()


@contextmanager
def peers() -> Iterator[None]:
    """Inside, a broken connection is a :class:`PeerLost`."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, HellmError):
            raise
        said = " ".join(str(error).split())[:160]
        raise PeerLost(f"another process of this run ended, or could not be reached ({said})") from error


def of_main(value: Any) -> Any:
    """Return what the main process gives, on every process; what the others give does not matter."""
    if world_size() == 1:
        return value
    box = [value if is_main() else None]
    with peers():
        dist.broadcast_object_list(box, src=0, group=_Joined.words)
    return box[0]


def gather(value: Any) -> list[Any]:
    """Return what each process gives, by rank, on the main process; the others get an empty list."""
    if world_size() == 1:
        return [value]
    box: list[Any] | None = [None] * world_size() if is_main() else None
    with peers():
        dist.gather_object(value, box, dst=0, group=_Joined.words)
    return box or []


def sums(values: Sequence[float]) -> list[float]:
    """Return the sums of numbers over the processes, in float64."""
    return _reduced(values, dist.ReduceOp.SUM)


def maxima(values: Sequence[float]) -> list[float]:
    """Return the largest of each number over the processes."""
    return _reduced(values, dist.ReduceOp.MAX)


def _reduced(values: Sequence[float], how: Any) -> list[float]:
    if world_size() == 1:
        return list(values)
    numbers = torch.tensor(values, dtype=torch.float64)
    with peers():
        dist.all_reduce(numbers, how, group=_Joined.words)
    return numbers.tolist()


def wait() -> None:
    """Wait until every process is here; a signal is heard meanwhile."""
    if world_size() == 1:
        return
    with peers():
        work = dist.barrier(group=_Joined.words, async_op=True)
        while not work.is_completed():
            time.sleep(POLL_SECONDS)
        work.wait()


@contextmanager
def main_first() -> Iterator[None]:
    """Let the main process go through the inside first, the others together after it: they find what it has made."""
    if not is_main():
        wait()
    yield
    if is_main():
        wait()


def device() -> torch.device:
    """Return where this process computes."""
    return _Joined.device
