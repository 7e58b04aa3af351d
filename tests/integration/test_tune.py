"""``tune`` as a user starts it: killed in the middle, taken up again, with a trial that is pruned; and never a test."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from recbole_hellm import fitting
from recbole_hellm.cli import main
from recbole_hellm.quick_start import run_recbole_hellm
from recbole_hellm.testing import CHECKERBOARD, checkerboard_settings
from recbole_hellm.tune.trial import run_trial

COMMAND = [
    str(Path(sys.executable).with_name("recbole-hellm")),
    "tune",
    "--dataset",
    CHECKERBOARD,
    "--plan",
    "toy.yaml",
]
RATES = [0.03, 0.02, 1e-7]
PATIENCE = 800
"""Seconds for a call of the command, whose processes import torch four times; a busy machine is slow at that."""
pytestmark = pytest.mark.timeout(2 * PATIENCE)


def write_plan(folder, llm):
    toy = checkerboard_settings(folder, llm, epochs=4)
    own = {key: toy[key] for key in toy if key not in ("result_file", "valid_metric", "learning_rate")}
    plan = {
        "model": "HeLLM",
        "metric": "NDCG@5",
        "sampler": "grid",
        "prune_after_trials": 1,
        "settings": own,
        "space": {"learning_rate": RATES},
    }
    (folder / "toy.yaml").write_text(yaml.safe_dump(plan))


def start(folder, *command):
    """Start a command; with as many threads as every other one, or sums would differ in their last digits."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        command or COMMAND, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def records(folder):
    file = folder / "tuned" / f"HeLLM-toy-{CHECKERBOARD}" / "trials.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@pytest.fixture(scope="module")
def story(tmp_path_factory, llm):
    """A search that is killed in its second trial, and taken up again."""
    folder = tmp_path_factory.mktemp("tune")
    write_plan(folder, llm)
    process = start(folder)
    study, end = folder / "tuned" / f"HeLLM-toy-{CHECKERBOARD}", time.monotonic() + PATIENCE
    while not (study / "running" / "2-2020" / "request.json").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)
    process.kill()
    process.communicate()
    after_kill = records(folder)
    again = start(folder)
    out, err = again.communicate(timeout=PATIENCE)
    assert again.returncode == 0, err
    return {"folder": folder, "study": study, "after_kill": after_kill, "out": out}


def test_a_kill_loses_only_the_running_trial(story):
    assert [record["trial"] for record in story["after_kill"]] == [1]
    ran = records(story["folder"])
    assert ran[0] == story["after_kill"][0]
    assert [record["settings"]["learning_rate"] for record in ran if record["trial"] != 2] != []
    assert sorted(record["settings"]["learning_rate"] for record in ran) == sorted(RATES)
    assert [line.split(":")[0] for line in story["out"].splitlines()[:2]] == ["[2/3] trial 3", "[3/3] trial 4"]
    assert "2 ran now, 3 in all: all 3 trials are there" in story["out"].splitlines()


def test_a_weak_trial_ends_early_and_cleanly(story):
    by_rate = {record["settings"]["learning_rate"]: record for record in records(story["folder"])}
    weak, strong = by_rate[1e-7], by_rate[0.03]
    assert (weak["status"], strong["status"]) == ("pruned", "complete")
    assert len(weak["runs"]["2020"]["curve"]) < len(strong["runs"]["2020"]["curve"]) == 4
    assert weak["runs"]["2020"]["stages"]
    assert not list((story["study"] / "running").iterdir())


def test_trials_share_the_stages(story):
    first, *others = records(story["folder"])
    status = [[s["status"] for s in record["runs"]["2020"]["stages"] if "path" in s] for record in (first, *others)]
    assert status[0] == ["ran"] * len(status[0])
    assert len(status[0]) >= 3
    assert status[1:] == [["reused"] * len(status[0])] * 2


def test_the_best_settings_run_with_the_test_by_the_printed_command(story):
    command = story["out"].splitlines()[-1].partition("test: recbole-hellm ")[2].split()
    best = max(records(story["folder"]), key=lambda record: (record["status"] == "complete", record["value"]))
    run = start(story["folder"], COMMAND[0], *command, "--result_file=best.json")
    assert run.communicate(timeout=PATIENCE)
    assert run.returncode == 0
    result = json.loads((story["folder"] / "best.json").read_text())
    assert result["best_valid_score"] == pytest.approx(best["value"], abs=1e-6)
    assert result["test_result"]["ndcg@5"] > 0


def test_a_changed_data_set_is_refused_and_the_way_out_works(story, monkeypatch, capsys):
    monkeypatch.chdir(story["folder"])
    assert main([*COMMAND[1:], "--lora_r=1"]) == 2
    said = capsys.readouterr().err
    assert "setting 'lora_r' was 2, is 1" in said
    assert said.count("\n") == 1
    assert main([*COMMAND[1:], "--trials=0", "--lora_r=1", "--study=another"]) == 0
    assert "no trial is complete" in capsys.readouterr().out


class Untouchable:
    """A test loader nobody may read."""

    def __init__(self, loader):
        self._loader, self._dataset = loader, loader._dataset  # run_record identifies the split by its events

    def __iter__(self):
        raise AssertionError("the test split was read")

    def __len__(self):
        raise AssertionError("the test split was asked for its batches")

    def __getattr__(self, name):
        raise AssertionError(f"the test split was asked for {name}")


@pytest.fixture
def no_test(monkeypatch):
    load = fitting.load_data

    def guarded(config):
        data, (train, valid, test) = load(config)
        return data, (train, valid, Untouchable(test))

    monkeypatch.setattr(fitting, "load_data", guarded)


@pytest.mark.parametrize("model", ["HeLLM", "SASRec", "TransitionCounts"])
def test_a_trial_never_evaluates_the_test_split(model, toy, tmp_path, no_test):
    settings = toy(train_neg_sample_args=None) if model == "SASRec" else toy()
    if model == "SASRec":
        ours = ("llm_", "graph_", "pretrain_", "sequence_", "prefix_", "lora_", "text_", "item_features")
        settings = {key: value for key, value in settings.items() if not key.startswith(ours)} | {"hidden_size": 8}
    settings.pop("result_file")
    request = {"model": model, "dataset": CHECKERBOARD, "settings": settings, "result": str(tmp_path / "result.json")}
    result = run_trial(request, None)
    assert result["value"] == result["valid"]["ndcg@5"] > 0
    assert result["curve"][-1][1] is not None
    assert not list((tmp_path / "saved").glob("*.pth"))
    with pytest.raises(AssertionError, match="the test split was"):  # the guard works
        run_recbole_hellm(model, CHECKERBOARD, config_dict=settings)


def test_training_ends_where_its_caller_says_so(toy):
    seen = []

    def stop(record):
        seen.append(record.epoch)
        return len(seen) == 2

    outcome = run_recbole_hellm(
        "HeLLM", CHECKERBOARD, config_dict=toy(epochs=6), saved=False, test=False, after_validation=stop
    )
    assert seen == [1, 2]
    assert len(outcome["trainer"].epoch_records) == 2
    values = [record.valid["ndcg@5"] for record in outcome["trainer"].epoch_records]
    assert outcome["best_valid_result"]["ndcg@5"] == max(values)
    assert outcome["test_result"] is None
