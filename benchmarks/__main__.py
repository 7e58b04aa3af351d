"""``python -m benchmarks``: every measurement in a process of its own, one result file, one table."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.child import run
from benchmarks.fragment import about
from benchmarks.options import RESULTS, ROOT, Options, add_arguments, from_arguments
from benchmarks.table import targets_table, write_between
from benchmarks.targets import MEASUREMENTS, TARGETS, keys_of
from recbole_hellm.artifacts import write_atomically

DOCUMENT = ROOT / "docs" / "performance.md"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the chosen measurements and keep the others as they stand in the result file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add_arguments(parser)
    parser.add_argument("--only", help=f"some of: {','.join(MEASUREMENTS)}")
    parser.add_argument("--results", type=Path, help="result file (default: benchmarks/results/latest.json)")
    parsed = parser.parse_args(argv)
    options, chosen = from_arguments(parsed), _chosen(parser, parsed.only)
    path = parsed.results or RESULTS / ("quick.json" if options.quick else "latest.json")
    failed = []
    for name in chosen:
        started = time.perf_counter()
        fragment = measure(name, options)
        failed += [name] if "failed" in fragment else []
        # After each of them: a machine that goes down in the fifth keeps the first four.
        document = with_fragment(read(path), name, fragment, options)
        write_atomically(path, json.dumps(document, indent=2) + "\n")
        if parsed.results is None and not options.quick:
            write_between(DOCUMENT, "table of targets", targets_table(document))
        print(f"{name}: {time.perf_counter() - started:.0f} s, {json.dumps(fragment['keys'])}", flush=True)
    print(targets_table(read(path)))
    return 1 if failed else 0


def _chosen(parser: argparse.ArgumentParser, only: str | None) -> tuple[str, ...]:
    names = tuple(filter(None, only.split(","))) if only else MEASUREMENTS
    for name in names:
        if name not in MEASUREMENTS:
            parser.error(f"--only names {name!r}; known: {', '.join(MEASUREMENTS)}")
    return names


def measure(name: str, options: Options) -> dict[str, Any]:
    """Return the fragment of one measurement; one that fails has empty keys and its error as the reason."""
    output = options.scratch / "fragments" / f"{name}.json"
    output.unlink(missing_ok=True)
    try:
        run([sys.executable, "-m", f"benchmarks.{name}", *options.argv(output)], name)
        fragment: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
    except (RuntimeError, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        last = str(error).strip().splitlines()[-1]
        reasons = dict.fromkeys(keys_of(name), f"failed: {last}")
        keys = dict.fromkeys(keys_of(name))
        fragment = {"keys": keys, "reasons": reasons, "details": {}, "failed": str(error), "about": about(options)}
    return fragment


def read(path: Path) -> dict[str, Any]:
    """Return a result file; empty if there is none."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def with_fragment(
    document: Mapping[str, Any], name: str, fragment: Mapping[str, Any], options: Options
) -> dict[str, Any]:
    """Return a result file with one measurement replaced: flat keys first, then why some are empty, then details."""
    keys = {target.key: document.get(target.key) for target in TARGETS} | dict(fragment["keys"])
    reasons = {key: why for key, why in document.get("reasons", {}).items() if key not in fragment["keys"]}
    measurements = {**document.get("measurements", {}), name: {k: v for k, v in fragment.items() if k != "keys"}}
    return {
        **keys,
        "reasons": {**reasons, **fragment["reasons"]},
        "about": about(options),
        "measurements": measurements,
    }


if __name__ == "__main__":
    sys.exit(main())
