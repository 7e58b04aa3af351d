"""One measurement as JSON: its flat keys, its details, why something is missing, and what it ran on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import torch

from benchmarks.data import Skipped
from benchmarks.options import Options, parse
from recbole_hellm.artifacts import write_atomically
from recbole_hellm.results import commit, hardware, plain, versions


@dataclass
class Fragment:
    """What one measurement found.

    Attributes:
        keys: Flat keys of the result file; ``None`` where nothing was measured.
        details: Everything behind them.
        reasons: By key: why it is ``None``.
    """

    keys: dict[str, float | None] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def missing(self, key: str, reason: str) -> None:
        """Note a key that could not be measured."""
        self.keys[key], self.reasons[key] = None, reason


def about(options: Options) -> dict[str, Any]:
    """Return what a measurement ran on."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "hardware": hardware(),
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "seed": options.seed,
        "quick": options.quick,
    }


def as_document(fragment: Fragment, options: Options, seconds: float) -> dict[str, Any]:
    """Return a fragment as plain values."""
    return {
        "keys": {key: None if value is None else float(value) for key, value in fragment.keys.items()},
        "details": plain(fragment.details),
        "reasons": dict(fragment.reasons),
        "seconds": seconds,
        "about": about(options),
    }


def fingerprint(data: Any) -> str:
    """Return the digest of a prepared data set's interactions."""
    from recbole_hellm.artifacts import file_digest

    return str(file_digest(data.path / data.name / f"{data.name}.inter"))


def run_alone(measure: Callable[[Options], Fragment], keys: Mapping[str, str], about: str) -> None:
    """Make one measurement from the command line, print it and write it to ``--output``.

    Args:
        measure: The measurement.
        keys: Its flat keys; all of them are ``None`` with a reason where it is skipped.
        about: Text of ``--help``.
    """
    options = parse(about)
    options.scratch.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    try:
        fragment = measure(options)
    except Skipped as reason:
        fragment = Fragment()
        for key in keys:
            fragment.missing(key, str(reason))
    if set(fragment.keys) != set(keys):
        raise RuntimeError(f"measured {sorted(fragment.keys)}, announced {sorted(keys)}")
    text = json.dumps(as_document(fragment, options, time.perf_counter() - started), indent=2)
    if options.output is not None:
        write_atomically(options.output, text + "\n")
        return
    print(text)
