"""Functions run in several joined processes, forked from the tests', which have everything imported."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.distributed as dist

SECONDS = 240.0
_STORES: dict[int, dist.TCPStore] = {}
"""By the first process of a group: where the group meets, open until it has ended."""


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


def environment(rank: int, count: int, port: int) -> dict[str, str]:
    """What torchrun sets, whose agent holds the store the processes meet at."""
    where = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_PORT": port,
             "MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_USE_AGENT_STORE": True}  # fmt: skip
    return {name: str(value) for name, value in where.items()}


def start(count: int, folder: Path, function: Callable[..., Any], *args: Any) -> list[int]:
    """Fork ``count`` processes that run a function; returns their ids."""
    folder.mkdir(parents=True, exist_ok=True)
    # Open from here on: nobody can take its port between now and the first process that needs it.
    store, children = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False), []
    for rank in range(count):
        child = os.fork()
        if child == 0:
            _work(folder, environment(rank, count, store.port), function, args)
        children.append(child)
    _STORES[children[0]] = store
    return children


def _work(folder: Path, where: dict[str, str], function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    code, rank = 0, where["RANK"]
    try:
        os.environ.update(where)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        (folder / f"{rank}.pickle").write_bytes(pickle.dumps(function(*args)))
    except BaseException as error:
        (folder / f"{rank}.error").write_text(f"{type(error).__name__}: {error}")
        (folder / f"{rank}.trace").write_text(traceback.format_exc())
        code = getattr(error, "exit_code", 1)
    finally:
        sys.stdout.flush()
        os._exit(code)


def finish(children: list[int], follow: float = SECONDS) -> list[int]:
    """Return the exit codes by rank; negative: the signal that ended it.

    All are killed if none has ended after ``SECONDS``, or one still runs ``follow`` seconds after the first has ended.
    """
    codes: dict[int, int] = {}
    deadline = time.monotonic() + SECONDS
    while len(codes) < len(children):
        for child in children:
            if child in codes:
                continue
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                deadline = deadline if codes else time.monotonic() + follow
                codes[child] = os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
        if time.monotonic() > deadline:
            for child in children:
                if child not in codes:
                    os.kill(child, signal.SIGKILL)
            raise AssertionError(f"processes did not end in time; ended: {codes}")
    del _STORES[children[0]]
    return [codes[child] for child in children]


def together(count: int, folder: Path, function: Callable[..., Any], *args: Any) -> list[Any]:
    """Run a function in ``count`` processes; what each returned, by rank."""
    codes = finish(start(count, folder, function, *args))
    said = "\n".join(path.read_text() for path in sorted(folder.glob("*.trace")))
    assert codes == [0] * count, said
    return [pickle.loads((folder / f"{rank}.pickle").read_bytes()) for rank in range(count)]
