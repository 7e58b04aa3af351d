"""What every measurement is told on its command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""The checkout."""
RESULTS = ROOT / "benchmarks" / "results"
SCRATCH = ROOT / "benchmarks" / "scratch"
"""Where stages, checkpoints and logs of a benchmark go."""


@dataclass(frozen=True)
class Options:
    """Where data lie, where results go and how large everything is.

    Attributes:
        data_path: RecBole's folder of data sets.
        scratch: Folder for everything that is not a result.
        quick: Sizes of a smoke test: no number of such a run means anything.
        pairs: How often the two sides take turns; 0: as each measurement thinks fit.
        seed: Seed of samples and models.
        output: JSON file of one measurement; ``None``: print only.
    """

    data_path: Path
    scratch: Path
    quick: bool = False
    pairs: int = 0
    seed: int = 2020
    output: Path | None = None

    def argv(self, output: Path) -> list[str]:
        """Return the command line of one measurement with these options."""
        named = {"data-path": self.data_path, "scratch": self.scratch, "pairs": self.pairs, "seed": self.seed}
        given = [part for name, value in named.items() for part in (f"--{name}", str(value))]
        return [*given, "--output", str(output), *(["--quick"] if self.quick else [])]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options all measurements share."""
    parser.add_argument("--data-path", type=Path, default=ROOT / "dataset", help="folder of RecBole data sets")
    parser.add_argument("--scratch", type=Path, default=SCRATCH, help="folder for stages, checkpoints and logs")
    parser.add_argument(
        "--quick", action="store_true", help="tiny synthetic data: a test of the harness, no measurement"
    )
    parser.add_argument("--pairs", type=int, default=0, help="turns of the two sides; 0: chosen by each measurement")
    parser.add_argument("--seed", type=int, default=2020)


def from_arguments(parsed: argparse.Namespace) -> Options:
    """Return the options of parsed arguments."""
    output = getattr(parsed, "output", None)
    data, scratch = parsed.data_path.resolve(), parsed.scratch.resolve()
    return Options(data, scratch, parsed.quick, parsed.pairs, parsed.seed, output)


def parse(about: str, argv: Sequence[str] | None = None) -> Options:
    """Read the command line of one measurement."""
    parser = argparse.ArgumentParser(description=about)
    add_arguments(parser)
    parser.add_argument("--output", type=Path, help="JSON file to write; without it the result is only printed")
    return from_arguments(parser.parse_args(argv))
