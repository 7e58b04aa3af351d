"""The command ``recbole-hellm``: one sub-command for each thing to do, see ``recbole-hellm --help``."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from recbole_hellm import assets, distributed, signals
from recbole_hellm.benchmark import commands as benchmark
from recbole_hellm.config import resources
from recbole_hellm.data.prepare_arguments import add_prepare_arguments, prepare_settings
from recbole_hellm.distributed.launch import launch, take_nproc
from recbole_hellm.errors import ConfigError, HellmError
from recbole_hellm.estimate import commands as estimate
from recbole_hellm.pipeline import commands as features
from recbole_hellm.tune import commands as tune

FIRST_SPEAKS_SECONDS = 30.0
"""How long another process than the first keeps an error of the settings, which all of them meet, to itself. When the
first has said it and ended, what started them ends the others; one that ended before it would have the first ended
without a word."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one sub-command; a wrong setting or file ends in one line on standard error and exit code 2."""
    parser = _parser()
    given = list(sys.argv[1:] if argv is None else argv)
    options, rest = parser.parse_known_args(given)
    if (
        options.command
        not in (
            "train",
            *benchmark.TAKE_SETTINGS,
            *features.TAKE_SETTINGS,
            *estimate.TAKE_SETTINGS,
            *tune.TAKE_SETTINGS,
        )
        and rest
    ):
        parser.error(f"unknown argument {rest[0]!r} of {options.command}")
    options.given = given
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        return int(options.run(options, rest))
    except HellmError as error:
        if isinstance(error, ConfigError) and not _is_first():
            time.sleep(FIRST_SPEAKS_SECONDS)
        print(f"{_who()}error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:  # no right to write, disk full
        logging.getLogger(__name__).debug("where it happened:", exc_info=True)
        print(f"{_who()}error: {error}; check the path, its rights and the free space", file=sys.stderr)
        return 2
    except signals.Stopped as stop:
        kept = f"{stop.kept}; --resume=yes goes on there" if stop.kept else "finished stages and saved models are kept"
        if _is_first():  # the one that keeps
            print(f"stopped by {stop}: {kept}", file=sys.stderr)
        return stop.exit_code
    except KeyboardInterrupt:
        print("interrupted: finished stages and saved models are kept", file=sys.stderr)
        return 130


def _is_first() -> bool:
    """Return whether this is the first of several processes, or the only one; also where they are not joined."""
    return distributed.launched() == 1 or os.environ.get("RANK") == "0"


def _who() -> str:
    """Return which process of several speaks."""
    return f"process {os.environ.get('RANK', '?')}: " if distributed.launched() > 1 else ""


def train_main(argv: Sequence[str] | None = None) -> int:
    """Run ``train`` with RecBole's arguments alone (``run_recbole_hellm.py``)."""
    return main(["train", *(sys.argv[1:] if argv is None else argv)])


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, like every other error of the command."""

    def error(self, message: str) -> NoReturn:
        """Print ``message`` on standard error and leave with exit code 2."""
        self.exit(2, f"error: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="recbole-hellm", description="HeLLM on RecBole", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    train = commands.add_parser(
        "train",
        help="train and test a model: --model=HeLLM --dataset=ml-100k [--key=value ...]",
        description="Train and test a model of this package or of RecBole. Every setting is --key=value; "
        "--config_files=a.yaml,b.yaml reads settings from files; --preset=NAME takes a ready set.",
        allow_abbrev=False,
    )
    train.set_defaults(run=_train)

    prepare = commands.add_parser("prepare", help="turn source files into a RecBole data set", allow_abbrev=False)
    add_prepare_arguments(prepare)
    prepare.set_defaults(run=_prepare)

    inspect = commands.add_parser(
        "inspect",
        help="describe a data set on one page: inspect NAME",
        description="Print what is in a RecBole data set, prepared by this package or not, with what can mislead, and "
        "write the same as one HTML file.",
        allow_abbrev=False,
    )
    inspect.add_argument("name", help="name of the data set")
    inspect.add_argument(
        "--data-path", type=Path, default=Path("dataset"), help="folder of data sets (default: dataset)"
    )
    inspect.add_argument("--output", type=Path, metavar="FILE.html", help="page (default: NAME-inspect.html)")
    inspect.add_argument(
        "--images", type=Path, metavar="DIR", help="folder or .zip of pictures (default: where runs look)"
    )
    inspect.set_defaults(run=_inspect)

    features.add_parsers(commands, _answer)
    estimate.add_parsers(commands, _answer)

    models = commands.add_parser("models", help="fetch the built-in pretrained models", allow_abbrev=False)
    models.add_argument("names", nargs="*", help=f"default: all of {', '.join(assets.ASSETS)}")
    models.set_defaults(run=_models)

    accelerate = commands.add_parser(
        "accelerate",
        help="print where a config for accelerate launch lies: accelerate launch --config_file $(... accelerate fsdp2)",
        allow_abbrev=False,
    )
    accelerate.add_argument("name", nargs="?", help="name of a shipped config; default: print them all")
    accelerate.set_defaults(run=_accelerate)

    benchmark.add_parsers(commands)
    tune.add_parsers(commands)

    verify = commands.add_parser("verify", help="check against the authors' own numbers", allow_abbrev=False)
    verify.add_argument("--golden", type=Path, required=True, help="folder with config.json, stage1.npz, stage2.npz")
    verify.set_defaults(run=_verify)
    return parser


def _train(options: argparse.Namespace, rest: Sequence[str]) -> int:
    from recbole_hellm.quick_start import run_recbole_hellm
    from recbole_hellm.report import metrics_table

    count, rest = take_nproc(rest)
    if count > 1 and distributed.launched() == 1:
        return launch(count, ["train", *rest])
    files, others = features.config_files(rest)
    result = run_recbole_hellm(config_file_list=files, argv=others)
    if result["test_result"] is not None and result["result_file"]:
        print(metrics_table(result))
    return 0


def _prepare(options: argparse.Namespace, rest: Sequence[str]) -> int:
    from recbole_hellm.data.prepare import prepare

    folder = prepare(options.name, options.source, options.output, **prepare_settings(options))
    print(f"{options.name}: {folder}")
    return 0


def _inspect(options: argparse.Namespace, rest: Sequence[str]) -> int:
    from recbole_hellm.data.inspect.report import inspect_dataset

    print(inspect_dataset(options.name, options.data_path, options.output, options.images))
    return 0


def _answer(options: argparse.Namespace, rest: Sequence[str]) -> int:
    print(options.answer(options, rest))
    return 0


def _models(options: argparse.Namespace, rest: Sequence[str]) -> int:
    for name in options.names or assets.ASSETS:
        print(f"{name}: {assets.fetch(name)}")
    return 0


def _accelerate(options: argparse.Namespace, rest: Sequence[str]) -> int:
    if options.name:
        print(resources.accelerate_config(options.name))
        return 0
    for name, path in resources.accelerate_configs().items():
        print(f"{name}: {path}")
    return 0


def _verify(options: argparse.Namespace, rest: Sequence[str]) -> int:
    from recbole_hellm.verify import verify

    differences = verify(options.golden)
    for difference in differences:
        print(difference)
    failed = [difference.name for difference in differences if not difference.ok]
    print(f"{len(differences) - len(failed)} of {len(differences)} quantities agree")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
