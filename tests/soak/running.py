"""Many small runs in one process, of every kind, with a sample of the process after each.

``python tests/soak/running.py FOLDER FIRST N`` does it and writes ``FOLDER/samples-FIRST.jsonl``: a line a run.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from measuring import changed, stray, switches, take

from recbole_hellm.checkpoints import steps
from recbole_hellm.config.recbole_config import find_model
from recbole_hellm.errors import HellmError
from recbole_hellm.quick_start import run_recbole_hellm
from recbole_hellm.signals import Stopped
from recbole_hellm.testing import CHECKERBOARD, checkerboard_settings, tiny_llm

KINDS = ("new", "sasrec", "mmhcl", "stopped", "resumed", "again", "refit", "nan", "bad setting", "bad learner")
"""What the runs of a round are: stages made, stages reused, RecBole's own model, two trainings, and so on."""


class Soak:
    """Runs in one folder, with all they share."""

    def __init__(self, root: Path) -> None:
        self.root = root
        if not (root / "llm").is_dir():
            tiny_llm(root / "llm")

    def run(self, number: int) -> str:
        """Do the run of some number; returns its kind.

        Raises:
            AssertionError: If the run did not do what its kind says.
        """
        round_, place = divmod(number, len(KINDS))
        kind = KINDS[place]
        getattr(self, f"_{kind.replace(' ', '_')}")(round_)
        return kind

    def _go(self, model: str, name: str, seed: int, **changes: Any) -> dict[str, Any]:
        # The seed of a round: its stages are made by its first run and reused by those that follow.
        base = {"fusion": "learned", "seed": seed, "result_file": str(self.root / "results" / f"{name}-{seed}.json")}
        settings = checkerboard_settings(self.root, self.root / "llm", **{**base, **changes})
        return run_recbole_hellm(model, CHECKERBOARD, config_dict=settings)

    def _new(self, seed: int) -> None:
        result = self._go("HeLLM", "new", seed)
        assert self._stages(result) == {"graph": "ran", "sequence": "ran"}
        assert Path(result["result_file"]).is_file()
        assert Path(result["trainer"].saved_model_file).is_dir()

    def _again(self, seed: int) -> None:
        assert self._stages(self._go("HeLLM", "again", seed, epochs=1)) == {"graph": "reused", "sequence": "reused"}

    def _sasrec(self, seed: int) -> None:
        assert self._go("SASRec", "sasrec", seed)["test_result"]

    def _refit(self, seed: int) -> None:
        result = self._go("HeLLM", "refit", seed, epochs=1, fit_on="train+valid")
        assert self._stages(result)["graph (refit)"] == "ran"

    def _bad_setting(self, seed: int) -> None:
        self._fails("prefix_len", "HeLLM", "bad", seed, prefix_len=-1)

    def _bad_learner(self, seed: int) -> None:
        self._fails("learner", "HeLLM", "bad", seed, learner="sgd")  # found when half of the trainer is built

    def _mmhcl(self, seed: int) -> None:
        assert self._go("MMHCL", "mmhcl", seed)["test_result"]

    def _nan(self, seed: int) -> None:
        model = find_model("HeLLM")
        plain = model.calculate_loss
        with patch.object(model, "calculate_loss", lambda net, rows: plain(net, rows) * float("nan")):
            self._fails("training loss is nan", "HeLLM", "nan", seed)

    def _stopped(self, seed: int) -> None:
        note, count = steps.StepLoop._did_step, []

        def did_step(loop: Any, *args: Any) -> None:
            note(loop, *args)
            count.append(1)
            if len(count) == 3:
                os.kill(os.getpid(), signal.SIGTERM)

        # Every other round in the first stage, which has a seed of its own then.
        with patch.object(steps.StepLoop, "_did_step", did_step), pytest.raises(Stopped) as stop:
            self._go("HeLLM", "stopped", self._other(seed), save_every="1 step", epochs=3)
        assert stop.value.kept, "nothing was kept"

    def _resumed(self, seed: int) -> None:
        result = self._go("HeLLM", "resumed", self._other(seed), save_every="1 step", epochs=3, resume="yes")
        assert self._stages(result)["graph"] == ("ran" if seed % 2 else "reused")

    def _other(self, seed: int) -> int:
        return seed + 100_000 if seed % 2 else seed

    def _fails(self, words: str, *args: Any, **changes: Any) -> None:
        with pytest.raises(HellmError, match=words):
            self._go(*args, **changes)

    def _stages(self, result: dict[str, Any]) -> dict[str, str]:
        names = ("graph", "sequence")
        return {s["name"]: s["status"] for s in result["stages"] if s["name"].startswith(names)}


def soak(root: Path, first: int, n_runs: int) -> Iterator[dict[str, Any]]:
    """Do the runs from ``first`` on; gives number, kind, seconds, sample and what was left or changed by each."""
    temporary = root / f"tmp-{first}"
    temporary.mkdir(parents=True)
    os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)  # other programs use the common one at the same time
    os.chdir(root)
    runs, before = Soak(root), None
    for number in range(first, first + n_runs):
        started = time.perf_counter()
        kind = runs.run(number)
        seconds = time.perf_counter() - started
        now, sample = switches(), take()
        # The first run loads libraries, and RecBole makes the process deterministic: that stays.
        left = [] if before is None else changed(before, now)
        before = now
        if kind != "stopped":
            left += [f"stray file {name}" for name in stray(root)]
        yield {"run": number, "kind": kind, "seconds": round(seconds, 3), "left": left, **asdict(sample)}


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, begin, count = Path(sys.argv[1]).resolve(), int(sys.argv[2]), int(sys.argv[3])
    sys.argv = sys.argv[:1]  # RecBole's own Config reads it
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"samples-{begin}.jsonl").open("w") as lines:
        for line in soak(folder, begin, count):  # kept nowhere here: this process is what is measured
            lines.write(json.dumps(line) + "\n")
            lines.flush()
