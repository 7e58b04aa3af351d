"""SIGTERM and SIGINT as a request to stop, which a training loop answers between two steps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from logging import getLogger
from types import FrameType
from typing import Any

logger = getLogger(__name__)

EXIT_CODE = 75
"""Exit code after SIGTERM (``EX_TEMPFAIL``: try again), for a queue that runs the job once more."""
GRACE_SECONDS = 3.0
"""How long a step may go on after a request; then it is broken off and the state before it is saved."""
_HEARD = (signal.SIGTERM, signal.SIGINT)


class Stopped(KeyboardInterrupt):
    """A signal asked the run to stop. ``except Exception`` does not catch it.

    Attributes:
        signum: The signal.
        kept: What was saved, in words; empty if there was nothing to save.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum, self.kept = signum, ""

    @property
    def exit_code(self) -> int:
        """Exit code of the command."""
        return EXIT_CODE if self.signum == signal.SIGTERM else 128 + self.signum


class _Request:
    """The request of this process, and whether it may be answered at once."""

    def __init__(self) -> None:
        self.signum: int | None = None
        self.deferred = 0
        self.interruptible: Callable[[], bool] = lambda: True
        self._alarm_before: Any = None
        self._armed = False

    def arm(self) -> None:
        """Ask again after the grace, and then twice a second. Before a request nobody's alarm is touched."""
        self._alarm_before, self._armed = signal.signal(signal.SIGALRM, self.insist), True
        signal.setitimer(signal.ITIMER_REAL, GRACE_SECONDS, 0.5)

    def disarm(self) -> None:
        """End that."""
        if self._armed:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self._alarm_before)
            self._armed = False

    def hear(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is not None and signum == signal.SIGINT:
            raise KeyboardInterrupt  # asked twice: no more waiting
        if self.signum is not None:
            return
        self.signum = signum
        if not self.deferred:
            raise Stopped(signum)
        logger.warning("%s: the running step is finished, then the state is saved", signal.Signals(signum).name)
        self.arm()

    def insist(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is not None and self.deferred and self.interruptible():
            self.disarm()
            raise Stopped(self.signum)


_request = _Request()


@contextmanager
def handled(signums: Iterable[int], handler: Callable[[int, FrameType | None], Any]) -> Iterator[None]:
    """Inside, signals call ``handler``.

    In another thread than the main one, where Python hears no signals, it does nothing. Signals that are ignored stay
    so: ``nohup`` promised that the run outlives the terminal.
    """
    main = threading.current_thread() is threading.main_thread()
    heard = [signum for signum in signums if main and signal.getsignal(signum) != signal.SIG_IGN]
    before = {signum: signal.signal(signum, handler) for signum in heard}
    try:
        yield
    finally:
        for signum, earlier in before.items():
            signal.signal(signum, earlier)


@contextmanager
def watch() -> Iterator[None]:
    """Inside, SIGTERM and SIGINT raise :class:`Stopped`: at once, or between two steps where :func:`deferred` is.

    Where they are not heard (see :func:`handled`), it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # the request is the main thread's
        return
    try:
        with handled(_HEARD, _request.hear):
            _request.signum = None
            try:
                yield
            finally:
                _request.disarm()
    finally:
        _request.signum = None


@contextmanager
def deferred(interruptible: Callable[[], bool]) -> Iterator[None]:
    """Inside, a request waits for :func:`check`; a step that takes longer than :data:`GRACE_SECONDS` is broken off.

    Args:
        interruptible: Whether the state as last noted is still whole (no parameter has been changed since).
    """
    before = _request.interruptible
    _request.deferred, _request.interruptible = _request.deferred + 1, interruptible
    try:
        yield
    finally:
        _request.deferred, _request.interruptible = _request.deferred - 1, before
        if not _request.deferred:
            _request.disarm()


@contextmanager
def at_once() -> Iterator[None]:
    """Inside a deferred part: work that changes nothing, such as an evaluation, and is broken off at once."""
    check()
    before, _request.deferred = _request.deferred, 0
    try:
        yield
    finally:
        _request.deferred = before


def requested() -> bool:
    """Return whether the run was asked to stop."""
    return _request.signum is not None


def asked() -> int:
    """Return the signal that asked this process to stop; 0: none."""
    return _request.signum or 0


def check(elsewhere: int = 0) -> None:
    """Stop here if the run was asked to.

    Args:
        elsewhere: A signal that asked another process of the run; 0: none.

    Raises:
        Stopped: If it was.
    """
    if _request.signum is not None or elsewhere:
        _request.disarm()
        raise Stopped(_request.signum or elsewhere)
