"""Memory and operations of summing the language model's scores with counts and cosines."""

from __future__ import annotations

from recbole_hellm.costs.rows import DataShape, Lengths
from recbole_hellm.costs.shapes import FusionShape
from recbole_hellm.costs.work import Work

FLOAT, HALF = 4, 2
ENTRY = 8
"""Bytes of a number of a sparse table and of its column."""
NEAREST = 200
"""Candidates by part when weights are chosen (:data:`recbole_hellm.models.score_fusion.NEAREST`)."""
COPIES = 2
"""Margins are joined from those of the batches: both are there for a moment."""


def table_memory(fusion: FusionShape, data: DataShape) -> dict[str, int]:
    """Return bytes of what scoring reads: vectors stored in float16 and multiplied in float32, and counts."""
    return {
        "vectors of the fusion": (HALF + FLOAT) * data.n_items * sum(fusion.widths),
        "transition counts": ENTRY * fusion.pairs(data),
    }


def choice_memory(fusion: FusionShape, data: DataShape) -> int:
    """Return bytes of the candidates that weights are chosen on, at most."""
    candidates = min(NEAREST * max(fusion.parts - 1, 1) + data.max_length, data.n_items)
    return COPIES * FLOAT * fusion.parts * min(fusion.users, data.tested.rows) * candidates


def sum_work(fusion: FusionShape, data: DataShape, tested: Lengths) -> Work:
    """Return the operations of the sum for a pass over all tested users."""
    per_item = fusion.pairs(data) / max(data.n_items, 1)
    scores = float(tested.rows) * data.n_items
    return Work(
        flops=2 * scores * sum(fusion.widths),
        gathered=ENTRY * tested.tokens * per_item,
        moved=FLOAT * scores,
    )
