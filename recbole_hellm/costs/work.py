"""Memory by what takes it, operations by what bounds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Self


@dataclass(frozen=True)
class Work:
    """Operations, by what bounds their speed; :mod:`recbole_hellm.costs.efficiency` turns them into seconds."""

    decoder_flops: float = 0.0
    """Products of the language model, bf16 where it computes in bf16."""
    flops: float = 0.0
    """Other dense products, fp32."""
    double_flops: float = 0.0
    """Products in fp64."""
    moved: float = 0.0
    """Bytes of element-wise passes."""
    gathered: float = 0.0
    """Bytes of vectors summed over neighbours."""
    scored: float = 0.0
    """Scores ranked in evaluation."""
    read_rows: float = 0.0
    """Interactions read and split by RecBole."""
    steps: float = 0.0
    """Steps started from Python."""
    bf16: bool = False
    """Whether the decoder computes in bf16."""

    def times(self, factor: float) -> Self:
        """Return ``factor`` times as much work."""
        values = {f.name: getattr(self, f.name) * factor for f in fields(self) if f.name != "bf16"}
        return type(self)(**values, bf16=self.bf16)

    def plus(self, other: Work) -> Self:
        """Return both together."""
        values = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self) if f.name != "bf16"}
        return type(self)(**values, bf16=self.bf16 or other.bf16)


@dataclass(frozen=True)
class StageCost:
    """What one part of a run takes.

    Attributes:
        name: As in a result file's ``stages``.
        held: Bytes by what takes them that stay until the run ends.
        own: Bytes by what takes them at the part's peak, given back after it.
        work: Operations; ``None`` where they are not known.
        about: What makes it up, in words.
        epochs: Passes over the training data at most, 0 where there are none.
    """

    name: str
    held: Mapping[str, int] = field(default_factory=dict)
    own: Mapping[str, int] = field(default_factory=dict)
    work: Work | None = None
    about: str = ""
    epochs: int = 0


def peaks(costs: list[StageCost], base: int) -> list[int]:
    """Return the peak of each part in bytes: what the parts up to it hold, and its own.

    Args:
        costs: In the order in which they run.
        base: What the process takes before the first of them.
    """
    found, held = [], base
    for cost in costs:
        held += sum(cost.held.values())
        found.append(held + sum(cost.own.values()))
    return found
