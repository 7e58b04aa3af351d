"""RecBole's own entry points run the models of this package, and models users register, unmodified."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from recbole.config import Config
from recbole.model.abstract_recommender import GeneralRecommender, SequentialRecommender
from recbole.model.sequential_recommender import GRU4Rec
from recbole.trainer import HyperTuning
from recbole.utils import InputType, get_model, get_trainer
from torch import nn

from recbole_hellm import plugin, registry
from recbole_hellm.config.recbole_config import HellmConfig
from recbole_hellm.errors import ArtifactError, ConfigError
from recbole_hellm.quick_start import run_recbole_hellm
from recbole_hellm.testing import CHECKERBOARD
from recbole_hellm.trainer.evaluation import EvaluationMixin
from recbole_hellm.trainer.recbole_format import rebuilt_config

MODELS = ("HeLLM", "MMHCL", "TransitionCounts", "E4SRec")
RUNS = [*((name, {}) for name in MODELS), ("HeLLM", {"fusion": "learned"}),
        ("HeLLM", {"fusion": "learned", "fusion_parts": ["llm", "neighbours", "repeat"]})]  # fmt: skip


@pytest.fixture(scope="module")
def recbole_start():
    """RecBole's module of entry points, which imports ray."""
    import recbole.quick_start.quick_start as module  # noqa: TID251

    return module


class LastItem(SequentialRecommender):
    """Scores by a table of (last item, next item)."""

    input_type = InputType.POINTWISE

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.table = nn.Embedding(self.n_items, self.n_items)

    def full_sort_predict(self, interaction):
        last = interaction[self.ITEM_SEQ].gather(1, interaction[self.ITEM_SEQ_LEN].unsqueeze(1) - 1)
        return self.table(last.squeeze(1))

    def predict(self, interaction):
        return self.full_sort_predict(interaction).gather(1, interaction[self.ITEM_ID].unsqueeze(1)).squeeze(1)

    def calculate_loss(self, interaction):
        return nn.functional.cross_entropy(self.full_sort_predict(interaction), interaction[self.POS_ITEM_ID])


class Liked(GeneralRecommender):
    """Scores by one number an item."""

    input_type = InputType.PAIRWISE

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.value = nn.Parameter(torch.zeros(self.n_items))

    def full_sort_predict(self, interaction):
        return self.value.repeat(len(interaction[self.USER_ID]))

    def predict(self, interaction):
        return self.value[interaction[self.ITEM_ID]]

    def calculate_loss(self, interaction):
        apart = self.value[interaction[self.ITEM_ID]] - self.value[interaction[self.NEG_ITEM_ID]]
        return -nn.functional.logsigmoid(apart).mean()


@pytest.fixture
def registered():
    """Register models for one test only."""
    names = []

    def add(model):
        names.append(model.__name__)
        registry.models.add(model.__name__, model)
        plugin.register()

    yield add
    for name in {*names, *(set(registry.models) - set(MODELS))}:
        registry.models.remove(name)
        for module in [key for key in sys.modules if key.startswith("recbole.model.") and key.endswith(name.lower())]:
            del sys.modules[module]


@pytest.mark.parametrize(("model", "changes"), RUNS)
def test_run_recbole_gives_what_our_command_gives(model, changes, toy, recbole_start):
    ours = run_recbole_hellm(model, CHECKERBOARD, config_dict=toy(**changes))
    theirs = recbole_start.run_recbole(model, CHECKERBOARD, config_dict=toy(**changes))
    assert theirs["test_result"] == ours["test_result"]
    assert theirs["best_valid_result"] == ours["best_valid_result"]
    assert set(ours["test_result"]) == {"recall@5", "ndcg@5", "mrr@5"}


@pytest.mark.parametrize(("model", "changes"), RUNS)
def test_load_data_and_model_reads_a_checkpoint(model, changes, toy, recbole_start):
    trained = run_recbole_hellm(model, CHECKERBOARD, config_dict=toy(**changes))
    loaded = recbole_start.load_data_and_model(trained["trainer"].saved_model_file)
    config, net, _, _, valid_data, test_data = loaded
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, net)
    assert trainer.evaluate(test_data, load_best_model=False) == trained["test_result"]
    assert trainer.evaluate(valid_data, load_best_model=False) == trained["best_valid_result"]
    assert isinstance(trainer, EvaluationMixin)


def test_a_model_is_loaded_with_its_settings_after_a_default_changed(toy, recbole_start):
    settings = toy(eval_step=1)
    own = Path(settings["data_path"]) / CHECKERBOARD / f"{CHECKERBOARD}.yaml"
    kept = own.read_text() if own.is_file() else ""
    own.write_text(f"{kept}\ntransition_recency_decay: 0.05\ntransition_tau: 2.0\n")
    trained = run_recbole_hellm("TransitionCounts", CHECKERBOARD, config_dict=settings)
    own.write_text(f"{kept}\ntransition_recency_decay: 1.0\n")
    changed = run_recbole_hellm("TransitionCounts", CHECKERBOARD, config_dict=settings)
    assert changed["best_valid_result"] != trained["best_valid_result"]
    config, net, *_, valid_data, _ = recbole_start.load_data_and_model(trained["trainer"].saved_model_file)
    assert (config["transition_recency_decay"], config["transition_tau"]) == (0.05, 2.0)
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, net)
    assert trainer.evaluate(valid_data, load_best_model=False) == trained["best_valid_result"]


def test_a_model_without_one_of_todays_settings_is_refused(toy):
    folder = Path(run_recbole_hellm("TransitionCounts", CHECKERBOARD, config_dict=toy())["trainer"].saved_model_file)
    settings = json.loads((folder / "settings.json").read_text())
    assert rebuilt_config(folder, settings)["transition_tau"] == settings["final"].pop("transition_tau")
    with pytest.raises(ArtifactError, match=r"made with transition_tau='unknown'.* version"):
        rebuilt_config(folder, settings)


def test_a_model_is_loaded_whose_settings_name_the_files_they_came_from(toy):
    """RecBole's own command line leaves ``config_files`` among them."""
    folder = Path(run_recbole_hellm("TransitionCounts", CHECKERBOARD, config_dict=toy())["trainer"].saved_model_file)
    settings = json.loads((folder / "settings.json").read_text())
    settings["given"]["config_files"] = settings["final"]["config_files"] = "gone.yaml"
    assert rebuilt_config(folder, settings)["config_files"] is None


@pytest.mark.parametrize("model", MODELS)
def test_objective_function_runs(model, toy, recbole_start):
    settings = toy(model=model, dataset=CHECKERBOARD)
    result = recbole_start.objective_function(settings, saved=True)
    assert result["model"] == model
    assert result["test_result"] == run_recbole_hellm(model, CHECKERBOARD, config_dict=toy())["test_result"]


def test_hyper_tuning_tries_our_settings(toy, tmp_path, recbole_start):
    (tmp_path / "space.txt").write_text("lora_r choice [0,2]\n")
    (tmp_path / "fixed.yaml").write_text(yaml.safe_dump(toy(model="HeLLM", dataset=CHECKERBOARD)))
    tuning = HyperTuning(
        recbole_start.objective_function,
        params_file=str(tmp_path / "space.txt"),
        fixed_config_file_list=[str(tmp_path / "fixed.yaml")],
        algo="exhaustive",
    )
    tuning.run()
    scores = {name: result["best_valid_score"] for name, result in tuning.params2result.items()}
    assert set(scores) == {"lora_r:0", "lora_r:2"}
    assert tuning.best_score == max(scores.values())
    assert scores[f"lora_r:{tuning.best_params['lora_r']}"] == tuning.best_score
    assert scores["lora_r:0"] != scores["lora_r:2"], "the setting reached no model"


def test_settings_of_our_yaml_reach_recboles_own_config(toy):
    config = Config("HeLLM", CHECKERBOARD, config_dict={"data_path": toy()["data_path"]})
    assert config["lora_targets"] == ["gate_proj", "up_proj", "down_proj"]
    assert config["finetune_targets"] == "all"
    assert config["metric_decimal_place"] == 6
    untouched = Config(
        "SASRec", CHECKERBOARD, config_dict={"data_path": toy()["data_path"], "train_neg_sample_args": None}
    )
    assert untouched["metric_decimal_place"] == 4
    assert untouched["finetune_targets"] is None


@pytest.mark.parametrize(("model", "learned"), [(LastItem, 1.0), (Liked, 0.0)])
def test_a_users_model_runs_everywhere(model, learned, toy, registered, recbole_start):
    registered(model)
    settings = toy(epochs=30, learning_rate=0.1)
    assert get_model(model.__name__) is model
    assert HellmConfig(model.__name__, CHECKERBOARD, config_dict=settings).model_class is model
    theirs = recbole_start.run_recbole(model.__name__, CHECKERBOARD, config_dict=settings)
    ours = run_recbole_hellm(model, CHECKERBOARD, config_dict=settings)
    assert theirs["test_result"] == ours["test_result"]
    assert ours["test_result"]["recall@5"] >= learned


def test_a_class_needs_no_registration(toy, registered):
    result = run_recbole_hellm(LastItem, CHECKERBOARD, config_dict=toy(epochs=30, learning_rate=0.1))
    assert result["test_result"]["recall@5"] == 1.0
    assert np.array_equal(np.unique(result["trainer"].ranks["rank"]), [1])


def test_a_name_is_given_once(registered):
    registered(LastItem)
    with pytest.raises(ConfigError, match="model 'LastItem' is already registered"):
        registry.models.add("LastItem", Liked)
    assert registry.models.get("LastItem") is LastItem


def test_another_class_of_the_same_name_is_refused(toy, registered):
    registered(LastItem)
    with pytest.raises(ConfigError, match=r"'LastItem' is already registered with another class.*remove\('LastItem'\)"):
        run_recbole_hellm(type("LastItem", (Liked,), {}), CHECKERBOARD, config_dict=toy())


def test_recboles_own_class_runs_as_its_name(toy):
    settings = toy(epochs=1)
    by_class = run_recbole_hellm(GRU4Rec, CHECKERBOARD, config_dict=settings)
    assert "GRU4Rec" not in registry.models
    assert by_class["test_result"] == run_recbole_hellm("GRU4Rec", CHECKERBOARD, config_dict=settings)["test_result"]


def test_register_is_idempotent():
    before = Config._load_internal_config_dict
    plugin.register()
    assert Config._load_internal_config_dict is before


def test_import_loads_neither_dgl_nor_transformers():
    heavy = ("dgl", "transformers", "peft", "sentence_transformers", "ray")
    code = f"import sys, recbole_hellm, recbole_hellm.quick_start; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]"
