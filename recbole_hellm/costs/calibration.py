"""Measures this machine's rates in about a second."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache

import torch

from recbole_hellm.costs.efficiency import Machine

SIZE = 512
"""Rows and columns of the measured products."""
COPIED = 1 << 26
"""Bytes of the measured copy: more than any cache that a step's tensors fit into."""
BUDGET = 0.25
"""Seconds a rate is measured for."""


@lru_cache(maxsize=1)
def calibrate() -> Machine:
    """Return the rates of this machine, measured once a process, with torch's current number of threads."""
    generator = torch.Generator().manual_seed(0)
    wide = torch.randn(SIZE, SIZE, generator=generator)
    narrow = wide.bfloat16()
    source = torch.ones(COPIED // 4)
    target = torch.empty_like(source)
    product = 2.0 * SIZE**3
    return Machine(
        bf16=product / _fastest(lambda: narrow @ narrow),
        fp32=product / _fastest(lambda: wide @ wide),
        copied=2.0 * COPIED / _fastest(lambda: target.copy_(source)),
        threads=torch.get_num_threads(),
    )


def _fastest(run: Callable[[], object]) -> float:
    """Return the shortest of some runs in seconds, as the machine would take them with nothing else to do.

    Measured by the clock of this thread, which does its share of every product and stands still while others run.
    """
    run()
    best, end = float("inf"), time.perf_counter() + BUDGET
    while True:
        started = time.thread_time()
        run()
        best = min(best, time.thread_time() - started)
        if time.perf_counter() > end:
            return max(best, 1e-9)
