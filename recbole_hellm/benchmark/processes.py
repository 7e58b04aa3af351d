"""A run in a process of its own: started, awaited, ended with this one, and told why it failed."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from recbole_hellm.benchmark.progress import say
from recbole_hellm.signals import handled

GRACE_SECONDS = 10.0
"""What a process has between being asked to stop and being killed."""
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_process(
    command: Sequence[str],
    log: Path,
    env: Mapping[str, str],
    serve: Callable[[subprocess.Popen[bytes]], None] | None = None,
    pass_fds: Sequence[int] = (),
) -> int:
    """Run ``command`` in a process group of its own and return its exit code; the group ends with this call.

    Args:
        command: Program and arguments.
        log: File that takes what it prints.
        env: Changes to the environment.
        serve: Called once it has started, to talk to it; returns when there is nothing more to say.
        pass_fds: Files of this process that it inherits.
    """
    process: subprocess.Popen[bytes] | None = None
    try:
        with log.open("wb") as file, _signals_wait():
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in the terminal reaches this process only, which then ends the group
                env={**os.environ, **env},
                pass_fds=pass_fds,
            )
        if serve is not None:
            serve(process)
        return process.wait()
    except BaseException:
        if process is not None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(GRACE_SECONDS)
        raise
    finally:
        if process is not None:
            with suppress(ProcessLookupError, PermissionError):  # workers it has left
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextmanager
def _signals_wait() -> Iterator[None]:
    """Let signals that end this process wait until the inside is done.

    One that came while another process is being started would leave that one behind: it runs, and nobody has its id.
    """
    heard: list[int] = []
    try:
        with handled(_ENDING, lambda number, frame: heard.append(number)):  # a mask would be the started process's too
            yield
    finally:
        for number in heard:
            signal.raise_signal(number)


def why_ended(code: int, log: Path) -> str:
    """Return in one line why a process failed."""
    if code < 0:
        name = signal.Signals(-code).name
        memory = ", as the system does when memory runs out" if -code == signal.SIGKILL else ""
        return f"killed by signal {-code} ({name}){memory}; its log is {log}"
    lines = log.read_text(encoding="utf-8", errors="replace").replace("\r", "\n").splitlines()
    written = [line.strip() for line in lines if line.strip()]
    told = [line for line in written if line.startswith("error: ")]
    if told:
        return told[-1].removeprefix("error: ")
    return f"exit code {code}: {written[-1] if written else 'nothing was printed'}; its log is {log}"


@contextmanager
def stoppable(kept: str) -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into an exit that ends the running process, and say what stays after a stop.

    Args:
        kept: What a stop keeps, and how to go on; one line.
    """

    def stop(number: int, frame: Any) -> None:
        raise SystemExit(128 + number)

    with handled((signal.SIGTERM, signal.SIGHUP), stop):
        try:
            yield
        except (KeyboardInterrupt, SystemExit):
            say(f"stopped\n{kept}\n")
            raise
