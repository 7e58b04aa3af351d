"""How often something is done: by steps, by epochs, now and then, or never."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, Self

from recbole_hellm.errors import ConfigError

SECONDS = 600.0
"""Time between two saves with ``auto``."""


@dataclass(frozen=True)
class Every:
    """A number of optimiser steps or epochs between two times; ``auto``: every ten minutes.

    Attributes:
        count: How many.
        unit: Of what; ``auto`` and ``never`` have no count.
    """

    count: int
    unit: Literal["step", "epoch", "auto", "never"]

    @classmethod
    def parse(cls, key: str, text: str) -> Self:
        """Read ``"200 steps"``, ``"1 epoch"``, ``"auto"`` or ``"never"``.

        Raises:
            ConfigError: If it is none of these.
        """
        if text in ("auto", "never"):
            return cls(0, text)  # type: ignore[arg-type]
        found = re.fullmatch(r"(\d+)\s*(step|epoch)s?", text)
        if found is None or int(found[1]) == 0:
            raise ConfigError(
                f"setting {key!r} must be a number of steps or epochs, as '200 steps' or '1 epoch', got {text!r}"
            )
        return cls(int(found[1]), found[2])  # type: ignore[arg-type]

    def due(self, step: int, epoch: int | None, seconds: float) -> bool:
        """Return whether it is time.

        Args:
            step: Optimiser steps so far.
            epoch: Epochs that are done, ``None`` within one.
            seconds: Since the last time.
        """
        if self.unit == "step":
            return step > 0 and step % self.count == 0
        if self.unit == "epoch":
            return epoch is not None and epoch > 0 and epoch % self.count == 0
        return self.unit == "auto" and seconds >= SECONDS
