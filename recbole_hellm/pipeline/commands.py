"""The sub-commands ``signal`` and ``encode`` of ``recbole-hellm``."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

TAKE_SETTINGS = ("signal", "encode")
"""Sub-commands that read every other ``--key=value`` as a setting of a run."""


def add_parsers(commands: Any, run: Callable[[argparse.Namespace, Sequence[str]], int]) -> None:
    """Add the sub-commands; nothing heavy is imported before one of them runs.

    Args:
        commands: Where to add them.
        run: Prints what ``options.answer(options, rest)`` returns.
    """
    signal = commands.add_parser(
        "signal",
        help="does an item feature tell what is taken next? --dataset=NAME [--item_features=[text,image]]",
        description="Rank the items of a data set by their nearness to a user's newest ones in each item feature "
        "alone, beside shuffled features, popularity and chance. Every other --key=value is a setting of a run.",
        allow_abbrev=False,
    )
    signal.add_argument("--on", choices=("valid", "test"), default="valid", help="whose targets (default: valid)")
    signal.add_argument("--users", type=int, default=0, metavar="N", help="N users, evenly spread (default: all)")
    signal.set_defaults(run=run, answer=_signal)

    encode = commands.add_parser(
        "encode",
        help="write item features as files to keep or hand on: --dataset=NAME [--item_features=[text,image]]",
        description="Encode the item features of a data set and write NAME.safetensors with NAME.ids.txt, which runs "
        "then read instead of encoding. Every other --key=value is a setting of a run.",
        allow_abbrev=False,
    )
    encode.add_argument("--output", type=Path, metavar="DIR", help="folder (default: features/ of the data set)")
    encode.add_argument("--force", action="store_true", help="replace files that are there")
    encode.set_defaults(run=run, answer=_encode)


def config_files(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the files of ``--config_files=a.yaml,b.yaml`` and the other arguments."""
    given = [argument for argument in arguments if argument.startswith("--config_files=")]
    names = [name for argument in given for name in argument.partition("=")[2].replace(",", " ").split()]
    return names, [argument for argument in arguments if argument not in given]


def _settings(rest: Sequence[str]) -> Any:
    """Return the settings of a run; of which model does not matter."""
    from recbole_hellm.config.recbole_config import HellmConfig

    files, others = config_files(rest)
    chosen = [] if any(argument.startswith("--model=") for argument in others) else ["--model=HeLLM"]
    return HellmConfig(config_file_list=files, argv=[*chosen, *others])


def _signal(options: argparse.Namespace, rest: Sequence[str]) -> str:
    from recbole_hellm.pipeline.signal import feature_signal

    return str(feature_signal(_settings(rest), options.on, options.users))


def _encode(options: argparse.Namespace, rest: Sequence[str]) -> str:
    from recbole_hellm.pipeline.encode import encode_features

    return "\n".join(map(str, encode_features(_settings(rest), options.output, options.force)))
