"""Fixtures of the tests with several processes."""

import os
import signal
import subprocess
import sys

import pytest
import yaml
from interrupts import hear_interrupts
from processes import together

from recbole_hellm.checkpoints.model_folder import read_model
from recbole_hellm.quick_start import run_recbole_hellm
from recbole_hellm.testing import CHECKERBOARD, checkerboard_settings, tiny_llm

SAME = {
    "graph_backend": "torch", "finetune_dropout": 0.0, "prefix_dropout": 0.0, "learning_rate": 1e-3, "epochs": 2,
    "train_batch_size": 15, "stopping_step": 10, "metrics": ["Recall", "NDCG", "MRR", "ItemCoverage", "GAUC"],
}  # fmt: skip
"""Without dropout, whose draws differ by process; batches of 15, 15 and 10 rows."""


class Runs:
    """Runs of HeLLM on the toy data by one process or several, each in a folder of its own, on one stage cache."""

    def __init__(self, root, llm):
        self.root, self.llm = root, llm

    def settings(self, name, **changes):
        made = checkerboard_settings(self.root, self.llm, **{**SAME, **changes})
        here = self.root / name
        return {**made, "checkpoint_dir": str(here / "saved"), "result_file": str(here / "result.json")}

    def outcome(self, name, changes):
        """Run to the end; what a test compares."""
        result = run_recbole_hellm("HeLLM", CHECKERBOARD, config_dict=self.settings(name, **changes))
        trainer = result["trainer"]
        last = {k: p.detach().numpy() for k, p in trainer.model.named_parameters() if p.requires_grad}
        told = ("best_valid_score", "best_valid_result", "test_result", "best_epoch")
        losses = [record.loss for record in trainer.epoch_records]
        stages = [record["name"] for record in result["stages"] if record["status"] == "ran"]
        return {**{key: result[key] for key in told}, "ranks": trainer.ranks, "tested": last, "losses": losses,
                "ran": stages, "written": result["result_file"]}  # fmt: skip

    def go(self, count, name, **changes):
        """Run by so many processes; the outcome of each."""
        return together(count, self.root / "told" / name, self.outcome, name, changes)

    def state(self, name, which="best"):
        """The tensors of a kept model."""
        (folder,) = (self.root / name / "saved").glob(f"*/{which}")
        return read_model(folder).state


@pytest.fixture(scope="module")
def runs(tmp_path_factory, one_thread):
    root = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["pytest"])
        patch.chdir(root)
        checkerboard_settings(root, root / "llm")  # writes the data
        yield Runs(root, tiny_llm(root / "llm"))


SCRIPT = "run_recbole_hellm.py"
ACCELERATE = ["-m", "accelerate.commands.launch", "--config_file"]


@pytest.fixture
def command(runs, request, tmp_path):
    """Start the command on the toy data: by ``--nproc``, ``torchrun`` (two), or options of ``accelerate launch``."""
    running = []

    def start(how, name, *argv, model="HeLLM", **changes):
        settings = {**runs.settings(name, **changes), "state": "INFO"}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(settings))
        script = str(request.config.rootpath / SCRIPT)
        ways = {"torchrun": ["-m", "torch.distributed.run", "--nproc-per-node=2", script], "--nproc": [script]}
        begin = ways[how] if isinstance(how, str) else [*ACCELERATE, *how, script]
        more = [f"--model={model}", f"--dataset={CHECKERBOARD}", f"--config_files={tmp_path / name}.yaml", *argv]
        more += ["--nproc=2"] if how == "--nproc" else []
        env = {key: value for key, value in os.environ.items() if key not in ("RANK", "LOCAL_RANK", "WORLD_SIZE")}
        process = subprocess.Popen([sys.executable, *begin, *more], cwd=tmp_path, text=True, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, env={**env, "NO_COLOR": "1"}, start_new_session=True,
                                   preexec_fn=hear_interrupts)  # fmt: skip
        running.append(process)
        return process

    yield start
    for process in running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
