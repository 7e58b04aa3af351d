from dataclasses import fields
from pathlib import Path

import pytest
import recbole
import yaml
from recbole.utils.argument_list import (
    dataset_arguments,
    evaluation_arguments,
    general_arguments,
    training_arguments,
)

from recbole_hellm.config.layers import VARIANT_KEYS
from recbole_hellm.config.recbole_config import FRAMEWORK_KEYS, HellmConfig, preset_settings, read_yaml
from recbole_hellm.config.resources import properties_dir
from recbole_hellm.config.specs import SPECS, FeatureSpec, GraphSpec, TransitionSpec, check_together
from recbole_hellm.errors import ConfigError

PLANS = ("accelerate", "benchmark", "tune")  # have tests of their own
FILES = sorted(path for path in properties_dir().rglob("*.yaml") if path.parent.name not in PLANS)
KINDS = {"dataset": 4, "model": 4, "preset": 7, "properties": 1}
PRESETS = [path for path in FILES if path.parent.name == "preset"]


def ours(spec):
    return {spec.prefix + field.name: field.default for field in fields(spec)}


def same(value, default):
    return value == (list(default) if isinstance(default, tuple) else default) and (
        isinstance(value, bool) == isinstance(default, bool)
    )


def test_all_files_are_here():
    found = [path.parent.name for path in FILES]
    assert {kind: found.count(kind) for kind in found} == KINDS


@pytest.mark.parametrize(
    ("model", "specs", "others"),
    [
        ("HeLLM", SPECS[1:], {}),  # RunSpec stands in overall.yaml
        ("MMHCL", (FeatureSpec, GraphSpec), {"graph_user_hypergraph": True, "graph_neighbours": 10}),  # as published
        ("TransitionCounts", (TransitionSpec,), {}),
    ],
)
def test_defaults_of_specs_and_model_yaml_are_equal(model, specs, others):
    settings = read_yaml(properties_dir() / "model" / f"{model}.yaml")
    defaults = {key: value for spec in specs for key, value in ours(spec).items()}
    assert not set(defaults) - set(settings)
    assert all(defaults[key] != other for key, other in others.items())
    defaults |= others
    for key, default in defaults.items():
        assert same(settings[key], default), f"{key}: yaml {settings[key]!r}, spec {default!r}"


def test_shared_keys_of_hellm_and_mmhcl_are_equal():
    one, two = (read_yaml(properties_dir() / "model" / f"{name}.yaml") for name in ("HeLLM", "MMHCL"))
    shared = [key for key in one if key in two and key.startswith(("graph_", "item_", "text_", "feature_"))]
    shared = [key for key in shared if key not in ("graph_user_hypergraph", "graph_neighbours")]  # see above
    assert len(shared) >= 17
    assert {key: one[key] for key in shared} == {key: two[key] for key in shared}


def test_shared_keys_of_hellm_and_transition_counts_are_equal():
    one, two = (read_yaml(properties_dir() / "model" / f"{name}.yaml") for name in ("HeLLM", "TransitionCounts"))
    shared = [key for key in two if key.startswith("transition_")]
    assert len(shared) == 8
    assert {key: one[key] for key in shared} == {key: two[key] for key in shared}


def readable_keys():
    folder = Path(recbole.__file__).parent / "properties"
    known = {*general_arguments, *training_arguments, *evaluation_arguments, *dataset_arguments}
    for file in ("overall.yaml", "dataset/sample.yaml"):
        known |= set(yaml.safe_load((folder / file).read_text()))
    known |= {key for spec in SPECS for key in spec.keys()}  # noqa: SIM118
    return known | FRAMEWORK_KEYS


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_key_is_read_by_recbole_or_a_spec(path):
    settings = read_yaml(path)
    assert len(settings) >= 3
    variant = VARIANT_KEYS if path.parent.name == "model" else ()
    assert sorted(set(settings) - readable_keys() - {*variant}) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_no_key_stands_twice_in_a_file(path):
    keys = [line.partition(":")[0] for line in path.read_text().splitlines() if line[:1].isalpha()]
    assert len(keys) == len(set(keys)) == len(read_yaml(path))


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_presets_load_and_satisfy_every_rule(path):
    model, _, preset = path.stem.partition("-")
    settings = {**read_yaml(properties_dir() / "model" / f"{model}.yaml"), **preset_settings(model, preset)}
    for spec in SPECS:
        spec.from_config(settings)
    check_together(settings)
    config = HellmConfig(model, "amazon-toys", argv=[f"--preset={preset}"])
    assert {key: config[key] for key in read_yaml(path)} == read_yaml(path)


def test_the_default_preset_is_the_model_yaml():
    assert preset_settings("HeLLM", "default") == {}


def test_the_paper_preset_is_the_published_architecture():
    paper = {**read_yaml(properties_dir() / "model" / "HeLLM.yaml"), **preset_settings("HeLLM", "paper")}
    want = {
        "lora_r": 16, "lora_alpha": 16, "lora_dropout": 0.05, "prefix_len": 10, "prefix_rank": 0, "prefix_dropout": 0.3,
        "llm_layers": -1, "prompt_template": "alpaca", "finetune_targets": "last", "finetune_slot_norm": False,
        "graph_contrast": "all", "graph_loss": "bpr", "feature_missing": "mean", "loss_type": "CE",
        "learning_rate": 3e-4,
        "weight_decay": 0.1, "train_batch_size": 7, "finetune_min_learning_rate": 5e-6, "finetune_dropout": 0.0,
        "lora_targets": ["gate_proj", "up_proj", "down_proj"], "finetune_label_smoothing": 0.0, "fusion": "off",
    }  # fmt: skip
    assert {key: paper[key] for key in want} == want


def test_every_architectural_departure_of_the_default_preset_is_printed(tmp_path, monkeypatch):
    from recbole_hellm.testing import checkerboard_settings, tiny_llm
    from recbole_hellm.testing.building import build

    monkeypatch.chdir(tmp_path)
    small = checkerboard_settings(tmp_path, tiny_llm(tmp_path / "llm"))
    default = read_yaml(properties_dir() / "model" / "HeLLM.yaml")
    paper = preset_settings("HeLLM", "paper")
    schedule = {
        "pretrain_batch_size",
        "pretrain_learning_rate",
        "pretrain_epochs",
        "pretrain_schedule",
        "learning_rate",
    }
    schedule |= {"train_batch_size", "pretrain_max_steps", "epochs", "eval_step", "stopping_step"}
    schedule |= {"finetune_warmup_epochs", "graph_neighbours"}  # the latter differs between the authors' data sets
    differ = {key for key in paper if default[key] != paper[key]} - schedule
    assert len(differ) == 15
    lines = build("HeLLM", {**small, **{key: default[key] for key in differ}, "llm_layers": 1}).model.departures()
    assert {key for key in differ if any(line.startswith(key) for line in lines)} == differ
    neither = differ - {"prompt_template"}  # the toy model has no tokenizer
    lines = build("HeLLM", {**small, **{key: paper[key] for key in neither}}).model.departures()
    assert [line.partition("=")[0] for line in lines] == ["prompt_template"]


def test_an_unknown_preset_gives_the_near_name_and_all_known():
    with pytest.raises(ConfigError) as error:
        preset_settings("HeLLM", "papr")
    message = "unknown preset 'papr' of HeLLM (did you mean 'paper'?); known: default, demo, fast, paper, without-llm"
    assert str(error.value) == message


def test_resources_are_found_beside_the_package_or_named(monkeypatch, tmp_path):
    from recbole_hellm.config import resources

    assert (properties_dir() / "overall.yaml").is_file()
    monkeypatch.setattr(resources, "__file__", str(tmp_path / "a" / "b" / "c.py"))
    with pytest.raises(FileNotFoundError, match="reinstall recbole_hellm"):
        properties_dir()
