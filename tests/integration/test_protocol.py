"""The switches of a comparison: training time, history mask, fit on train and validation."""

import json
from pathlib import Path

import pytest
import torch

from recbole_hellm.checkpoints.model_folder import read_model
from recbole_hellm.errors import ConfigError
from recbole_hellm.quick_start import run_recbole_hellm
from recbole_hellm.testing import CHECKERBOARD
from recbole_hellm.testing.building import build
from recbole_hellm.trainer.epochs import EpochsMixin
from recbole_hellm.trainer.staged import FinetuneTrainer, StagedTrainer

MODELS = ("HeLLM", "MMHCL", "SASRec", "BPR")


def run(model, settings, **kwargs):
    return run_recbole_hellm(model, CHECKERBOARD, config_dict=settings, **kwargs)


class Clock:
    """A clock that only an epoch moves."""

    def __init__(self, seconds_per_epoch):
        self.now, self.step = 0.0, seconds_per_epoch

    def perf_counter(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock(60.0)
    monkeypatch.setattr("recbole_hellm.trainer.epochs.time", clock)
    original = EpochsMixin._recorded_epoch

    def slow(self, *args, **kwargs):
        result = original(self, *args, **kwargs)
        clock.now += clock.step
        return result

    monkeypatch.setattr(EpochsMixin, "_recorded_epoch", slow)
    return clock


@pytest.mark.parametrize("model", MODELS)
def test_training_ends_when_no_epoch_fits_any_more(model, toy, clock, monkeypatch):
    monkeypatch.setattr(StagedTrainer, "run_stages", no_stage_cost(StagedTrainer.run_stages))
    result = run(model, toy(epochs=50, eval_step=1, stopping_step=50, train_minutes=3.5))
    records = result["trainer"].epoch_records
    assert [record.epoch for record in records] == [1, 2, 3]
    assert all(record.valid is not None for record in records)
    assert result["best_epoch"] in (1, 2, 3)
    assert result["test_result"]


def no_stage_cost(run_stages):
    def free(self, train_data):
        records = run_stages(self, train_data)
        self.seconds_before = 0.0
        return records

    return free


def test_the_last_epoch_is_validated_and_kept_if_it_is_the_best(toy, clock):
    result = run("SASRec", toy(epochs=50, eval_step=40, stopping_step=50, train_minutes=4.0, learning_rate=0.01))
    records = result["trainer"].epoch_records
    assert [record.valid is not None for record in records] == [False, False, False, True]
    assert result["best_epoch"] == 4
    assert result["best_valid_result"] == pytest.approx(records[-1].valid)
    assert read_model(Path(result["trainer"].saved_model_file)).about["epoch"] == 4


def test_the_time_of_reused_stages_counts(toy):
    first = run("HeLLM", toy(train_minutes=60))["trainer"]
    second = run("HeLLM", toy(train_minutes=60))["trainer"]
    assert {record.status for record in first.stage_records} == {"ran"}
    assert {record.status for record in second.stage_records} == {"reused"}
    for before, after in zip(first.stage_records, second.stage_records, strict=True):
        assert 0 < after.computed_seconds <= before.seconds
        assert after.loss == before.loss
    assert second.seconds_before == pytest.approx(sum(record.computed_seconds for record in second.stage_records))
    assert second.seconds_before > sum(record.seconds for record in second.stage_records)


def test_one_epoch_runs_though_the_stages_took_all_the_time(toy):
    result = run("HeLLM", toy(epochs=9, train_minutes=0.0001))
    assert [record.epoch for record in result["trainer"].epoch_records] == [1]
    assert result["test_result"]


def test_the_learning_rate_falls_with_the_time(toy, clock, monkeypatch):
    monkeypatch.setattr(StagedTrainer, "run_stages", no_stage_cost(StagedTrainer.run_stages))
    rates = []
    original = FinetuneTrainer._train_epoch

    def noted(self, *args, **kwargs):
        out = original(self, *args, **kwargs)
        rates.append(self.optimizer.param_groups[0]["lr"])
        return out

    monkeypatch.setattr(FinetuneTrainer, "_train_epoch", noted)
    run("HeLLM", toy(epochs=1000, stopping_step=1000, train_minutes=4.0, finetune_warmup_epochs=0.1))
    assert len(rates) == 4
    assert rates == sorted(rates, reverse=True)
    assert rates[3] < 0.2 * rates[0]  # 1000 epochs by step alone would leave it where it was


@pytest.mark.parametrize("value", [-1, "ten"])
def test_a_wrong_training_time_is_named(value, toy):
    with pytest.raises(ConfigError, match="train_minutes"):
        run("HeLLM", toy(train_minutes=value))


@pytest.mark.parametrize("model", ["HeLLM", "SASRec", "BPR", "TransitionCounts"])
def test_fit_on_train_and_validation(model, toy, monkeypatch):
    only_train = run(model, toy(epochs=3))
    both = run(model, toy(epochs=3, fit_on="train+valid"))
    assert both["best_valid_result"] == only_train["best_valid_result"]
    assert both["best_epoch"] == only_train["best_epoch"]
    records = both["trainer"].epoch_records
    assert [record.epoch for record in records] == list(range(1, both["best_epoch"] + 1))
    # The trainer that was tested has seen every event but the test's.
    assert sorted(both["trainer"].ranks["user"]) == sorted(only_train["trainer"].ranks["user"])
    assert dict(zip(*(both["trainer"].ranks[key] for key in ("user", "item")), strict=True)) == dict(
        zip(*(only_train["trainer"].ranks[key] for key in ("user", "item")), strict=True)
    )
    about = json.loads(Path(both["result_file"]).read_text())
    assert about["protocol"]["fitted_on"] == "train+valid"
    assert any(stage["name"] == "training (refit)" for stage in about["stages"])


def test_the_refit_sees_validation_events_and_no_test_event(toy, monkeypatch):
    seen = []
    original = StagedTrainer.run_stages

    def noted(self, train_data):
        seen.append(train_data._dataset)
        return original(self, train_data)

    monkeypatch.setattr(StagedTrainer, "run_stages", noted)
    run("HeLLM", toy(fit_on="train+valid"))
    from recbole_hellm.views import train_view

    lengths = [set(train_view(dataset).lengths()[1:].tolist()) for dataset in seen]
    assert lengths[0] == {6}
    assert lengths[-1] == {7}


def test_the_refit_keeps_the_schedule_of_the_first_training(toy, monkeypatch):
    planned = []
    original = FinetuneTrainer._schedule

    def noted(self, steps):
        planned.append((self.planned_epochs, self.epochs))
        return original(self, steps)

    monkeypatch.setattr(FinetuneTrainer, "_schedule", noted)
    result = run("HeLLM", toy(epochs=5, fit_on="train+valid"))
    assert planned == [(None, 5), (5, result["best_epoch"])]


def test_a_refit_needs_leave_one_out(toy):
    split = {"split": {"RS": [0.6, 0.2, 0.2]}, "group_by": "user", "order": "TO", "mode": "full"}
    with pytest.raises(ConfigError, match="'fit_on' = 'train\\+valid' needs eval_args split"):
        run("BPR", toy(fit_on="train+valid", eval_args=split))


@pytest.mark.parametrize("model", ["SASRec", "TransitionCounts", "BPR"])
def test_items_beyond_the_longest_history_are_masked_too(model, toy):
    trainer = run(model, toy(mask_history="yes", MAX_ITEM_LIST_LENGTH=2, epochs=1))["trainer"]
    test = trainer_test_data(model, toy)
    trainer.evaluate(test, load_best_model=False)
    hidden = []
    collector = trainer.eval_collector
    keep = collector._keep_ranks
    collector._keep_ranks = lambda scores, *rest: (hidden.append(torch.isneginf(scores).sum(1)), keep(scores, *rest))
    trainer.evaluate(test, load_best_model=False)
    assert set(torch.cat(hidden).tolist()) == {8}  # the padding and the seven items before the target


def trainer_test_data(model, toy):
    from recbole.data import create_dataset, data_preparation

    from recbole_hellm.config.recbole_config import HellmConfig

    config = HellmConfig(model, CHECKERBOARD, config_dict=toy(mask_history="yes", MAX_ITEM_LIST_LENGTH=2))
    return data_preparation(config, create_dataset(config))[2]


def test_at_validation_the_test_item_is_not_masked(toy):
    built = build("TransitionCounts", toy(mask_history="yes"))
    built.trainer.fit(built.train, built.valid)
    built.trainer.evaluate(built.valid, load_best_model=False)
    assert set(built.trainer._known_now.counts[1:].tolist()) == {6}
    built.trainer.evaluate(built.test, load_best_model=False)
    assert set(built.trainer._known_now.counts[1:].tolist()) == {7}


def test_the_result_file_has_curves_and_speed(toy):
    result = run("HeLLM", toy(epochs=2))
    about = json.loads(Path(result["result_file"]).read_text())
    assert [point["epoch"] for point in about["curves"]["training"]] == [1, 2]
    assert all(point["valid"]["ndcg@5"] >= 0 and point["loss"] > 0 for point in about["curves"]["training"])
    assert len(about["curves"]["graph"]) == 2
    assert len(about["curves"]["sequence"]) == 2
    assert about["training_samples_per_second"] > 0
    assert about["peak_memory_mb"] > 100
    assert about["best_epoch"] in (1, 2)
    assert about["protocol"]["loss"] == "CE"


def test_the_split_fingerprint_is_the_same_for_every_model_and_knows_the_split(toy):
    prints = {}
    for model in ("HeLLM", "MMHCL", "SASRec", "BPR"):
        about = json.loads(Path(run(model, toy(epochs=1))["result_file"]).read_text())
        prints[model] = about["data"]["split"], about["data"]["fingerprint"]
    assert len(set(prints.values())) == 1
    other = {"split": {"LS": "test_only"}, "group_by": "user", "order": "TO", "mode": "full"}
    changed = json.loads(Path(run("BPR", toy(epochs=1, eval_args=other))["result_file"]).read_text())
    assert changed["data"]["fingerprint"] == prints["BPR"][1]
    assert changed["data"]["split"] != prints["BPR"][0]


@pytest.mark.parametrize(
    ("model", "masked", "max_length"),
    [("Pop", True, None), ("EASE", True, None), ("BPR", True, None), ("GRU4Rec", False, 10)],
)
def test_the_protocol_of_recboles_kinds_of_models(model, masked, max_length, toy):
    about = json.loads(Path(run(model, toy(epochs=1))["result_file"]).read_text())["protocol"]
    assert (about["history_masked"], about["max_length"], about["selected_on"]) == (masked, max_length, "valid")


def test_without_validation_the_last_epoch_is_said_to_be_chosen(toy):
    about = json.loads(Path(run("BPR", toy(epochs=1, eval_step=0))["result_file"]).read_text())
    assert about["protocol"]["selected_on"] == "last epoch"
    assert about["best_epoch"] is None


@pytest.mark.parametrize("model", ["Pop", "BPR"])
def test_a_masked_history_is_masked_though_items_may_repeat(model, toy):
    ranks = {}
    for repeatable in (False, True):
        result = run(model, toy(mask_history="yes", repeatable=repeatable, topk=[5, 20]))
        ranks[repeatable] = result["trainer"].ranks["rank"]
        about = json.loads(Path(result["result_file"]).read_text())
        assert about["protocol"]["history_masked"]
    assert ranks[True].max() <= 13  # 20 items, 7 of them known before the target
    assert ranks[False].max() <= 13
    auto = json.loads(Path(run(model, toy(repeatable=True))["result_file"]).read_text())
    assert not auto["protocol"]["history_masked"]


def test_the_refit_is_not_cut_short_by_the_training_time(toy, clock, monkeypatch):
    monkeypatch.setattr(StagedTrainer, "run_stages", no_stage_cost(StagedTrainer.run_stages))
    result = run(
        "SASRec", toy(epochs=50, stopping_step=50, train_minutes=3.5, fit_on="train+valid", learning_rate=0.001)
    )
    assert len(result["trainer"].epoch_records) == result["best_epoch"]
    clock.step = 1e6
    result = run(
        "SASRec", toy(epochs=3, stopping_step=50, train_minutes=1e5, fit_on="train+valid", learning_rate=0.001)
    )
    assert len(result["trainer"].epoch_records) == result["best_epoch"]


def test_items_without_events_change_the_digest_of_the_catalogue(toy, tmp_path):
    digests = set()
    for columns in ({"inter": ["user_id", "item_id", "timestamp"]}, None):
        settings = toy(epochs=1)
        if columns is None:
            item = tmp_path / "data" / CHECKERBOARD / f"{CHECKERBOARD}.item"
            item.write_text(item.read_text() + "cold\tnever taken\n")
            columns = {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "title"]}
        about = json.loads(Path(run("BPR", {**settings, "load_col": columns})["result_file"]).read_text())
        digests.add((about["data"]["items"], about["data"]["n_items"], about["data"]["split"]))
    assert sorted(n_items for _, n_items, _ in digests) == [20, 21]
    assert len({items for items, _, _ in digests}) == 2
    assert len({split for _, _, split in digests}) == 1
