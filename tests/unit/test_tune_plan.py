import sys

import pytest
import yaml

from recbole_hellm.benchmark.plan_files import find_plan
from recbole_hellm.cli import main
from recbole_hellm.config.recbole_config import HellmConfig
from recbole_hellm.config.resources import properties_dir
from recbole_hellm.errors import ConfigError, HellmError
from recbole_hellm.testing import CHECKERBOARD
from recbole_hellm.tune.best import write_best
from recbole_hellm.tune.checks import check_plan
from recbole_hellm.tune.identity import identity, what_differs
from recbole_hellm.tune.plan import load_plan, study_name

SHIPPED = sorted((properties_dir() / "tune").glob("*.yaml"))
SPACE = {"learning_rate": {"log": [1e-3, 1e-1]}, "finetune_dropout": {"uniform": [0.0, 0.5]}}


@pytest.fixture
def plan(toy, tmp_path):
    """A plan on the toy data set, with changes, as a function."""

    def write(changes=None, given="", settings=None, **raw):
        fixed = {key: value for key, value in toy().items() if key not in ("result_file", "valid_metric")}
        fixed = {key: value for key, value in fixed.items() if key not in raw.get("space", SPACE)}
        document = {"model": "HeLLM", "metric": "NDCG@5", "space": SPACE, **raw}
        document["settings"] = {**fixed, **document.pop("more", {})}
        path = tmp_path / "toy.yaml"
        path.write_text(yaml.safe_dump(document, sort_keys=False))
        return load_plan(path, given, CHECKERBOARD, changes or {}, settings or {})

    return write


def test_there_are_shipped_plans():
    assert [path.stem for path in SHIPPED] == ["HeLLM-quick", "HeLLM-stages", "HeLLM-sum", "SASRec", "TransitionCounts"]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_plan_is_right(path, toy, monkeypatch):
    toy()
    monkeypatch.setattr("recbole_hellm.tune.checks.ensure_prepared", lambda config: None)
    assert find_plan(path.stem, "tune") == path
    plan = load_plan(path, "", "amazon-toys", {}, {})
    config = check_plan(plan)
    assert config["valid_metric"] == "NDCG@10"
    assert study_name(path, plan) == f"{path.stem}-amazon-toys"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"trails": 3}, "unknown key 'trails' (did you mean 'trials'?)"),
        ({"metric": "test_NDCG@5"}, "chosen on validation only"),
        ({"metric": "Test NDCG@5"}, "name the metric alone, such as NDCG@10"),
        ({"sampler": "tpee"}, "(did you mean 'tpe'?)"),
        ({"pruner": "mean"}, "'pruner' must be one of 'median', 'halving', 'none'"),
        ({"trials": -1}, "'trials' must be positive"),
        ({"minutes": 0}, "'minutes' must be positive"),
        ({"seeds": "x"}, "'seeds' must be a number of seeds"),
        ({"sampler": "grid"}, "a grid needs single values"),
        ({"more": {"seed": 1}}, "setting 'seed' is given by the search; use seeds"),
        ({"more": {"train_minutes": 1}}, "use minutes_per_trial"),
        ({"more": {"valid_metric": "MRR@5"}}, "use metric"),
        ({"more": {"fit_on": "train+valid"}}, "'fit_on' must be train in a search"),
        ({"space": {"topk": [[5], [10]]}}, "topk: decides what is measured"),
        ({"space": {"mask_history": ["yes", "no"]}}, "mask_history: decides what is measured"),
        ({"space": {"data_path": ["a", "b"]}}, "data_path: decides no number"),
        ({"model": "SASRec"}, "it is for model 'SASRec', got --model=HeLLM"),
        ({"model": None}, "it names no model"),
        ({"more": {"learning_rate": 0.1}}, "'learning_rate' is both fixed and searched"),
    ],
)
def test_a_wrong_plan_is_named_in_one_line(plan, raw, message):
    given = "" if raw.get("model", "") is None else "HeLLM"
    with pytest.raises(ConfigError) as caught:
        plan(given=given, **raw)
    assert message in str(caught.value)
    assert "toy.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"metric": "NDGC@5"}, "(did you mean 'NDCG@5'?)"),
        ({"space": {"learning_rat": [0.1, 0.2]}}, "unknown setting 'learning_rat' (did you mean 'learning_rate'?)"),
        ({"space": {"finetune_dropout": {"uniform": [0.0, 1.5]}}}, "space: finetune_dropout: 1.5 is refused"),
        ({"space": {"lora_r": [2, "two"]}}, "space: lora_r: 'two' is refused"),
        ({"more": {"train_stage": "pretrain"}}, "'train_stage' must be auto or finetune"),
        ({"more": {"eval_step": 0}}, "'eval_step' must be >= 1"),
    ],
)
def test_a_wrong_value_is_found_before_anything_runs(plan, raw, message):
    with pytest.raises(HellmError) as caught:
        check_plan(plan(**raw))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_value_that_only_goes_with_others_is_no_mistake(plan):
    space = {"llm_layers": [1, 0], "prefix_len": [0, 2], "lora_r": [0, 2]}
    check_plan(plan(space=space))
    with pytest.raises(HellmError, match="llm_layers: 0 is refused"):
        check_plan(plan(space={"llm_layers": [1, 0], "prefix_len": [1, 2]}))


def test_the_command_line_wins_and_takes_settings_out_of_the_space(plan):
    searched = plan({"trials": 3, "seeds": [7]}, settings={"learning_rate": 0.5})
    assert [domain.key for domain in searched.space] == ["finetune_dropout"]
    assert searched.trials == 3
    assert searched.run_settings({"finetune_dropout": 0.2}, 7)["learning_rate"] == 0.5
    with pytest.raises(ConfigError, match="nothing is left to search"):
        plan(settings=dict.fromkeys(SPACE, 0.1))


def test_what_decides_a_trial_is_told_apart_from_what_does_not(plan, tmp_path):
    def about(*given, **raw):
        made = plan(*given, **raw)
        return identity(made, check_plan(made))

    before = about()
    assert what_differs(before, about({"trials": 9, "minutes": 3, "sampler": "random", "pruner": "none"})) == ""
    assert what_differs(before, about(more={"show_progress": True, "stage_cache_dir": "elsewhere"})) == ""
    assert what_differs(before, about(more={"lora_r": 1})) == "setting 'lora_r' was 2, is 1"
    assert what_differs(before, about({"seeds": 2})).startswith("seeds was [2020], is [2020, 2021]")
    assert what_differs(before, about(space={**SPACE, "finetune_dropout": [0.0, 0.5]})) == (
        "space 'finetune_dropout' changed"
    )
    for name in (f"{CHECKERBOARD}.inter", "features/image.npy"):
        file = tmp_path / "data" / CHECKERBOARD / name
        whole = file.read_bytes()
        file.write_bytes(whole[:-1] + b"9")
        assert what_differs(before, about()) == f"data file {name!r} changed"
        file.write_bytes(whole)
    assert what_differs(before, {**before, "code": {**before["code"], "stage graph": 99}}).startswith(
        "code 'stage graph' was"
    )


def test_the_best_settings_are_read_back_as_they_ran(plan, tmp_path):
    made = plan(more={"lora_targets": ["up_proj"], "stopping_step": 7})
    best = {"trial": 3, "value": 0.25, "settings": {"learning_rate": 1e-05, "finetune_dropout": 0.1 + 0.2}}
    write_best(tmp_path / "best.yaml", made, best, 9)
    config = HellmConfig("HeLLM", CHECKERBOARD, config_file_list=[tmp_path / "best.yaml"])
    ran = HellmConfig("HeLLM", CHECKERBOARD, config_dict=made.run_settings(best["settings"], 2020))
    kept = {
        key: value
        for key, value in ran.final_config_dict.items()
        if key not in ("checkpoint_dir", "show_progress", "state")
    }
    assert {key: config.final_config_dict[key] for key in kept} == kept
    assert config["learning_rate"] == 1e-05
    assert "--config_files=" in (tmp_path / "best.yaml").read_text()


def test_without_optuna_the_command_says_how_to_get_it(monkeypatch, capsys):
    for name in ("study", "findings", "tables", "report", "runner", "page", "plots"):
        monkeypatch.delitem(sys.modules, f"recbole_hellm.tune.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert main(["tune", "--dataset", "x", "--plan", "HeLLM-quick"]) == 2
    assert (
        capsys.readouterr().err
        == "error: tune needs Optuna; run: pip install 'optuna>=5,<6' (or recbole-hellm[tune])\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--plan", "HeLLM-quik"], "unknown plan 'HeLLM-quik' (did you mean 'HeLLM-quick'?)"),
        (["--plan", "HeLLM-quick", "--metric=test_ndcg@10"], "chosen on validation only"),
        (["--plan", "HeLLM-quick", "--study=a/b"], "--study must be letters"),
        (["--plan", "HeLLM-quick", "--trials=many"], "'trials' must be of type int"),
        (["--plan", "HeLLM-quick", "--seeds=x"], "--seeds must be a number of seeds"),
        (["--plan", "HeLLM-quick", "--lora_rr=1"], "'lora_rr' (did you mean 'lora_r'?)"),
        (["--plan", "HeLLM-quick", "--seed=1"], "use seeds"),
        (["--plan", "HeLLM-quick", "--config_file=x.yaml"], "setting 'config_file' = 'x.yaml' is not read"),
        (["--plan", "HeLLM-quick", "--config_files=gone.yaml"], "settings file gone.yaml does not exist"),
        (["--plan", "HeLLM-quick", "--config=gone.yaml", "--config_files=x"], "settings file gone.yaml does not exist"),
    ],
)
def test_a_slip_on_the_command_line_is_named(toy, tmp_path, capsys, arguments, message):
    assert main(["tune", "--dataset", "x", *arguments]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "tuned").exists()
