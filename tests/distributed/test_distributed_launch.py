"""What surrounds the processes: how they are started, who fails, how they end."""

import os
import re
import signal
import time
from pathlib import Path

import pytest

from recbole_hellm.distributed import launch
from recbole_hellm.errors import ConfigError
from recbole_hellm.testing import CHECKERBOARD

SECONDS_TO_END = 30.0
LONG = {"epochs": 3000, "stopping_step": 9999, "eval_step": 1000, "save_every": "5 steps"}


def wait_for_a_state(runs, name, process):
    folder = runs.root / name / "saved"
    while not list(folder.glob("*/last/checkpoint.json")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


def workers(process):
    """Ids of the two processes, by rank."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            env = dict(part.partition(b"=")[::2] for part in (entry / "environ").read_bytes().split(b"\0"))
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
        if parent == process.pid and b"RANK" in env:
            found[int(env[b"RANK"])] = int(entry.name)
    return found


@pytest.mark.parametrize("how", ["torchrun", pytest.param("--nproc", marks=pytest.mark.long)])
def test_both_ways_train(command, runs, how):
    name = f"started-by-{how.strip('-')}"
    out, err = command(how, name, epochs=1).communicate(timeout=200)
    assert (runs.root / name / "result.json").is_file(), err
    assert out.count(f"HeLLM on {CHECKERBOARD}") == 1, "one process prints the metrics"


@pytest.mark.parametrize(
    ("how", "rank"),
    [("--nproc", 1), *(pytest.param(*case, marks=pytest.mark.long) for case in (("--nproc", 0), ("torchrun", 1)))],
)
def test_a_killed_process_ends_all_within_seconds_and_is_named(command, runs, how, rank):
    name = f"killed-{how.strip('-')}-{rank}"
    process = command(how, name, **LONG)
    wait_for_a_state(runs, name, process)
    pids = workers(process)
    assert sorted(pids) == [0, 1]
    os.kill(pids[rank], signal.SIGKILL)
    killed = time.monotonic()
    _, err = process.communicate(timeout=120)
    assert time.monotonic() - killed < SECONDS_TO_END
    assert process.returncode != 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids.values())
    if how == "--nproc":
        wanted = rf"error: process {rank} \(pid {pids[rank]}\) of this run was ended by SIGKILL"
        assert re.search(wanted, err), err
        assert process.returncode == 2
    else:
        assert f"Signal 9 (SIGKILL) received by PID {pids[rank]}" in err
    if rank == 1:  # the agent ends the first process by SIGTERM, as it does with all; if it is slow, that ends itself
        why = r"(?:stopped by SIGTERM: |another process of this run ended.*; )"
        assert len(re.findall(why + r"epoch \d+, step \d+ is kept in", err)) == 1, err


@pytest.mark.parametrize(
    ("signum", "code"),
    [(signal.SIGTERM, 75), pytest.param(signal.SIGINT, 130, marks=pytest.mark.long)],
)
def test_a_signal_to_the_agent_saves_and_ends_with_its_code(command, runs, signum, code):
    name = f"signal-{code}"
    process = command("--nproc", name, **LONG)
    wait_for_a_state(runs, name, process)
    process.send_signal(signum)
    sent = time.monotonic()
    _, err = process.communicate(timeout=120)
    assert process.returncode == code, err
    assert time.monotonic() - sent < SECONDS_TO_END
    said = re.findall(rf"stopped by {signum.name}: epoch \d+, step (\d+) is kept in (.*/last); --resume=yes", err)
    assert len(said) == 1, err
    from recbole_hellm.checkpoints.model_folder import read_model

    (folder,) = (runs.root / name / "saved").glob("*/last")
    assert read_model(folder).about["step"] == int(said[0][0])


@pytest.mark.long
def test_sigterm_to_torchrun_saves(command, runs):
    process = command("torchrun", "signal-torchrun", **LONG)
    wait_for_a_state(runs, "signal-torchrun", process)
    process.terminate()
    _, err = process.communicate(timeout=120)
    assert len(re.findall(r"stopped by SIGTERM: epoch \d+, step \d+ is kept in", err)) == 1, err


def test_a_model_that_cannot_be_split_is_refused_in_one_line(command):
    process = command("--nproc", "refused", model="SASRec")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    said = [line for line in err.splitlines() if "error:" in line]
    assert said == ["process 0: error: model 'SASRec' cannot be trained by 2 processes, only HeLLM and models made "
                    "from it can: start it without --nproc or torchrun"]  # fmt: skip


@pytest.mark.parametrize(("argument", "message"), [
    ("--nproc=0", "setting 'nproc' must be a positive number, got '0'"),
    ("--nproc=two", "setting 'nproc' must be a positive number, got 'two'"),
])  # fmt: skip
def test_numbers_of_processes(argument, message):
    with pytest.raises(ConfigError, match=message):
        launch.take_nproc([argument])


def test_nproc_is_taken_from_the_arguments():
    assert launch.take_nproc(["--model=HeLLM", "--nproc=3", "--seed=1"]) == (3, ["--model=HeLLM", "--seed=1"])
    assert launch.take_nproc(["--model=HeLLM"]) == (1, ["--model=HeLLM"])
    with pytest.raises(ConfigError, match="given twice: 2 and 3"):
        launch.take_nproc(["--nproc=2", "--nproc=3"])
