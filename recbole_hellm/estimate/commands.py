"""The sub-command ``estimate`` of ``recbole-hellm``."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Sequence
from typing import Any

from recbole_hellm.pipeline.commands import config_files

TAKE_SETTINGS = ("estimate",)
"""Sub-commands that read every other ``--key=value`` as a setting of a run."""


def add_parsers(commands: Any, run: Callable[[argparse.Namespace, Sequence[str]], int]) -> None:
    """Add the sub-command; nothing heavy is imported before it runs.

    Args:
        commands: Where to add it.
        run: Prints what ``options.answer(options, rest)`` returns.
    """
    parser = commands.add_parser(
        "estimate",
        help="memory and time of a run before it starts: --model=HeLLM --dataset=NAME [--key=value ...]",
        description="Print memory and time of every stage of a run, from its settings, the data set's sizes and one "
        "second of measuring this machine. Every --key=value is a setting of the run. Nothing is run.",
        allow_abbrev=False,
    )
    parser.set_defaults(run=run, answer=_estimate)


def estimate_run(
    config_file_list: Sequence[str] = (), config_dict: dict[str, Any] | None = None, argv: Sequence[str] = ()
) -> Any:
    """Return the :class:`~recbole_hellm.estimate.answer.Estimate` of a run, with times, from its settings.

    Args:
        config_file_list: Yaml files with settings.
        config_dict: Settings, ``model`` and ``dataset`` among them.
        argv: ``--key=value`` arguments.

    Raises:
        HellmError: If a setting is wrong, or a file that decides the sizes is missing or broken.
    """
    from recbole_hellm.config.recbole_config import HellmConfig
    from recbole_hellm.costs.calibration import calibrate
    from recbole_hellm.costs.free_memory import resident_bytes
    from recbole_hellm.estimate.admission import resolve_batches
    from recbole_hellm.estimate.cached import reused_stages
    from recbole_hellm.estimate.planning import estimate
    from recbole_hellm.estimate.sizes import run_shape

    config = HellmConfig(None, None, config_file_list, config_dict, argv)
    resolve_batches(config)
    run, base = run_shape(config), resident_bytes()  # before anything is read
    wanted = {"features": run.features, "graph": run.graph and not run.graph_is_model, "sequence": run.sequence}
    reused = reused_stages(config, tuple(name for name, there in wanted.items() if there), run.data.events.tokens)
    return estimate(config, calibrate(), reused, base)


def _estimate(options: argparse.Namespace, rest: Sequence[str]) -> str:
    files, others = config_files(rest)
    level = logging.getLogger().level
    logging.getLogger().setLevel(logging.WARNING)  # RecBole tells at length what it reads
    try:
        return str(estimate_run(files, argv=others))
    finally:
        logging.getLogger().setLevel(level)
