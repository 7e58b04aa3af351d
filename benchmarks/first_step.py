"""``run_recbole_hellm.py`` that ends after the first training step of stage 2 and notes when that was.

Usage: ``python -m benchmarks.first_step FILE --model=HeLLM --dataset=...``
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor


def main(argv: Sequence[str]) -> int:
    """Run until the loss of the first batch is there, write the time of day to ``FILE`` and end the process."""
    file, *arguments = argv
    from recbole_hellm.cli import train_main
    from recbole_hellm.models.hellm import HeLLM

    original = HeLLM.calculate_loss

    def first(self: HeLLM, interaction: Any) -> Tensor:
        loss = original(self, interaction)
        Path(file).write_text(f"{time.time()}\n", encoding="utf-8")
        os._exit(0 if bool(loss.isfinite()) else 3)

    HeLLM.calculate_loss = first  # type: ignore[method-assign]
    return train_main(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
