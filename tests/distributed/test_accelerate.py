"""Runs started by ``accelerate launch`` with the configs that are shipped."""

import json
import re

import pytest
from processes import free_port

from recbole_hellm.config.resources import accelerate_config
from recbole_hellm.testing import CHECKERBOARD

SECONDS = 200
TOLD = ("best_valid_result", "test_result", "best_epoch")
CLOSE = 1e-5


def shipped(name, *options):
    return [str(accelerate_config(name)), *options]


def result(runs, name, process):
    out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, err
    assert out.count(f"HeLLM on {CHECKERBOARD}") == 1, "one process prints the metrics"
    return json.loads((runs.root / name / "result.json").read_text())


@pytest.fixture(scope="module")
def by_nproc(runs):
    """What two processes give that were not started by accelerate."""
    first = runs.go(2, "by-nproc", epochs=1)[0]
    return {key: first[key] for key in TOLD}


def largest_difference(runs, one, other):
    one, other = runs.state(one), runs.state(other)
    assert one.keys() == other.keys()
    return max(float((one[key].float() - other[key].float()).abs().max()) for key in one if one[key].numel())


def test_two_processes_of_the_config_give_what_nproc_gives(command, runs, by_nproc):
    made = result(runs, "cpu-2", command(shipped("cpu-2"), "cpu-2", epochs=1))
    assert made["processes"] == 2
    assert {key: made[key] for key in TOLD} == by_nproc
    assert largest_difference(runs, "cpu-2", "by-nproc") == 0


def test_the_config_of_fsdp2_splits_the_language_model(command, runs, by_nproc):
    made = result(runs, "fsdp2", command(shipped("fsdp2"), "fsdp2", epochs=1))
    assert made["processes"] == 2
    assert made["settings"]["llm_sharded"] is True
    assert largest_difference(runs, "fsdp2", "by-nproc") < CLOSE


@pytest.mark.long
def test_two_machines_on_one(command, runs, by_nproc):
    where = [f"--main_process_port={free_port()}", "--num_processes=2"]
    second = command(shipped("machines-2", *where, "--machine_rank=1"), "machines", epochs=1)
    made = result(runs, "machines", command(shipped("machines-2", *where), "machines", epochs=1))
    assert second.wait(timeout=SECONDS) == 0
    assert made["processes"] == 2
    assert {key: made[key] for key in TOLD} == by_nproc


LATE = """
import os, time
if "LOCAL_RANK" in os.environ:
    time.sleep(4.0 if os.environ["RANK"] == "{}" else 0)
"""


@pytest.mark.parametrize("late", [0, 1])
def test_what_a_run_does_not_do_ends_in_one_line(command, tmp_path, monkeypatch, late):
    (tmp_path / "sitecustomize.py").write_text(LATE.format(late))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    text = accelerate_config("fsdp2").read_text().replace("efficient_loading: false", "efficient_loading: true")
    (tmp_path / "own.yaml").write_text(text)
    process = command([str(tmp_path / "own.yaml")], "refused-fsdp")
    _, err = process.communicate(timeout=SECONDS)
    assert process.returncode != 0
    said = [line for line in err.splitlines() if re.search(r"\berror: ", line)]
    assert len(said) == 1, err
    assert said[0].startswith("process 0: error: accelerate config: 'fsdp_cpu_ram_efficient_loading' = true is not for")
