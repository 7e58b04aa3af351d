"""What a reader must know of a results file besides its numbers, one sentence each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from recbole_hellm.benchmark.one_table import Line
from recbole_hellm.benchmark.rows import Scored
from recbole_hellm.benchmark.settings import WHERE
from recbole_hellm.benchmark.significance import FEWEST_SEEDS, PairedResult

FULL = "full"
"""Label of the ablation row that the variants are compared with."""
LISTED = 8
"""Names in one sentence before the rest is only counted."""


def file_remarks(header: Mapping[str, Any], lines: Sequence[Line], measured: Sequence[Line]) -> Iterator[str]:
    """Say which cells a report lacks, and what differs between those it has.

    Args:
        header: First line of the file; ``missing`` and ``others`` (each ``label``, ``dataset``, ``seed``) where known.
        lines: Planned cells that ended.
        measured: Those with a result.
    """
    missing, others = header.get("missing") or (), header.get("others") or ()
    if missing:
        planned, verb = len(lines) + len(missing), "has" if len(missing) == 1 else "have"
        yield f"{len(missing)} of {planned} planned cells {verb} no result yet: {_cells(missing)}."
    if others:
        cells = (
            "1 finished cell of this file is" if len(others) == 1 else f"{len(others)} finished cells of this file are"
        )
        yield f"{cells} not in the plan and so not in this report: {_cells(others)}."
    yield from _origins(measured)
    yield from _tuning(measured)


def table_remarks(tables: Mapping[str, Sequence[Scored]]) -> Iterator[str]:
    """Say by data set where rows have other seeds, nothing to compare with, or unknown ties."""
    for dataset, table in tables.items():
        rows = [row.row for row in table]
        seeds = {row.label: len(row.seeds) for row in rows}
        if len({row.seeds for row in rows}) > 1:
            counts = ", ".join(f"{label} {count}" for label, count in seeds.items())
            yield f"{dataset}: the models have different seeds (number of seeds: {counts})."
        if len(rows) == 1:
            yield f"{dataset}: only {rows[0].label} has a result, so there is nothing to compare."
        if rows[0].untied is None or rows[0].tied_share is None:
            yield f"{dataset}: it is not known which targets tie in time with the item before them."


def untested_remarks(
    tests: Mapping[tuple[str, str], Sequence[PairedResult]],
    ablation: Mapping[str, Sequence[PairedResult]],
    metric: str,
) -> Iterator[str]:
    """Say which tests are left out, and why."""
    mains = [result for (_, name), results in tests.items() if name == metric for result in results]
    few: dict[str, dict[str, int]] = {}
    for result in [*mains, *(result for results in ablation.values() for result in results)]:
        pair = f"{result.dataset}: {result.label} against {result.other}"
        if result.reason:
            yield f"{pair} is not tested, as the protocols differ ({result.reason})."
        elif len(result.seeds) < FEWEST_SEEDS:
            few.setdefault(result.dataset, {})[f"{result.label} and {result.other}"] = len(result.seeds)
        elif result.p_seeds is None:
            yield f"{pair} is not tested over seeds, as no seed changes their difference."
    for dataset, pairs in few.items():
        counts = ", ".join(f"{pair} {count}" for pair, count in pairs.items())
        shared = set(pairs.values())
        if len(pairs) > 1 and len(shared) == 1:
            counts = f"{len(pairs)} pairs of models, which share {shared.pop()} each"
        yield f"{dataset}: a test over seeds takes at least {FEWEST_SEEDS} shared seeds; it is left out for {counts}."
    for dataset, results in ablation.items():
        if not results:
            yield f"{dataset}: no row is labelled {FULL!r}, so no part's effect can be told."


def _cells(cells: Sequence[Any]) -> str:
    """Return ``SASRec on amazon-toys, seeds 2020 and 2021; ...``."""
    seeds: dict[tuple[str, str], list[str]] = {}
    keys = [f"cell {cell}" for cell in cells if not isinstance(cell, Mapping)]  # older files know no more
    for cell in (cell for cell in cells if isinstance(cell, Mapping)):
        seeds.setdefault((str(cell.get("label")), str(cell.get("dataset"))), []).append(str(cell.get("seed")))
    said = [
        f"{label} on {dataset}, seed{'s' if len(own) > 1 else ''} {', '.join(own)}"
        for (label, dataset), own in seeds.items()
    ]
    said += keys
    left = len(said) - LISTED
    return "; ".join(said[:LISTED]) + (f"; and {left} more" if left > 0 else "")


def _origins(measured: Sequence[Line]) -> Iterator[str]:
    """Say where the cells are of different code, packages or machines."""
    commits = Counter(str(line.get("commit") or "not known") for line in measured)
    if len(commits) > 1:
        listed = ", ".join(f"{commit} ({count})" for commit, count in commits.items())
        yield f"The cells were measured with {len(commits)} commits of this package (number of cells): {listed}."
    changed = [commit for commit in commits if commit.endswith("+")]
    if changed:
        cells = sum(commits[commit] for commit in changed)
        yield (
            f"{cells} of {len(measured)} cells were measured with files that differ from their commit "
            f"({', '.join(changed)}), so the commit alone does not reproduce them."
        )
    versions: dict[str, set[str]] = {}
    for line in measured:
        for package, version in (line.get("versions") or {}).items():
            versions.setdefault(str(package), set()).add(str(version))
    differ = [f"{package} {' and '.join(sorted(own))}" for package, own in versions.items() if len(own) > 1]
    if differ:
        yield f"The cells were measured with different packages: {', '.join(differ)}."
    machines = {repr(sorted((line.get("hardware") or {}).items())) for line in measured}
    if len(machines) > 1:
        yield f"The cells were measured on {len(machines)} machines, so seconds and speeds do not compare the models."


def _tuning(measured: Sequence[Line]) -> Iterator[str]:
    """Say whose settings were given for a data set alone."""
    labels: dict[str, dict[str, Line]] = {}
    presets: dict[str, dict[str, str]] = {}
    for line in measured:
        labels.setdefault(line["label"], {}).setdefault(line["dataset"], line)
        preset = line["settings"].get("preset") or line.get("run_settings", {}).get("preset") or ""
        if line["group"] == "compare":
            presets.setdefault(line["dataset"], {})[line["label"]] = str(preset)
    for label, cells in labels.items():
        keys = sorted({key for line in cells.values() for key in line["settings"]} - WHERE)
        differ = [key for key in keys if len({repr(line["settings"].get(key)) for line in cells.values()}) > 1]
        if differ:
            yield f"{label} has other settings on each of its data sets: {', '.join(differ)} (see Provenance)."
    for dataset, own in presets.items():
        with_one = [f"{label} ({preset})" for label, preset in own.items() if preset]
        if with_one and len(with_one) < len(own):
            yield (
                f"{dataset}: {', '.join(with_one)} ran with a preset, which may be tuned for this data set; the other "
                "models have none."
            )
