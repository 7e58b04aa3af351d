"""What a trial's process and the search say to each other: a line per validated epoch, and whether to go on."""

from __future__ import annotations

import json
import select
import socket
import subprocess
from collections.abc import Callable, Mapping
from typing import Any

LOOK_SECONDS = 0.5
"""Between two looks whether the process still lives."""


class Asker:
    """The trial's side: called after every validation.

    Args:
        descriptor: Of the socket it inherited.
        metric: What is reported.
        epochs: After the last one nothing is left to end.
    """

    def __init__(self, descriptor: int, metric: str, epochs: int) -> None:
        self._file = socket.socket(fileno=descriptor).makefile("rw", encoding="utf-8")
        self._metric, self._epochs = metric, epochs
        self.is_pruned = False

    def __call__(self, record: Any) -> bool:
        """Report one epoch; return whether training ends here."""
        if record.valid is None:
            return False
        said = {"epoch": record.epoch, "value": record.valid[self._metric], "last": record.epoch >= self._epochs}
        self._file.write(json.dumps(said) + "\n")
        self._file.flush()
        answer = self._file.readline()
        self.is_pruned = bool(answer) and bool(json.loads(answer)["stop"])
        return self.is_pruned


def answerer(
    connection: socket.socket, decide: Callable[[Mapping[str, Any]], bool]
) -> Callable[[subprocess.Popen[bytes]], None]:
    """Return the search's side, for :func:`recbole_hellm.benchmark.processes.run_process`.

    Args:
        connection: The end of the socket pair that this process keeps.
        decide: Gets what was said of an epoch; returns whether the trial ends.
    """

    def serve(process: subprocess.Popen[bytes]) -> None:
        rest = b""
        while process.poll() is None:  # not until the end of the stream: a worker it left may hold the other end
            if not select.select([connection], [], [], LOOK_SECONDS)[0]:
                continue
            got = connection.recv(65536)
            if not got:
                return
            *lines, rest = (rest + got).split(b"\n")
            for line in lines:
                stop = decide(json.loads(line))
                connection.sendall(json.dumps({"stop": bool(stop)}).encode() + b"\n")

    return serve
