"""Runs of every kind, one after another: a process, and folders, hold as much after many of them as after few."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from measuring import MB_A_RUN, MB_A_RUN_OF_FEW, Sample, grown
from running import KINDS

RUNNING = Path(__file__).with_name("running.py")


def lines_of(root, first, n_runs):
    """Do runs in a process of their own; returns what it wrote, a mapping a run."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, RUNNING, root, str(first), str(n_runs)], env=environment, text=True,
                          capture_output=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in (root / f"samples-{first}.jsonl").read_text().splitlines()]


def check(lines, warm_up, mb_a_run):
    """Assert that nothing was left behind or changed, and that nothing grows."""
    assert [(line["run"], line["kind"], line["left"]) for line in lines if line["left"]] == []
    samples = [Sample(**{name: line[name] for name in Sample.__dataclass_fields__}) for line in lines[warm_up:]]
    assert grown(samples, mb_a_run) == []


def _left_nothing(lines):
    assert [(line["run"], line["left"]) for line in lines if line["left"]] == []
    assert {line["children"] for line in lines} == {0}
    assert max(line["temporary"] for line in lines) <= 1, "torch makes one empty folder, torchinductor_USER"


def test_a_dozen_runs_in_one_process(tmp_path):
    lines = lines_of(tmp_path, 0, 12)
    assert {line["kind"] for line in lines} == set(KINDS)
    check(lines, 5, MB_A_RUN_OF_FEW)


def test_three_fresh_processes_one_after_another(tmp_path):
    lines = [line for number in (0, 3, 4) for line in lines_of(tmp_path, number, 1)]
    assert [line["kind"] for line in lines] == ["new", "stopped", "resumed"]
    _left_nothing(lines)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_two_hundred_runs_in_one_process(tmp_path):
    lines = lines_of(tmp_path, 0, 220)
    check(lines, 20, MB_A_RUN)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_fifty_fresh_processes_one_after_another(tmp_path):
    """Each finds what those before have left in the folders they share."""
    lines = [line for number in range(50) for line in lines_of(tmp_path, number, 1)]
    assert len(lines) == 50
    _left_nothing(lines)
    for kind in KINDS:  # a process is as large as what it loads, give or take where its memory came to lie
        of_kind = [line for line in lines if line["kind"] == kind]
        for name, more in (("rss_mb", 0.1 * of_kind[0]["rss_mb"]), ("threads", 1), ("files", 1)):
            assert of_kind[-1][name] <= of_kind[0][name] + more, (kind, name)
