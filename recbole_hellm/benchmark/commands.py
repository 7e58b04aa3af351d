"""The sub-commands ``compare``, ``report`` and ``ablate`` of ``recbole-hellm``."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbole_hellm.errors import ArtifactError, ConfigError

if TYPE_CHECKING:
    from recbole_hellm.benchmark.plan import Plan
    from recbole_hellm.benchmark.plan_files import Changes

TAKE_SETTINGS = ("compare", "ablate")
"""Sub-commands that read every other ``--key=value`` as a run setting of all cells."""
DEFAULT_METRIC = "ndcg@10"
"""What tests and plots are about where it is measured."""


def add_parsers(commands: Any) -> None:
    """Add the sub-commands to the command's parsers; nothing heavy is imported before one of them runs."""
    compare = commands.add_parser(
        "compare",
        help="models side by side: --models A,B --datasets x [--seeds 3], or --plan NAME",
        description="Run every model on every data set with every seed under one protocol, each run in a process of "
        "its own, and write a report. A second call runs only what is missing. Every other --key=value is a setting of "
        "all runs.",
        allow_abbrev=False,
    )
    compare.add_argument("--plan", help="name of a plan of this package, or a yaml file")
    compare.add_argument("--models", type=split_names, default=(), help="names of models, or labels of the plan")
    compare.add_argument("--datasets", type=split_names, default=(), help="names of data sets")
    _add_protocol(compare)
    _add_files(compare)
    compare.set_defaults(run=_compare)

    ablate = commands.add_parser(
        "ablate",
        help="HeLLM with each of its parts off: --dataset NAME [--parts a,b]",
        description="Run HeLLM whole and with one part off at a time, and write a report. Every other --key=value is a "
        "setting of all runs.",
        allow_abbrev=False,
    )
    ablate.add_argument("--dataset", required=True, help="name of a data set")
    ablate.add_argument("--parts", type=split_names, default=None, help="parts to take off (default: all)")
    _add_protocol(ablate)
    _add_files(ablate)
    ablate.set_defaults(run=_ablate)

    report = commands.add_parser("report", help="write the report of a results file again", allow_abbrev=False)
    report.add_argument("results", type=Path, metavar="RESULTS.jsonl", help="a results file of compare or ablate")
    report.add_argument("--output", type=Path, help="folder (default: RESULTS-report)")
    _add_choice(report)
    report.set_defaults(run=_report)


def _add_protocol(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seeds", default="", help="a number of seeds (3: 2020, 2021, 2022) or seeds with commas (7,8)"
    )
    parser.add_argument("--history", help="kept: items a user already has are ranked too; masked: they are not")
    parser.add_argument("--fitted-on", help="train, or train+valid: fitted again with the validation events")
    parser.add_argument("--max-length", help="items of a history, or none: each model's own")
    parser.add_argument("--loss", help="CE or BPR for the models that leave the choice, or none: each model's own")
    parser.add_argument("--minutes", help="training time of a run, its stages included, or none: no limit")


def add_settings_files(parser: argparse.ArgumentParser, what: str) -> None:
    """Add the option for yaml files, which may be given several times, by either name."""
    parser.add_argument(
        "--config", "--config_files", type=split_names, action="extend", default=[], metavar="FILE",
        help=f"yaml files: {what}",
    )  # fmt: skip


def add_imports(parser: argparse.ArgumentParser) -> None:
    """Add the option for modules that register models."""
    parser.add_argument(
        "--import", type=split_names, default=(), dest="imports", metavar="MODULE", help="with your models"
    )


def _add_files(parser: argparse.ArgumentParser) -> None:
    add_settings_files(parser, "settings of all runs")
    parser.add_argument("--results", type=Path, help="results file (default: results/<plan>.jsonl)")
    parser.add_argument("--report", type=Path, metavar="DIR", help="folder of the report (default: RESULTS-report)")
    add_imports(parser)
    _add_choice(parser)


def _add_choice(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--metric", help="metric that tests and plots are about (default: NDCG@10 if measured)")
    parser.add_argument("--against", metavar="LABEL", help="model that is tested against the others")


def split_names(text: str) -> tuple[str, ...]:
    """Return the names in a text with commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _compare(options: argparse.Namespace, rest: Sequence[str]) -> int:
    from recbole_hellm.benchmark import plan_files
    from recbole_hellm.benchmark.checks import import_models

    changes = _changes(options, rest, options.models, options.datasets)
    if options.plan is None:
        import_models(options.imports)
        return _run(plan_files.plan_from_names(changes), options)
    path = plan_files.find_plan(options.plan)
    import_models((*plan_files.plan_imports(path), *options.imports))
    return _run(plan_files.load_plan(path, changes), options)


def _ablate(options: argparse.Namespace, rest: Sequence[str]) -> int:
    from recbole_hellm.benchmark import ablation, plan
    from recbole_hellm.benchmark.checks import import_models

    import_models(options.imports)
    changes = _changes(options, rest)
    seeds = changes.seeds or (plan.FIRST_SEED,)
    protocol = plan.Protocol.from_config(changes.protocol)
    return _run(ablation.plan(options.dataset, options.parts, seeds, protocol, changes.settings), options)


def _report(options: argparse.Namespace, rest: Sequence[str]) -> int:
    _write_report(options.results, options.output, options)
    return 0


def _changes(
    options: argparse.Namespace, rest: Sequence[str], models: tuple[str, ...] = (), datasets: tuple[str, ...] = ()
) -> Changes:
    """Return what the command line says of a plan."""
    from recbole_hellm.benchmark.plan import Protocol
    from recbole_hellm.benchmark.plan_files import Changes, protocol_words, seeds
    from recbole_hellm.config.recbole_config import merged, parse_arguments, read_yaml

    _check_spelling(rest, vars(options))
    protocol = {}
    for key in sorted(Protocol.keys()):  # noqa: SIM118 (not a mapping)
        text = getattr(options, key)
        if text is not None:
            protocol.update(parse_arguments([f"--{key}={text}"]))
    Protocol.from_config(protocol_words(protocol))  # a wrong value is named before the plan is read
    settings: dict[str, Any] = {}
    for file in options.config:
        settings = merged(settings, read_yaml(Path(file)))
    settings = merged(settings, parse_arguments(rest))
    return Changes(models, datasets, seeds(numbers(options.seeds)) if options.seeds else (), protocol, settings)


def _check_spelling(rest: Sequence[str], known: Mapping[str, Any]) -> None:
    """Name what was meant by an argument that is no ``--key=value``.

    Raises:
        ConfigError: If an option lacks its last letter (``--model``), or a setting its ``=`` (``--epochs 3``).
    """
    for place, argument in enumerate(rest):
        key, equals, _ = argument.removeprefix("--").partition("=")
        if argument.startswith("--") and f"{key}s" in known:
            raise ConfigError(f"unknown argument '--{key}' (did you mean '--{key}s'?)")
        value = rest[place + 1] if place + 1 < len(rest) else ""
        if argument.startswith("--") and key and not equals and value and not value.startswith("--"):
            raise ConfigError(f"setting {key!r} and its value must be one argument; write --{key}={value}")


def numbers(text: str) -> int | list[int]:
    """Return ``3`` as a number and ``7,8`` or ``7,`` as a list."""
    try:
        listed = [int(number) for number in split_names(text)]
    except ValueError as error:
        raise ConfigError(f"--seeds must be a number of seeds or seeds with commas, got {text!r}") from error
    return listed if "," in text or not listed else listed[0]


def _run(plan: Plan, options: argparse.Namespace) -> int:
    """Check and run a plan, then write its report; 1 if a cell failed."""
    from recbole_hellm.benchmark.checks import check_plan
    from recbole_hellm.benchmark.lines import check_results_path, log_of
    from recbole_hellm.benchmark.progress import say
    from recbole_hellm.benchmark.runner import run_plan

    results = options.results or Path("results") / f"{plan.name}.jsonl"
    check_results_path(results)
    _check_folder(_report_folder(results, options.report), "--report")
    inputs = check_plan(plan, options.metric, options.against)
    counts = run_plan(plan, results, shlex.join(["recbole-hellm", *options.given]), inputs=inputs)
    say(f"{counts.ran} ran, {counts.failed} failed, {counts.skipped} were there already: {results}\n")
    if not counts.ran + counts.skipped:
        first = _lines(results)[1][0]
        log = log_of(results, first["cell"])
        print(f"error: all {counts.failed} cells failed: {first['error']} (log: {log})", file=sys.stderr)
        return 1
    _write_report(results, options.report, options, "--report")
    return 1 if counts.failed else 0


def _write_report(results: Path, folder: Path | None, options: argparse.Namespace, option: str = "--output") -> None:
    from recbole_hellm.benchmark import page, summary, tables
    from recbole_hellm.benchmark.lines import real_path
    from recbole_hellm.benchmark.progress import say

    folder = _report_folder(results, folder)
    _check_folder(folder, option)
    header, lines = _lines(results)
    metric = options.metric.lower() if options.metric else _default_metric(lines)
    comparison = summary.compare(lines, header, real_path(results).parent, metric=metric, against=options.against)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        written = [page.write_page(comparison, folder / "report.html"), *tables.write_tables(comparison, folder)]
    except OSError as error:
        raise _no_report(folder, error.strerror or str(error), option) from error
    say("".join(f"{path}\n" for path in written))


def _lines(results: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    from recbole_hellm.benchmark.lines import load_lines

    return load_lines(results)


def _default_metric(lines: Sequence[Mapping[str, Any]]) -> str:
    """Return NDCG@10, or where it is not measured NDCG at the place the epochs were chosen by."""
    from recbole_hellm.benchmark.per_user import RANKING

    tests = [line["test"] for line in lines if line["status"] == "ok" and isinstance(line.get("test"), dict)]
    names = [name for name in (tests[0] if tests else ()) if all(name in test for test in tests)]
    known = [name for name in names if name.partition("@")[0] in RANKING]
    settings = [{**(line.get("settings") or {}), **(line.get("run_settings") or {})} for line in lines]
    chosen = [str(entry.get("valid_metric", "")).lower() for entry in settings]
    wanted = [DEFAULT_METRIC, *(f"ndcg@{name.partition('@')[2]}" for name in chosen), *chosen, *known]
    return next((name for name in wanted if name in known), DEFAULT_METRIC)


def _report_folder(results: Path, folder: Path | None) -> Path:
    return folder or results.with_name(f"{results.name.removesuffix('.jsonl')}-report")


def _check_folder(folder: Path, option: str) -> None:
    from recbole_hellm.benchmark.lines import unwritable

    problem = unwritable(folder)
    if problem:
        raise _no_report(folder, problem, option)


def _no_report(folder: Path, why: str, option: str) -> ArtifactError:
    return ArtifactError(f"report cannot be written to {folder} ({why}); give another {option} DIR")
