"""From operations to seconds: what a short calibration measures, times the share of it that each kind of work reaches.

**This is the one place for measured factors.** The calibration measures three rates of the machine in about a second
(:mod:`recbole_hellm.costs.calibration`): large matrix products in bf16 and fp32, and a long copy. No part of a run
reaches them: its products are small, its passes short. The shares below are round numbers, set by hand to agree with
the runs in ``docs/estimate.md`` (Toys, one and two threads, a machine shared with other work). Set them again when a
stage is rewritten: ``share = seconds at the full rate / seconds measured``.
"""

from __future__ import annotations

from dataclasses import dataclass

from recbole_hellm.costs.work import Work

DECODER = 0.5
"""Share of the product rate that the language model's layers and head reach."""
PRODUCTS = 0.6
"""Share of the fp32 rate of other products: contrast, SASRec with its scores."""
DOUBLE = 0.35
"""Share of the fp32 rate of products in fp64, of which half the numbers fit into a register."""
MOVED = 0.5
"""Share of the copy rate of element-wise passes."""
GATHERED = 0.8
"""Share of the copy rate of sums over neighbours: vectors are read from all over memory."""
SCORES = 6.0e7
"""Scores ranked per second and thread: mask, rank of the target, RecBole's best k and matrix of targets."""
ROWS = 7.0e4
"""Interactions read, cut and sorted by RecBole per second, on one thread whatever there are."""
STEP = 0.01
"""Seconds of Python a step takes."""


@dataclass(frozen=True)
class Machine:
    """Rates of a machine.

    Attributes:
        bf16: Operations a second of a large bf16 product.
        fp32: The same in fp32.
        copied: Bytes a second of a long copy, those read and those written.
        threads: Threads of torch.
    """

    bf16: float
    fp32: float
    copied: float
    threads: int = 1


def seconds(work: Work, machine: Machine) -> float:
    """Return the time of ``work`` on ``machine``; its kinds run one after the other."""
    product = machine.bf16 if work.bf16 else machine.fp32
    return (
        work.decoder_flops / (DECODER * product)
        + work.flops / (PRODUCTS * machine.fp32)
        + work.double_flops / (DOUBLE * machine.fp32)
        + work.moved / (MOVED * machine.copied)
        + work.gathered / (GATHERED * machine.copied)
        + work.scored / (SCORES * machine.threads)
        + work.read_rows / ROWS
        + work.steps * STEP
    )
