"""The same seed gives the same numbers: again, with other batches of evaluation, workers and threads."""

import json
from pathlib import Path

import pytest
import torch
from killing import differences

from recbole_hellm.quick_start import run_recbole_hellm
from recbole_hellm.testing import CHECKERBOARD, checkerboard_settings, tiny_llm

RECORDED = Path(__file__).with_name("recorded.json")
MODELS = ("HeLLM", "MMHCL", "SASRec", "BPR")
CLOSE = {"rel": 2e-3, "abs": 1e-4}
"""What another processor or release of torch may change in a loss after some steps."""


@pytest.mark.parametrize("model", MODELS)
def test_twice_in_a_row(runs, model):
    torch.manual_seed(99)  # what went before does not matter
    first = runs.go(model, f"first-{model}", epochs=2)
    torch.rand(7)
    second = runs.go(model, f"second-{model}", epochs=2)
    assert differences(first, second) == []


@pytest.mark.parametrize("model", ["HeLLM", "SASRec"])
@pytest.mark.parametrize("size", [7, 1000])
def test_the_size_of_evaluation_batches_changes_no_rank(runs, model, size):
    whole = runs.go(model, f"eval-{model}", epochs=2, eval_batch_size=16)
    other = runs.go(model, f"eval-{model}-{size}", epochs=2, eval_batch_size=size)
    assert {"last", "optimizer", "metrics", "curve"} & set(differences(whole, other)) == set()
    by_user = [dict(zip(o.ranks["user"], o.ranks["rank"], strict=True)) for o in (whole, other)]
    assert by_user[0] == by_user[1]


@pytest.mark.parametrize("model", ["HeLLM", "SASRec"])
def test_workers_change_nothing_where_no_negatives_are_drawn(runs, model):
    whole = runs.go(model, f"workers-{model}-0", epochs=1)
    other = runs.go(model, f"workers-{model}-1", epochs=1, worker=1)
    assert differences(whole, other) == []


def test_threads_change_rounding_only(runs):
    whole, before = runs.go("SASRec", "threads-1", epochs=1), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        other = runs.go("SASRec", "threads-2", epochs=1)
    finally:
        torch.set_num_threads(before)
    # Losses, not weights: where the gradient is zero but for rounding (a key's bias), Adam makes steps of the rounding.
    (one,), (two,) = ([loss for _, loss, _ in outcome.curve[0]] for outcome in (whole, other))
    assert two == pytest.approx(one, rel=1e-4)


def numbers(root, model):
    settings = checkerboard_settings(root, root / "llm", epochs=2, seed=7)
    result = run_recbole_hellm(model, CHECKERBOARD, config_dict=settings)
    trainer = result["trainer"]
    return {
        "training": [record.loss for record in trainer.epoch_records],
        "stages": {r.name: list(r.loss) for r in getattr(trainer, "stage_records", []) if r.loss},
        "test": {name: float(value) for name, value in result["test_result"].items()},
    }


def flat(value, name=""):
    if isinstance(value, dict):
        return {k: v for key in value for k, v in flat(value[key], f"{name}.{key}").items()}
    if isinstance(value, list):
        return {k: v for at, entry in enumerate(value) for k, v in flat(entry, f"{name}.{at}").items()}
    return {name: value}


def test_recorded_numbers(tmp_path, monkeypatch, request):
    """Tiny runs give the numbers of ``recorded.json``; ``--update-recorded`` writes them anew."""
    monkeypatch.setattr("sys.argv", ["pytest"])
    monkeypatch.chdir(tmp_path)
    tiny_llm(tmp_path / "llm")
    found = {model: numbers(tmp_path, model) for model in MODELS}
    if request.config.getoption("--update-recorded"):
        from recbole_hellm.results import commit, hardware, versions

        origin = {"commit": commit(), "versions": versions(), "hardware": hardware(), "command":
                  "pytest tests/faults/test_determinism.py --update-recorded"}  # fmt: skip
        RECORDED.write_text(json.dumps({"origin": origin, "runs": found}, indent=1, sort_keys=True) + "\n")
        pytest.skip(f"{RECORDED} was written anew: look at what changed, and why")
    wanted = json.loads(RECORDED.read_text())["runs"]
    assert sorted(found) == sorted(wanted)
    assert flat(found).keys() == flat(wanted).keys()
    losses = {name: value for name, value in flat(wanted).items() if ".test." not in name}
    assert len(losses) >= 12
    assert {name: flat(found)[name] for name in losses} == {n: pytest.approx(v, **CLOSE) for n, v in losses.items()}
    metrics = {name: value for name, value in flat(wanted).items() if ".test." in name}
    assert {name: flat(found)[name] for name in metrics} == {n: pytest.approx(v, abs=0.03) for n, v in metrics.items()}
