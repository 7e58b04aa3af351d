"""``compare`` as a user starts it: killed in the middle, taken up again, with a model that fails."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from interrupts import hear_interrupts

from recbole_hellm.artifacts import file_digest
from recbole_hellm.benchmark.lines import load_lines
from recbole_hellm.benchmark.plan_files import load_plan
from recbole_hellm.testing import checkerboard_settings

SHARED = (
    "data_path", "load_col", "topk", "valid_metric", "epochs", "train_batch_size", "eval_batch_size", "state",
    "MAX_ITEM_LIST_LENGTH", "learning_rate", "stage_cache_dir",
)  # fmt: skip
BPR = {"loss_type": "BPR", "train_neg_sample_args": {"distribution": "uniform", "sample_num": 1}, "hidden_size": 8}
LABELS = ["TransitionCounts", "SASRec (BPR)", "broken", "HeLLM"]
COMMAND = [str(Path(sys.executable).with_name("recbole-hellm")), "compare", "--plan", "toy.yaml", "--metric", "NDCG@5"]
PATIENCE = 400
"""Seconds for what a call of the command does, whose cells import torch each; a busy machine is slow at that."""
pytestmark = pytest.mark.timeout(3 * PATIENCE)


def write_plan(folder, llm):
    """Write a plan of four models on the toy data set, one of which cannot be built."""
    toy = checkerboard_settings(folder, llm)
    shared = {key: toy.pop(key) for key in SHARED}
    own = {key: value for key, value in toy.items() if key not in ("result_file", "checkpoint_dir", "show_progress")}
    models = [
        "TransitionCounts",
        {"model": "SASRec", "label": "SASRec (BPR)", "settings": BPR},
        {"model": "SASRec", "label": "broken", "settings": {"n_heads": 3}},
        {"model": "HeLLM", "settings": own},
    ]
    plan = {"datasets": ["checkerboard"], "seeds": 2, "settings": shared, "models": models, "protocol": {"minutes": 5}}
    (folder / "toy.yaml").write_text(yaml.safe_dump(plan))


def start(folder, *more):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        [*COMMAND, *more], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=hear_interrupts,
    )  # fmt: skip


def wait_for(look, process, seconds=PATIENCE):
    """Return what ``look`` finds first, while ``process`` runs."""
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    return found


def working(folder):
    """The process ids of the cells that run in ``folder``."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"recbole_hellm.benchmark.cell" in words and any(str(folder).encode() in word for word in words):
            found.append(int(path.parent.name))
    return found


@pytest.fixture(scope="module")
def story(tmp_path_factory, llm):
    """A comparison that is killed in its second cell, and taken up again twice."""
    folder = tmp_path_factory.mktemp("compare")
    write_plan(folder, llm)
    results = folder / "results" / "toy.jsonl"
    process = start(folder)
    first = load_plan(folder / "toy.yaml").cells()[1]
    wait_for((folder / "results" / "toy.users" / f".work-{first.key}" / "request.json").exists, process)
    wait_for(lambda: working(folder), process)
    process.kill()
    process.communicate()
    after_kill = load_lines(results)[1]
    end = time.monotonic() + 60
    while working(folder):  # the cell ends by itself
        assert time.monotonic() < end
        time.sleep(0.1)
    again = start(folder)
    taken_up = (*again.communicate(timeout=PATIENCE), again.returncode)
    lines = load_lines(results)[1]
    third = start(folder)
    return {
        "folder": folder,
        "after_kill": after_kill,
        "taken_up": taken_up,
        "lines": lines,
        "third": (*third.communicate(timeout=PATIENCE), third.returncode),
    }


@pytest.fixture(scope="module")
def measured(story):
    return [line for line in story["lines"] if line["status"] == "ok"]


def test_a_kill_loses_only_the_running_cell(story):
    assert [(line["label"], line["status"]) for line in story["after_kill"]] == [("TransitionCounts", "ok")]
    assert story["lines"][0] == story["after_kill"][0]
    assert "[1/8]" not in story["taken_up"][0]
    assert "[2/8] SASRec (BPR) on checkerboard, seed 2020 ... ok" in story["taken_up"][0]
    assert not list((story["folder"] / "results" / "toy.users").glob(".work*"))


def test_a_model_that_fails_is_a_line_and_the_others_go_on(story):
    assert [line["label"] for line in story["lines"]] == LABELS * 2
    status = ["failed" if label == "broken" else "ok" for label in LABELS]
    assert [line["status"] for line in story["lines"]] == status * 2
    error = story["lines"][2]["error"]
    assert "attention heads" in error
    assert "\n" not in error
    out, _, code = story["taken_up"]
    assert code == 1
    assert "5 ran, 2 failed, 1 were there already: results/toy.jsonl" in out.splitlines()


def test_a_later_call_runs_only_what_failed(story):
    out, _, code = story["third"]
    assert code == 1
    assert "0 ran, 2 failed, 6 were there already: results/toy.jsonl" in out.splitlines()
    assert [line[:5] for line in out.splitlines() if line.startswith("[")] == ["[3/8]", "[7/8]"]


def test_every_line_is_complete_and_of_the_same_split(measured):
    assert len({line["data"]["split"] for line in measured}) == 1
    assert len({line["data"]["fingerprint"] for line in measured}) == 1
    losses = {line["label"]: line["protocol"]["loss"] for line in measured}
    assert losses == {"TransitionCounts": None, "SASRec (BPR)": "BPR", "HeLLM": "CE"}
    for line in measured:
        assert {"valid", "test", "curves", "stages", "parameters", "versions", "hardware", "time"} <= set(line)
        protocol = line["protocol"]
        assert (protocol["history_masked"], protocol["fitted_on"], protocol["selected_on"]) == (False, "train", "valid")
        assert (protocol["minutes"], protocol["max_length"]) == (5, 10)
        assert line["command"] == "recbole-hellm compare --plan toy.yaml --metric NDCG@5"
        assert len(line["curves"]["training"]) == 2


def test_the_users_of_a_cell_give_its_metrics(story, measured):
    for line in measured:
        path = story["folder"] / "results" / line["users_file"]
        assert file_digest(path) == line["users_sha256"]
        with np.load(path, allow_pickle=False) as file:
            rank, user = file["rank"], file["user"]
        assert user.tolist() == sorted(f"u{number}" for number in range(40))
        hit = rank <= 5
        assert line["test"]["recall@5"] == pytest.approx(hit.mean(), abs=1e-6)
        assert line["test"]["ndcg@5"] == pytest.approx((hit / np.log2(rank + 1)).mean(), abs=1e-6)


def test_seeds_differ_where_there_is_chance(measured):
    by = {(line["label"], line["seed"]): line["test"] for line in measured}
    assert by["TransitionCounts", 2020] == by["TransitionCounts", 2021]
    assert by["SASRec (BPR)", 2020] != by["SASRec (BPR)", 2021]
    assert by["TransitionCounts", 2020]["recall@5"] == 1.0


def test_the_report_lies_beside_the_results(story):
    folder = story["folder"] / "results" / "toy-report"
    written = sorted(f"results/toy-report/{path.name}" for path in folder.iterdir())
    assert {Path(name).suffix for name in written} >= {".html", ".md", ".tex", ".csv"}
    assert sorted(story["third"][0].splitlines()[-len(written) :]) == written
    for file in ("report.html", "report.md", "report.csv"):
        text = (folder / file).read_text()
        assert all(label in text for label in ("TransitionCounts", "SASRec (BPR)", "HeLLM"))


def test_no_model_is_left_behind(story):
    assert not (story["folder"] / "saved").exists()
    assert not list(story["folder"].rglob("*.pth"))


def test_ctrl_c_keeps_what_is_finished(story, llm, tmp_path):
    write_plan(tmp_path, llm)
    process = start(tmp_path, "--models", "TransitionCounts,HeLLM", "--seeds", "7,")
    wait_for(lambda: working(tmp_path), process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert out.splitlines()[-1] == "finished cells are in results/toy.jsonl; the same command runs the others"
    assert err.splitlines()[-1] == "interrupted: finished stages and saved models are kept"
    assert working(tmp_path) == []
    header = json.loads((tmp_path / "results" / "toy.jsonl").read_text().splitlines()[0])
    assert len(header["cells"]) == 2
