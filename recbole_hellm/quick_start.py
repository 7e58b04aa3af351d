"""One call that trains and tests one model, ours or RecBole's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from logging import getLogger
from pathlib import Path
from typing import Any

import numpy as np
from recbole.utils import init_logger, init_seed

from recbole_hellm import compat, distributed, leftovers, plugin, registry, signals
from recbole_hellm.config.recbole_config import HellmConfig
from recbole_hellm.config.specs import RunSpec
from recbole_hellm.data.prepare import DATASETS, prepare
from recbole_hellm.errors import ConfigError, DataError, nearest
from recbole_hellm.estimate.admission import admit
from recbole_hellm.fitting import Fit, refit_settings
from recbole_hellm.results import check_writable, commit, write_result
from recbole_hellm.run_record import curves, describe_fusion, describe_run
from recbole_hellm.trainer.epochs import EpochRecord
from recbole_hellm.trainer.quiet import quiet_ranks

logger = getLogger(__name__)
SHIPPED = "ml-100k"
"""The data set that comes with RecBole, so that preparing it downloads nothing."""


def run_recbole_hellm(
    model: str | type | None = None,
    dataset: str | None = None,
    config_file_list: Sequence[str | Path] | None = None,
    config_dict: Mapping[str, Any] | None = None,
    saved: bool = True,
    argv: Sequence[str] = (),
    *,
    test: bool = True,
    after_validation: Callable[[EpochRecord], bool] | None = None,
) -> dict[str, Any]:
    """Train ``model`` on ``dataset`` and test it; arguments and result as RecBole's ``run_recbole``, and more.

    Args:
        model: Name of a model of this package or of RecBole, or a class.
        dataset: Name of a data set under ``data_path``.
        config_file_list: Yaml files with settings.
        config_dict: Settings.
        saved: Whether the best model is saved and loaded for the test.
        argv: ``--key=value`` arguments.
        test: Whether the trained model is evaluated; without it the test split is never scored, and the result has
            what validation said during training alone.
        after_validation: Gets the record of every validated epoch; where it returns true, training ends there.

    Returns:
        ``best_valid_score``, ``valid_score_bigger``, ``best_valid_result``, ``test_result`` (``None`` with
        ``train_stage=pretrain`` and without ``test``), ``test_result_without_fusion`` (``None`` where scores are not
        fused), ``best_epoch``, ``stages``, ``result_file`` (``None`` on a process that writes none), ``trainer``,
        ``config``, ``loaders`` (RecBole's for training, validation and test, as the epoch was chosen on them).

    Raises:
        HellmError: If a setting, a data file or a stored result is wrong; one line that names it.
        Stopped: If SIGTERM or SIGINT asked for it; what can be kept is kept.
    """
    if isinstance(model, type):
        model = _registered(model)
    with signals.watch(), compat.without_pickles(), leftovers.cleared():
        config = HellmConfig(model, dataset, config_file_list, config_dict, argv)
        with distributed.joined(config["device"]), quiet_ranks(config):
            return _run(config, saved, test, after_validation)


def _run(
    config: HellmConfig, saved: bool, test: bool, after_validation: Callable[[EpochRecord], bool] | None
) -> dict[str, Any]:
    run = RunSpec.from_config(config.final_config_dict)
    refitted = refit_settings(config) if run.fit_on == "train+valid" else None
    path = Path(run.result_file or f"results/{config['model']}-{config['dataset']}-{config['seed']}-{_now()}.json")
    with distributed.main_first():
        ensure_prepared(config)
        if distributed.is_main():
            check_writable(path)
    init_seed(config["seed"], config["reproducibility"])
    if distributed.is_main():
        init_logger(config)
    logger.info("model %s, data set %s in %s, seed %s", *(config[k] for k in ("model", "dataset", "data_path", "seed")))
    admit(config)
    code = commit()  # the code as it was loaded, whatever is committed during a long run
    fit = Fit(config, saved)
    fit.trainer.after_validation = after_validation
    outcome: dict[str, Any] = {
        "best_valid_score": None,
        "valid_score_bigger": config["valid_metric_bigger"],
        "best_valid_result": None,
        "test_result": None,
        "test_result_without_fusion": None,
        "best_epoch": None,
    }
    ranks: dict[str, dict[str, np.ndarray]] = {}
    tested = fit
    fit.run_stages()
    if run.only_pretrains:
        fit.only_pretrain()
    else:
        outcome |= fit.train()
    if test and not run.only_pretrains:
        ranks["valid"] = fit.validate()
        if refitted is not None:
            tested = fit.refit(refitted, outcome["best_epoch"])
        outcome["test_result"], ranks["test"] = tested.test()
        outcome["test_result_without_fusion"] = tested.test_without_fusion()
    parts = fit.records if tested is fit else [*fit.records, *tested.records]
    about = describe_run(config, fit.data, fit.loaders, fit.trainer, parts)
    about["fusion"] = describe_fusion(tested.trainer.model)
    about["evaluation_users_per_second"] = tested.trainer.users_per_second
    about["processes"] = distributed.world_size()
    if distributed.is_main():
        write_result(path, {**about, "curves": curves(fit.trainer), "commit": code, **outcome}, ranks)
        logger.info("result written to %s", path)
    written = str(path) if distributed.is_main() else None
    more = {"stages": parts, "result_file": written, "trainer": tested.trainer, "config": config}
    return {**outcome, **more, "loaders": fit.loaders}


def _registered(model: type) -> str:
    """Return the name of a model class, registering it if it is new."""
    name = model.__name__
    if model.__module__.startswith("recbole.model."):
        return name  # RecBole knows its own, and which trainer each of them needs
    if name not in registry.models:
        registry.models.add(name, model)
    elif registry.models.get(name) is not model:
        raise ConfigError(
            f"model {name!r} is already registered with another class; choose another name, or call "
            f"recbole_hellm.registry.models.remove({name!r}) first"
        )
    plugin.register()
    return name


def ensure_prepared(config: Any) -> None:
    """Check that the data set lies where RecBole will look; prepare it where its source is at hand.

    Nothing is ever downloaded.

    Raises:
        DataError: If the data set is not there; the message names the command that makes it.
    """
    name, folder = config["dataset"], Path(config["data_path"])
    if (folder / f"{name}.inter").is_file():
        return
    source = config["source"]
    root = Path(config["data_path_root"])
    if name == SHIPPED or (name in DATASETS and source):
        prepare(name, Path(source) if source else None, root)
        return
    if name in DATASETS:
        raise DataError(
            f"data set {name!r} is not in {folder}; run: recbole-hellm prepare {name} --output {root} (downloads the "
            "public originals; with files at hand: --source DIR there, or --source=DIR here)"
        )
    raise DataError(
        f"data set {name!r} is not in {folder}: {name}.inter does not exist{nearest(name, DATASETS)}; put RecBole's "
        f"atomic files there or set data_path; known to 'recbole-hellm prepare': {', '.join(DATASETS)}"
    )


def _now() -> str:
    return datetime.now().strftime("%Y%m%d-%H%M%S")
