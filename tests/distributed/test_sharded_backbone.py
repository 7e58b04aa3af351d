"""The frozen language model split over processes by FSDP2 gives what the whole one gives."""

import pytest
import torch
from processes import finish, start, together

from recbole_hellm import distributed
from recbole_hellm.errors import ConfigError
from recbole_hellm.models.hellm import HeLLM
from recbole_hellm.quick_start import run_recbole_hellm
from recbole_hellm.testing import CHECKERBOARD
from recbole_hellm.testing.building import build

CLOSE = 1e-5
SPLIT = {"llm_sharded": True, "eval_batch_size": 7, "train_batch_size": 39}  # a process with one row, one with none


@pytest.fixture(scope="module")
def whole(runs):
    return runs.go(1, "whole", **{**SPLIT, "llm_sharded": False})[0]


@pytest.mark.parametrize("count", [2, 3])
def test_training_and_metrics_are_those_of_the_whole_model(runs, whole, count):
    name = f"split-{count}"
    outcomes = runs.go(count, name, **SPLIT)
    one, many = runs.state("whole"), runs.state(name)
    assert one.keys() == many.keys()
    assert max(float((one[k].float() - many[k].float()).abs().max()) for k in one if one[k].numel()) < CLOSE
    again = runs.go(count, "whole", **SPLIT, resume="yes")  # loads the model one process trained, and tests it
    assert again[0]["test_result"] == whole["test_result"]
    assert again[0]["ranks"]["rank"].tolist() == whole["ranks"]["rank"].tolist()
    assert all(outcome["test_result"] == outcomes[0]["test_result"] for outcome in outcomes)


def test_a_model_trained_split_is_tested_whole(runs, whole):
    runs.go(2, "split-then-whole", **SPLIT)
    (alone,) = runs.go(1, "split-then-whole", **{**SPLIT, "llm_sharded": False}, resume="yes")
    assert alone["test_result"]["recall@5"] == pytest.approx(whole["test_result"]["recall@5"], abs=0.03)


SETTINGS = {}


def held():
    with distributed.joined(torch.device("cpu")):
        model = build("HeLLM", SETTINGS).model
        frozen = [p for name, p in model.named_parameters() if not p.requires_grad and "layers" in name and p.dim() > 1]
        mine = sum((p.to_local() if hasattr(p, "to_local") else p).numel() for p in frozen)
        return mine, sum(p.numel() for p in frozen)


def test_each_process_holds_its_share(runs):
    SETTINGS.update(runs.settings("held", llm_sharded=True))
    (first, total), (second, same) = together(2, runs.root / "told" / "held", held)
    assert first + second == total == same
    assert first == second > 0


def spoiled(settings):
    plain, count = HeLLM.calculate_loss, []

    def calculate_loss(self, rows):
        count.append(1)
        return plain(self, rows) * (float("nan") if len(count) == 2 and distributed.rank() == 1 else 1.0)

    HeLLM.calculate_loss = calculate_loss
    return run_recbole_hellm("HeLLM", CHECKERBOARD, config_dict=settings)["trainer"]._skipped


def test_a_bad_loss_in_one_process_leaves_nobody_waiting(runs):
    made = runs.settings("split-bad", **{**SPLIT, "train_batch_size": 15, "skip_bad_batches": True})
    assert together(2, runs.root / "told" / "split-bad", spoiled, made) == [1, 1]


def test_parts_of_a_batch_are_refused(runs):
    made = runs.settings("split-parts", **SPLIT, train_rows_at_once=2)
    folder = runs.root / "told" / "split-parts"
    codes = finish(start(2, folder, spoiled, made))
    assert codes == [ConfigError.exit_code] * 2
    assert "'llm_sharded' = True excludes 'train_rows_at_once'" in (folder / "0.error").read_text()
