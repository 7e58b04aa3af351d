"""The sub-command ``tune`` of ``recbole-hellm``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recbole_hellm.benchmark.commands import add_imports, add_settings_files

TAKE_SETTINGS = ("tune",)
"""Sub-commands that read every other ``--key=value`` as a setting of all trials."""
_CHANGES = ("metric", "sampler", "trials", "minutes", "minutes_per_trial", "pruner")


def add_parsers(commands: Any) -> None:
    """Add the sub-command; nothing heavy is imported before it runs."""
    tune = commands.add_parser(
        "tune",
        help="search settings on validation: --model HeLLM --dataset NAME --plan HeLLM-quick",
        description="Search the settings of one model on one data set: trials in processes of their own, chosen on "
        "validation, weak ones ended early, finished stages shared. The test split is not read. The same command goes "
        "on where it was stopped; started twice, the two share the trials. Every other --key=value is fixed in all "
        "trials, and not searched.",
        allow_abbrev=False,
    )
    tune.add_argument("--model", default="", help="name of a model of this package or of RecBole (default: the plan's)")
    tune.add_argument("--dataset", required=True, help="name of a data set")
    tune.add_argument("--plan", required=True, help="name of a plan of this package, or a yaml file")
    tune.add_argument("--study", help="name of the study (default: from plan and data set)")
    tune.add_argument("--output", type=Path, default=Path("tuned"), metavar="DIR", help="folder (default: tuned)")
    tune.add_argument("--metric", help="metric of validation that is to be best")
    tune.add_argument("--sampler", help="tpe, random or grid")
    tune.add_argument("--trials", help="trials in total, earlier calls included; 0: the report alone")
    tune.add_argument("--minutes", help="time of all trials together, earlier calls included, or none")
    tune.add_argument("--minutes-per-trial", help="training time of a run, its stages included, or none")
    tune.add_argument("--pruner", help="median, halving or none")
    tune.add_argument("--seeds", help="a number of seeds (3: 2020, 2021, 2022) or seeds with commas (7,8)")
    add_settings_files(tune, "fixed settings")
    add_imports(tune)
    tune.set_defaults(run=_tune)


def _tune(options: argparse.Namespace, rest: Sequence[str]) -> int:
    """Check, run and report a study."""
    from recbole_hellm.benchmark.checks import import_models
    from recbole_hellm.benchmark.plan_files import find_plan, plan_imports
    from recbole_hellm.benchmark.progress import say
    from recbole_hellm.config.recbole_config import merged, parse_arguments, read_yaml
    from recbole_hellm.tune.checks import check_plan
    from recbole_hellm.tune.identity import identity
    from recbole_hellm.tune.plan import check_name, load_plan, study_name
    from recbole_hellm.tune.report import write_report
    from recbole_hellm.tune.runner import keep, run_study
    from recbole_hellm.tune.study import Study

    settings: dict[str, Any] = {}
    for file in options.config:
        settings = merged(settings, read_yaml(Path(file)))
    settings = merged(settings, parse_arguments(rest))
    path = find_plan(options.plan, "tune")
    import_models((*plan_imports(path), *options.imports))
    plan = load_plan(path, options.model, options.dataset, _changes(options), settings)
    name = check_name(options.study or study_name(path, plan))
    config = check_plan(plan)
    study = Study(options.output / name, plan, identity(plan, config), bool(config["valid_metric_bigger"]))
    ran = run_study(study)
    keep(study)
    say(f"{ran} ran now, {len(study.records())} in all: {study.left()}\n")
    say(write_report(study, name))
    return 0


def _changes(options: argparse.Namespace) -> dict[str, Any]:
    """Return what the command line says of the search."""
    from recbole_hellm.benchmark.commands import numbers
    from recbole_hellm.config.recbole_config import parse_arguments

    changes: dict[str, Any] = {}
    for key in _CHANGES:
        text = getattr(options, key)
        if text is not None:
            changes |= parse_arguments([f"--{key}={text}"])
    if options.seeds is not None:
        changes["seeds"] = numbers(options.seeds)
    return changes
