"""Progress on standard output, which must never end a run."""

from __future__ import annotations

import os
import sys
from contextlib import suppress


def say(text: str) -> None:
    """Print ``text`` at once; where nobody reads any more (``| head -1``, a full disk), go on in silence."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):  # or Python would fail once more when it flushes at its end
            sink = os.open(os.devnull, os.O_WRONLY)
            os.dup2(sink, sys.stdout.fileno())
            os.close(sink)
