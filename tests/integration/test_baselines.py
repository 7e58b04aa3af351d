"""RecBole's own models train, are saved and are evaluated through our command as ours are."""

from pathlib import Path

import pytest

from recbole_hellm.data.prepare import prepare
from recbole_hellm.quick_start import run_recbole_hellm

ITEM = {"load_col": {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "categories"]}}
SMALL = {
    "MAX_ITEM_LIST_LENGTH": 10,
    "user_inter_num_interval": "[20,40]",
    "train_batch_size": 1024,
    "eval_batch_size": 100_000,
    "epochs": 1,
    "embedding_size": 16,
    "hidden_size": 16,
    "inner_size": 16,
    "n_layers": 1,
    "show_progress": False,
    "state": "ERROR",
}
MODELS = {
    "SASRec": {},
    "GRU4Rec": {"num_layers": 1},
    "BERT4Rec": {},
    "BPR": {},
    "LightGCN": {},
    "FDSA": {**ITEM, "selected_features": ["categories"]},
}


@pytest.fixture(scope="module")
def movies(tmp_path_factory):
    return prepare("ml-100k", None, tmp_path_factory.mktemp("movies")).parent


@pytest.fixture
def run(movies, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["pytest"])

    def start(model, **changes):
        settings = {
            **SMALL,
            "data_path": str(movies),
            "checkpoint_dir": "saved",
            "result_file": "result.json",
            **changes,
        }
        widths = {"embedding_size", "hidden_size", "inner_size", "n_layers"}
        return run_recbole_hellm(model, "ml-100k", config_dict=only_known(model, settings, widths))

    return start


def only_known(model, settings, widths):
    """Drop the sizes this model does not have, which would be refused as unknown settings."""
    import recbole
    import yaml

    file = Path(recbole.__file__).parent / "properties" / "model" / f"{model}.yaml"
    known = set(yaml.safe_load(file.read_text())) if file.is_file() else set()
    return {key: value for key, value in settings.items() if key not in widths - known}


def evaluated_again(result):
    """Load the checkpoint with RecBole's own function and evaluate it with RecBole's own trainer."""
    from recbole.quick_start import load_data_and_model  # noqa: TID251
    from recbole.utils import get_trainer

    config, net, _, _, _, test = load_data_and_model(result["trainer"].saved_model_file)
    return get_trainer(config["MODEL_TYPE"], config["model"])(config, net).evaluate(test, load_best_model=False)


@pytest.mark.parametrize("model", MODELS)
def test_a_baseline_trains_and_its_checkpoint_gives_the_same_metrics(model, run):
    result = run(model, **MODELS[model])
    assert result["config"]["MAX_ITEM_LIST_LENGTH"] == 10
    assert len(result["trainer"].ranks["user"]) > 100
    assert result["test_result"]["recall@20"] > 0
    assert evaluated_again(result) == result["test_result"]


def test_s3rec_pretrains_then_finetunes(run):
    settings = {**ITEM, "item_attribute": "categories"}
    first = run("S3Rec", **settings, train_stage="pretrain", pretrain_epochs=1, save_step=1)
    saved = first["trainer"].saved_model_file
    assert (Path(saved) / "checkpoint.json").is_file()
    assert first["test_result"] is None
    result = run("S3Rec", **settings, train_stage="finetune", pre_model_path=saved)
    assert result["test_result"]["recall@20"] > 0
    assert evaluated_again(result) == result["test_result"]


def test_ract_runs_its_three_stages(run):
    saved = None
    for stage in ("actor_pretrain", "critic_pretrain"):
        given = {"train_stage": stage, "pretrain_epochs": 1, "save_step": 1}
        saved = run("RaCT", **given, **({"pre_model_path": saved} if saved else {}))["trainer"].saved_model_file
        assert (Path(saved) / "checkpoint.json").is_file()
    result = run("RaCT", train_stage="finetune", pre_model_path=saved)
    assert result["test_result"]["recall@20"] > 0


def test_baselines_and_ours_are_tested_on_the_same_events(run):
    """Same users, same targets, whatever ids a model's data set gave them."""
    ranks = {model: run(model)["trainer"].ranks for model in ("BPR", "GRU4Rec", "TransitionCounts")}
    pairs = {model: set(zip(found["user"], found["item"], strict=True)) for model, found in ranks.items()}
    assert len(pairs["BPR"]) > 100
    assert pairs["BPR"] == pairs["GRU4Rec"] == pairs["TransitionCounts"]
