"""Models that are another model with settings of their own: E4SRec, and those users add."""

import logging
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import recbole.data.dataset
import yaml
from recbole.config import Config
from recbole.utils import get_model, get_trainer

from recbole_hellm import plugin, registry
from recbole_hellm.config import layers
from recbole_hellm.config.layers import VARIANT_KEYS, layered_settings, preset_settings, read_yaml
from recbole_hellm.config.recbole_config import HellmConfig, find_model
from recbole_hellm.config.resources import properties_dir
from recbole_hellm.errors import ConfigError
from recbole_hellm.models import variants
from recbole_hellm.models.hellm import HeLLM
from recbole_hellm.models.mmhcl import MMHCL
from recbole_hellm.quick_start import run_recbole_hellm
from recbole_hellm.registry import ModelRegistry
from recbole_hellm.testing import CHECKERBOARD
from recbole_hellm.testing.building import build
from recbole_hellm.trainer.datasets import HellmSequentialDataset
from recbole_hellm.trainer.staged import FinetuneTrainer

E4SREC = {
    "finetune_graph_vectors": False,
    "sequence_vectors": True,
    "prefix_len": 0,
    "prefix_graph": False,
    "fusion": "off",
}


@pytest.fixture
def models():
    """The table of models, without what a test adds to it afterwards."""
    before = set(registry.models)
    yield registry.models
    for name in set(registry.models) - before:
        registry.models.remove(name)
        for module in [key for key in sys.modules if key.startswith("recbole.model.") and key.endswith(name.lower())]:
            del sys.modules[module]


@pytest.fixture
def small(toy):
    """Settings of a quick run that leave the prefix to the model."""

    def settings(**changes):
        return {key: value for key, value in toy(**changes).items() if key != "prefix_len" or key in changes}

    return settings


def test_e4srec_is_hellm_without_any_graph(small):
    model = build("E4SRec", small()).model
    assert isinstance(model, HeLLM)
    assert type(model).__name__ == "E4SRec"
    assert model.needs == ("sequence",)
    assert model.core.prefix is None
    assert model.core.item_tokens.projection[0].in_features == 8, "more than the sequence vectors is in the slots"
    assert model.core.sequence_vectors.any()
    assert not model.core.graph_vectors.any()
    assert any(".lora_A." in name for name, _ in model.named_parameters())


@pytest.mark.parametrize("preset", ["default", "demo", "paper"])
@pytest.mark.parametrize("dataset", ["amazon-toys", "ml-100k"])
def test_everything_else_is_hellms(dataset, preset):
    one, two = (
        HellmConfig(name, dataset, argv=[f"--preset={preset}"]).final_config_dict for name in ("HeLLM", "E4SRec")
    )
    differ = {key for key in {*one, *two} if one.get(key) != two.get(key)}
    asked = {key for key, value in E4SREC.items() if one[key] != value}
    assert {key: two[key] for key in E4SREC} == E4SREC
    fused = {"fusion"} if preset != "paper" else set()
    assert asked == {"finetune_graph_vectors", "prefix_len", "prefix_graph", *fused}
    assert differ == asked | {"model"}


def test_it_is_what_hellm_with_these_settings_is(small):
    ours = run_recbole_hellm("E4SRec", CHECKERBOARD, config_dict=small())
    same = run_recbole_hellm("HeLLM", CHECKERBOARD, config_dict=small(**E4SREC))
    assert ours["test_result"] == same["test_result"]


def test_it_shares_hellms_stage_and_keeps_its_own_name(small):
    hellm = run_recbole_hellm("HeLLM", CHECKERBOARD, config_dict=small(epochs=1))
    result = run_recbole_hellm("E4SRec", CHECKERBOARD, config_dict=small(epochs=1))
    stage = {record["name"]: record for record in result["stages"]}["sequence"]
    assert stage["status"] == "reused"
    assert stage["path"] == {record["name"]: record for record in hellm["stages"]}["sequence"]["path"]
    written = yaml.safe_load(open(result["result_file"]))  # noqa: PTH123, SIM115
    assert written["model"] == "E4SRec"
    assert Path(result["trainer"].saved_model_file).parent.name.startswith("E4SRec-")


def test_recbole_knows_it():
    assert get_model("E4SRec") is registry.models.get("E4SRec") is variants.E4SRec
    assert get_trainer(None, "E4SRec") is FinetuneTrainer
    assert recbole.data.dataset.E4SRecDataset is HellmSequentialDataset


def test_only_departures_from_its_own_paper_are_printed(small):
    names = [line.partition("=")[0] for line in build("E4SRec", small()).model.departures()]
    assert "finetune_targets" in names
    assert not {*names} & {*E4SREC}
    lines = build("E4SRec", small(prefix_len=2, sequence_vectors=False, finetune_graph_vectors=True)).model.departures()
    assert "prefix_len=2: E4SRec has 0" in lines
    assert "sequence_vectors=False: E4SRec has True" in lines
    assert len([line for line in lines if line.startswith("sequence_vectors")]) == 1


def test_a_checkpoint_finds_the_class_in_a_new_process():
    code = "import pickle, sys; print(pickle.load(sys.stdin.buffer).__mro__[1].__name__)"
    done = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(registry.models.get("E4SRec")), capture_output=True, check=True
    )
    assert done.stdout.split() == [b"HeLLM"]


def test_a_checkpoint_of_an_unknown_variant_says_what_to_do(models):
    stored = pickle.dumps(models.add_variant("Mine", "HeLLM", {"prefix_len": 0}))
    assert pickle.loads(stored) is models.get("Mine")
    models.remove("Mine")
    with pytest.raises(ConfigError, match=r"model 'Mine' is no model.*add_variant\('Mine', base, settings\)"):
        pickle.loads(stored)
    assert not hasattr(variants, "__path__")


def test_a_users_variant_runs_everywhere_without_another_call(models, small):
    mine = models.add_variant("Narrow", "HeLLM", {"prefix_graph": False, "lora_r": 1}, about="Mine.")
    assert (mine.__doc__, mine.__mro__[1]) == ("Mine.", HeLLM)
    assert get_model("Narrow") is mine is find_model("Narrow")
    assert recbole.data.dataset.NarrowDataset is HellmSequentialDataset
    theirs = Config("Narrow", CHECKERBOARD, config_dict=small() | {"lora_r": 3})
    assert (theirs["prefix_graph"], theirs["lora_r"]) == (False, 3), "what a run sets is stronger"
    result = run_recbole_hellm("Narrow", CHECKERBOARD, config_dict=small(epochs=1, prefix_len=2))
    assert result["trainer"].model.core.prefix.graph_dim == 0
    assert result["config"]["model"] == "Narrow"


def test_a_variant_of_a_variant_and_of_a_general_model(models):
    models.add_variant("Small", "E4SRec", {"llm_layers": 1, "sequence_vectors": False, "finetune_graph_vectors": True})
    assert models.lineage("Small") == ["HeLLM", "E4SRec", "Small"]
    config = HellmConfig("Small", "amazon-toys", argv=["--preset=paper"])
    assert (config["llm_layers"], config["prefix_len"], config["prompt_template"]) == (1, 0, "alpaca")
    assert dict(models.get("Small").by_design) == {
        **E4SREC,
        "sequence_vectors": False,
        "llm_layers": 1,
        "finetune_graph_vectors": True,
    }
    models.add_variant("Plain", "MMHCL", {"graph_alpha_user": 0.0})
    assert issubclass(models.get("Plain"), MMHCL)
    assert HellmConfig("Plain", "amazon-toys")["graph_alpha_user"] == 0.0
    assert models.lineage("HeLLM") == ["HeLLM"]
    assert models.own_settings("HeLLM") == {}


def test_what_a_variant_stands_for_holds_on_every_data_set(models):
    """The yaml of Toys asks for text and image, and the preset ``paper`` for a prefix of 10."""
    models.add_variant("TextOnly", "HeLLM", {"item_features": ["text"], "prefix_len": 3})
    config = HellmConfig("TextOnly", "amazon-toys", argv=["--preset=paper"])
    assert (config["item_features"], config["prefix_len"]) == (["text"], 3)
    assert HellmConfig("HeLLM", "amazon-toys")["item_features"] == ["text", "image"]


def test_its_own_preset_is_laid_over_that_of_the_base(models, tmp_path, monkeypatch):
    folder = tmp_path / "properties"
    for kind in ("model", "dataset", "preset"):
        (folder / kind).mkdir(parents=True)
    (folder / "overall.yaml").write_text("data_path: dataset/\n")
    (folder / "preset" / "HeLLM-demo.yaml").write_text("epochs: 4\nlora_r: 8\n")
    (folder / "preset" / "Mine-demo.yaml").write_text("lora_r: 9\n")
    (folder / "preset" / "Mine-long.yaml").write_text("epochs: 400\n")
    monkeypatch.setattr(layers, "properties_dir", lambda: folder)
    mine = models.add_variant("Mine", "HeLLM", {"lora_r": 1})
    assert preset_settings("Mine", "demo") == {"epochs": 4, "lora_r": 9}
    made = layered_settings("Mine", mine, "toy", {}, {"preset": "long"})
    assert (made["epochs"], made["lora_r"]) == (400, 1)
    with pytest.raises(ConfigError, match=r"unknown preset 'lon' of Mine \(did you mean 'long'\?\); known: default, d"):
        preset_settings("Mine", "lon")


REFUSED = [
    (("Mine", "HelLM", {}), "model 'Mine' names an unknown model 'HelLM' (did you mean 'HeLLM'?); known: "),
    (("E4SRec", "HeLLM", {}), "model 'E4SRec' is already registered"),
    (("Mine-2", "HeLLM", {}), "model 'Mine-2' must be a Python name"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED)
def test_a_wrong_variant_is_refused(models, arguments, message):
    before = {name: dict(models.own_settings(name)) for name in models}
    with pytest.raises(ConfigError) as error:
        models.add_variant(*arguments)
    assert message in str(error.value)
    assert {name: dict(models.own_settings(name)) for name in models} == before


def test_a_setting_that_nothing_reads_is_refused(models):
    models.add_variant("Mine", "HeLLM", {"prefix_lenn": 0})
    with pytest.raises(ConfigError, match=r"'Mine' has an unknown setting 'prefix_lenn' \(did you mean 'prefix_len'"):
        HellmConfig("Mine", "amazon-toys")
    models.add_variant("Yours", "HeLLM", {"config_file": "x.yaml"})
    with pytest.raises(ConfigError, match="'Yours' has an unknown setting 'config_file'"):
        HellmConfig("Yours", "amazon-toys")
    with pytest.raises(ConfigError, match="unknown setting 'base_model'"):
        HellmConfig("HeLLM", "amazon-toys", argv=["--base_model=MMHCL"])


def test_without_a_description_the_settings_are_it(models):
    models.add_variant("Mine", "HeLLM", {"prefix_len": 0, "lora_targets": ["up_proj"]})
    assert models.get("Mine").__doc__ == "HeLLM with prefix_len=0, lora_targets=['up_proj']."


def test_the_table_tells_its_listeners():
    table, told = ModelRegistry({"A": "recbole_hellm.models.hellm:HeLLM"}), []
    table.listeners.append(lambda: told.append(sorted(table)))
    table.add_variant("B", "A", {"lora_r": 0})
    assert told == [["A", "B"]]
    table.remove("B")
    assert table.lineage("B") == ["B"]


@pytest.fixture
def files(models, tmp_path, monkeypatch):
    """A folder ``properties/model`` to write into."""
    folder = tmp_path / "properties" / "model"
    folder.mkdir(parents=True)
    (folder / "HeLLM.yaml").write_text("epochs: 20\nabout_nothing: base_model\n")
    monkeypatch.setattr(layers, "properties_dir", lambda: folder.parent)
    return folder


def test_a_yaml_alone_makes_a_model(files, models):
    (files / "Aaa.yaml").write_text("base_model: Zzz\nabout: First in the alphabet.\nlora_r: 1\n")
    (files / "Zzz.yaml").write_text("# a comment\nbase_model: HeLLM\nlora_r: 2\nlearning_rate: 1e-3\n")
    assert sorted(layers.variant_files()) == ["Aaa", "Zzz"]
    plugin.register()
    assert models.lineage("Aaa") == ["HeLLM", "Zzz", "Aaa"]
    assert dict(models.own_settings("Zzz")) == {"lora_r": 2, "learning_rate": 0.001}
    assert models.get("Aaa").__doc__ == "First in the alphabet."
    assert get_model("Zzz") is models.get("Zzz")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base_model: HelLM\n", "unknown model 'HelLM' (did you mean 'HeLLM'?)"),
        ("base_model: Mine\n", "unknown model 'Mine'; known: "),
        ("base_model:\n", "names an unknown model ''"),
        ("base_model: [\n", "is no valid yaml"),
    ],
)
def test_a_wrong_yaml_spoils_nothing_but_its_own_model(files, models, caplog, text, message):
    (files / "Mine.yaml").write_text(text)
    with caplog.at_level(logging.WARNING):
        plugin.register()
    assert "model Mine is left out: settings file" in caplog.text
    assert message in caplog.text
    assert "Mine" not in models
    with pytest.raises(ConfigError) as error:
        find_model("Mine")
    assert str(files / "Mine.yaml") in str(error.value)
    assert message in str(error.value)


def test_the_shipped_variants():
    found = layers.variant_files()
    assert list(found) == ["E4SRec"]
    settings = read_yaml(found["E4SRec"])
    assert {key: value for key, value in settings.items() if key not in VARIANT_KEYS} == E4SREC
    assert settings["base_model"] == "HeLLM"
    assert found["E4SRec"].parent == properties_dir() / "model"
