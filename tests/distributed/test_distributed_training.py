"""Several processes train what one trains, and measure what one measures."""

import json

import pytest
import torch

CLOSE = 1e-5


def furthest(one, other):
    assert one.keys() == other.keys()
    return max(float((one[key].float() - other[key].float()).abs().max()) for key in one if one[key].numel())


@pytest.fixture(scope="module")
def alone(runs):
    (outcome,) = runs.go(1, "alone")
    return outcome


@pytest.fixture(scope="module")
def two(runs, alone):
    return runs.go(2, "two")


def test_two_processes_train_what_one_trains(runs, alone, two):
    assert furthest(runs.state("alone"), runs.state("two")) < CLOSE
    assert two[0]["losses"] == pytest.approx(alone["losses"], rel=1e-5)
    assert two[0]["best_epoch"] == alone["best_epoch"]


def test_all_processes_end_with_the_same_weights_and_metrics(two):
    first, second = ({k: torch.from_numpy(v) for k, v in outcome["tested"].items()} for outcome in two)
    assert all(torch.equal(first[key], second[key]) for key in first)
    for key in ("best_valid_score", "best_valid_result", "test_result", "best_epoch", "losses"):
        assert two[0][key] == two[1][key], key


def test_only_the_first_process_writes(runs, two):
    assert [bool(outcome["written"]) for outcome in two] == [True, False]
    assert two[1]["ran"] == two[0]["ran"]
    here = runs.root / "two"
    assert sorted(path.name for path in here.iterdir()) == ["result.json", "result.ranks.npz", "saved"]
    assert len(list((here / "saved").iterdir())) == 1
    assert json.loads((here / "result.json").read_text())["processes"] == 2
    logs = {path.name for path in (runs.root / "log_tensorboard").iterdir()}
    assert logs
    assert len(two[1]["ranks"]["user"]) == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"train_batch_size": 39},  # the last batch has one row: one process has none
        {"finetune_targets": "last", "finetune_accumulation_steps": 3, "epochs": 1},
        {"train_rows_at_once": 3, "epochs": 1, "clip_grad_norm": {"max_norm": 0.5}},
    ],
    ids=["one row left", "accumulation", "parts"],
)
def test_uneven_batches_accumulation_and_parts(runs, changes, request):
    name = request.node.callspec.id.replace(" ", "-")
    runs.go(1, f"{name}-1", **changes)
    runs.go(2, f"{name}-2", **changes)
    assert furthest(runs.state(f"{name}-1"), runs.state(f"{name}-2")) < CLOSE


@pytest.mark.parametrize("batch", [15, 39])  # 39: of the last batch's single row two processes have none
def test_three_processes(runs, batch):
    changes = {"train_batch_size": batch}
    runs.go(1, f"one-{batch}", **changes)
    runs.go(3, f"three-{batch}", **changes)
    assert furthest(runs.state(f"one-{batch}"), runs.state(f"three-{batch}")) < CLOSE


def test_dropout_differs_by_process_and_stays_the_same_from_run_to_run(runs):
    first = runs.go(2, "dropped-1", finetune_dropout=0.4, epochs=1)
    second = runs.go(2, "dropped-2", finetune_dropout=0.4, epochs=1)
    assert first[0]["losses"] == second[0]["losses"]
    one, two = runs.state("dropped-1"), runs.state("dropped-2")
    assert all(torch.equal(one[key], two[key]) for key in one)
