"""What the process of a cell is told about the one that started it: whom to end with, and the user's own models."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from recbole_hellm import plugin, registry
from recbole_hellm.artifacts import write_atomically
from recbole_hellm.errors import ConfigError, HellmError

LOOK_SECONDS = 1.0
"""Between two looks whether the parent still lives."""


def surroundings(model: str) -> dict[str, Any]:
    """Return what a child process needs to know to run ``model`` as this process would.

    Raises:
        ConfigError: If the model is registered here, but its class cannot be imported by another process.
    """
    about: dict[str, Any] = {"parent": os.getpid(), "sys_path": [entry for entry in sys.path if entry], "models": {}}
    if model in registry.models and model not in plugin.BUILT_IN:
        kind = registry.models.get(model)
        if kind.__module__ == "__main__" or "." in kind.__qualname__:
            raise ConfigError(
                f"model {model!r} is defined in {kind.__module__} as {kind.__qualname__}, which a process of its own "
                "cannot import; move the class to the top level of a module"
            )
        about["models"][model] = [kind.__module__, kind.__qualname__]
    return about


def enter(request: Mapping[str, Any]) -> None:
    """Make this process end with its parent, and register the user's models.

    Args:
        request: With what :func:`surroundings` gave; without it nothing is done, as when a cell is run by hand.
    """
    if "parent" in request:
        threading.Thread(target=_end_with, args=(request["parent"],), daemon=True).start()
    sys.path += [entry for entry in request.get("sys_path", ()) if entry not in sys.path]
    for name, (module, attribute) in request.get("models", {}).items():
        kind = getattr(import_module(module), attribute)
        if name not in registry.models:  # importing the module may have registered it
            registry.models.add(name, kind)
    plugin.register()


def answer(request_file: Path, work: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> int:
    """Do the work of a request file and write what it gives to the file the request names in ``result``.

    Returns:
        The exit code: an error of a user's making ends in one line and 2.
    """
    request = json.loads(request_file.read_text(encoding="utf-8"))
    enter(request)
    try:
        result = work(request)
    except HellmError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 (the parent reads it)
        return 2
    write_atomically(Path(request["result"]), json.dumps(result, sort_keys=True) + "\n")
    return 0


def _end_with(parent: int) -> None:
    """Kill this process and its own children once ``parent`` is gone: nobody would read what they compute."""
    while os.getppid() == parent:
        time.sleep(LOOK_SECONDS)
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(1)
