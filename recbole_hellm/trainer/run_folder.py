"""Where a run keeps its models: a folder named by what decides its result, used by one run at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from recbole_hellm import distributed
from recbole_hellm.artifacts import fingerprint
from recbole_hellm.checkpoints.folders import settle
from recbole_hellm.checkpoints.model_folder import load_json
from recbole_hellm.errors import ArtifactError
from recbole_hellm.results import plain

BEST, LAST, DONE = "best", "last", "done"
"""The model that validation chose, the state to go on from, and the mark of a training that has ended."""
WITHOUT_EFFECT = frozenset(
    {
        "resume", "save_every", "result_file", "show_progress", "state", "checkpoint_dir", "stage_cache_dir",
        "data_path", "data_path_root", "source", "preset", "config_files", "device", "gpu_id", "use_gpu", "worker",
        "eval_batch_size", "train_rows_at_once", "memory_limit_gb",
        "llm_sharded", "log_wandb", "wandb_project", "tensorboard", "save_dataset", "dataset_save_path",
        "save_dataloaders", "dataloaders_save_path", "nproc", "ip", "port", "local_rank", "world_size", "offset",
        "single_spec",
    }
)  # fmt: skip
"""Settings that may differ between a run and its continuation: where things are, and how fast they go."""
_MOST = 100


def stored_settings(config: Any) -> dict[str, Any]:
    """Return settings as a checkpoint holds them: those that were given, and all."""
    final = {key: value for key, value in config.final_config_dict.items() if key != "device"}
    return {
        "model": str(config["model"]),
        "dataset": str(config["dataset"]),
        "given": {str(key): plain(value) for key, value in config.external_config_dict.items()},
        "final": {str(key): plain(value) for key, value in final.items()},
    }


def deciding(final: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that decide a result, as plain values."""
    return {str(key): plain(value) for key, value in final.items() if key not in WITHOUT_EFFECT}


def run_key(config: Any, events: str, judges: str, stages: Sequence[str]) -> str:
    """Return what names a run: a digest of all that decides its result.

    Args:
        config: Settings.
        events: Digest of the training events.
        judges: Digest of the validation events, which choose the epoch; empty without any.
        stages: Keys of the stages' results: item texts, features and the like enter through them.
    """
    return fingerprint(settings=deciding(config.final_config_dict), events=events, judges=judges, stages=sorted(stages))


def run_stem(config: Any) -> str:
    """Return the part of a run folder's name that a user recognises."""
    return f"{config['model']}-{config['dataset']}-{config['seed']}"


@contextmanager
def shared_run_folder(root: Path, stem: str, key: str) -> Iterator[Path]:
    """Give the folder of a run to all its processes; the main one alone holds it, and writes there."""
    if not distributed.is_main():
        yield Path(distributed.of_main(""))
        return
    with run_folder(root, stem, key) as folder:
        distributed.of_main(str(folder))
        yield folder


@contextmanager
def run_folder(root: Path, stem: str, key: str) -> Iterator[Path]:
    """Give the folder of a run, which no other run uses inside.

    Where an equal run is under way in another process or object, a numbered folder beside it is taken; one with a
    state to go on from comes first.

    Raises:
        ArtifactError: If the folder cannot be made.
    """
    names = [root / f"{stem}-{key[:12]}{'' if number == 1 else f'-{number}'}" for number in range(1, _MOST)]
    there = [folder for folder in names if (folder / LAST).is_dir() or (folder / DONE).is_dir()]
    for folder in dict.fromkeys([*there, *names]):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder / ".lock")
            lock.acquire(timeout=0)
        except Timeout:
            continue
        except OSError as error:
            raise ArtifactError(
                f"folder {folder} for models cannot be written ({error.strerror or error}); set checkpoint_dir to a "
                "folder that can be written to"
            ) from error
        try:
            settle(folder)
            yield folder
        finally:
            lock.release()
        return
    raise ArtifactError(
        f"{_MOST} runs with these settings are under way in {root}; set checkpoint_dir to another folder"
    )


def why_nothing(root: Path, stem: str, final: Mapping[str, Any]) -> str:
    """Return in words why there is nothing to go on from: the settings that differ from an interrupted run."""
    mine = deciding(final)
    for folder in sorted(root.glob(f"{stem}-*/{LAST}"), key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            theirs = deciding(load_json(folder / "settings.json")["final"])
        except (ArtifactError, KeyError, TypeError):
            continue
        differ = [key for key in sorted({*mine, *theirs}) if mine.get(key) != theirs.get(key)]
        told = ", ".join(f"{key!r} was {theirs.get(key)!r} and is {mine.get(key)!r}" for key in differ[:3])
        more = f" and {len(differ) - 3} more" if len(differ) > 3 else ""
        return f"the state in {folder} is of other settings: {told}{more}" if differ else (
            f"the state in {folder} is of other training or validation events, or of other item features"
        )  # fmt: skip
    return f"{root} has no state of an interrupted run of {stem}"
