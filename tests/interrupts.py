"""Interrupts are heard also where the tests run in a background job, in which they are ignored and stay so."""

import signal
from contextlib import contextmanager


def hear_interrupts():
    """For ``preexec_fn`` of a process that is to hear them."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def interrupts_heard():
    """Inside, this process hears them."""
    before = signal.getsignal(signal.SIGINT)
    hear_interrupts()
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
