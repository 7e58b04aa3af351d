"""Runs that are killed at a step and continued, compared with one that nobody disturbed."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from recbole_hellm.checkpoints import folders, random_state, steps
from recbole_hellm.errors import HellmError
from recbole_hellm.quick_start import run_recbole_hellm
from recbole_hellm.signals import Stopped
from recbole_hellm.testing import CHECKERBOARD, checkerboard_settings
from recbole_hellm.trainer.saving import SavingMixin

WAYS = ("SIGTERM", "SIGINT", "exception", "disk full", "SIGKILL")


class Broken(Exception):
    """Raised in the middle of a training."""


@dataclass
class Outcome:
    """What a run came to, everything that must be equal."""

    last: dict[str, Any]
    """Weights after the last step."""
    optimizer: Any
    best: dict[str, str]
    """Digest of each file of the best model but the settings, which name folders."""
    metrics: Any
    curve: Any
    ranks: Any
    random: Any


def equal(one, other):
    """Whether nested values are equal to the bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    if hasattr(one, "tobytes"):
        return one.tobytes() == other.tobytes()
    return one == other


def differences(one: Outcome, other: Outcome):
    """Names of what is not equal."""
    return [name for name in vars(one) if not equal(getattr(one, name), getattr(other, name))]


class Runs:
    """Runs of one model in one folder each, on the toy data set."""

    def __init__(self, root: Path, llm: Path, patch: pytest.MonkeyPatch) -> None:
        self.root, self.llm, self.patch = root, llm, patch
        self.steps: list[str] = []

    def settings(self, name: str, **changes):
        base = {"graph_backend": "torch", "epochs": 3, "stopping_step": 10, "save_every": "2 steps"}
        made = checkerboard_settings(self.root, self.llm, **{**base, **changes})
        here = {key: str(self.root / name / key) for key in ("checkpoint_dir", "stage_cache_dir")}
        return {**made, **here, "result_file": str(self.root / name / "result.json")}

    def go(self, model: str, name: str, **changes) -> Outcome:
        """Run to the end."""
        noted: dict[str, Any] = {}
        load = SavingMixin.load_model

        def noting(trainer, *args):
            noted.setdefault("last", {k: v.clone() for k, v in torch.nn.Module.state_dict(trainer.model).items()})
            return load(trainer, *args)

        with self.patch.context() as patch:
            patch.setattr(SavingMixin, "load_model", noting)
            result = run_recbole_hellm(model, CHECKERBOARD, config_dict=self.settings(name, **changes))
        trainer, best = result["trainer"], Path(result["trainer"].saved_model_file)
        files = folders.read_manifest(best)["files"]
        records = [(r.epoch, r.loss, r.valid) for r in trainer.epoch_records]
        stages = {r.name: r.loss for r in getattr(trainer, "stage_records", [])}
        return Outcome(
            noted["last"],
            trainer.optimizer.state_dict() if trainer.optimizer is not None else None,
            {file: digest for file, digest in files.items() if file != "settings.json"},
            (result["best_valid_score"], result["best_valid_result"], result["test_result"], result["best_epoch"]),
            (records, list(trainer.step_records), trainer.train_loss_dict, stages),
            trainer.ranks,
            random_state.capture({}),
        )

    def kill(self, model: str, name: str, step: int, way: str, **changes) -> None:
        """Run until ``step`` steps (of stages and model together) are done, and end it in some way there."""
        if way == "SIGKILL":
            self._in_a_child(model, name, step, changes)
            return
        expected = {"exception": Broken, "disk full": (HellmError, OSError)}.get(way, Stopped)
        with self.patch.context() as patch:
            self._arm(patch, step, way)
            with pytest.raises(expected):
                run_recbole_hellm(model, CHECKERBOARD, config_dict=self.settings(name, **changes))

    def _arm(self, patch, step: int, way: str) -> None:
        note, count = steps.StepLoop._did_step, {"done": 0, "full": False}

        def did_step(loop, *args):
            note(loop, *args)
            count["done"] += 1
            if count["done"] != step:
                return
            if way == "exception":
                raise Broken
            if way == "disk full":
                count["full"] = True
                return
            os.kill(os.getpid(), getattr(signal, way))

        write = folders.file_digest

        def digest(path):
            if count["full"]:
                raise OSError(28, "No space left on device", str(path))
            return write(path)

        patch.setattr(steps.StepLoop, "_did_step", did_step)
        patch.setattr(folders, "file_digest", digest)

    def _in_a_child(self, model, name, step, changes) -> None:
        child = os.fork()
        if child == 0:
            try:
                self._arm(self.patch, step, "SIGKILL")
                run_recbole_hellm(model, CHECKERBOARD, config_dict=self.settings(name, **changes))
            finally:
                os._exit(3)  # not reached
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), f"the child ended by itself, with {os.waitstatus_to_exitcode(status)}"
        assert os.WTERMSIG(status) == signal.SIGKILL
