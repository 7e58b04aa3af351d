"""The processes of ``--nproc=N`` on one machine, started and watched by torch's elastic agent, as by ``torchrun``."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from recbole_hellm import signals
from recbole_hellm.distributed.group import PeerLost
from recbole_hellm.errors import ConfigError, HellmError

NPROC = "--nproc="
FOLLOWED = (PeerLost.exit_code, -signal.SIGTERM)
"""Exit codes of processes that ended since another had: the agent sends SIGTERM, and one that hears it while it runs
leaves with a code of its own."""


def take_nproc(argv: Sequence[str]) -> tuple[int, list[str]]:
    """Split ``--nproc=N`` off from arguments.

    Returns:
        N, 1 where it is not given, and the other arguments.

    Raises:
        ConfigError: If it is no positive number.
    """
    given = [argument.removeprefix(NPROC) for argument in argv if argument.startswith(NPROC)]
    others = [argument for argument in argv if not argument.startswith(NPROC)]
    for text in given:
        if not text.isdecimal() or int(text) < 1:
            raise ConfigError(f"setting 'nproc' must be a positive number, got {text!r}")
    if len(set(given)) > 1:
        raise ConfigError(f"argument '--nproc' is given twice: {given[0]} and {given[1]}")
    return int(given[0]) if given else 1, others


def launch(count: int, argv: Sequence[str]) -> int:
    """Run this package's command with ``argv`` in ``count`` processes, and return the exit code of the whole.

    When one of them ends with an error, or dies, the others are ended; SIGTERM and SIGINT are passed on, and every
    process has 30 seconds to keep its state (``TORCH_ELASTIC_SHUTDOWN_TIMEOUT``).

    Raises:
        HellmError: If a process died without a word.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # Of the processors' threads each process gets its share, where the user has not said how many.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    for noisy in ("torch.distributed.elastic", "torch.distributed.launcher"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)  # a failure is told below, in one line
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=count, run_id=uuid4().hex, rdzv_backend="c10d",
        rdzv_endpoint="localhost:0", max_restarts=0,
    )  # fmt: skip
    try:
        elastic_launch(config, sys.executable)("-m", "recbole_hellm.cli", *argv)
    except SignalException as heard:
        return signals.Stopped(heard.sigval.value).exit_code
    except ChildFailedError as failed:
        return _told(list(failed.failures.values()))
    return 0


def _told(failures: Sequence[Any]) -> int:
    """Return the exit code of the process that failed first.

    Raises:
        HellmError: If one died without a word.
    """
    died = [failure for failure in failures if failure.exitcode < 0 and failure.exitcode not in FOLLOWED]
    began = died or [failure for failure in failures if failure.exitcode not in FOLLOWED] or list(failures)
    first = began[0]
    if first.exitcode >= 0:
        return int(first.exitcode)  # it has said why
    name = signal.Signals(-first.exitcode).name
    raise HellmError(
        f"process {first.local_rank} (pid {first.pid}) of this run was ended by {name}"
        f"{', often because memory ran out' if name == 'SIGKILL' else ''}; the others were ended too; "
        "--resume=auto goes on from the last state that was kept"
    )
