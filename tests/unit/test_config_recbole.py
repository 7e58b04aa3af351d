import sys
from pathlib import Path

import pytest
from recbole.utils import InputType

from recbole_hellm.config.recbole_config import HellmConfig, find_model, recbole_model_names
from recbole_hellm.errors import ConfigError

SPLIT = "{split: {LS: valid_and_test}, order: TO, group_by: user, mode: full}"


def config(*argv, model="HeLLM", dataset="toy", **more):
    return HellmConfig(model, dataset, argv=argv, **more)


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_lists_arrive_unquoted():
    got = config("--lora_targets=[q_proj,v_proj]", "--topk=[5,10]", "--item_features=[]", "--valid_metric=Recall@5")
    assert got["lora_targets"] == ["q_proj", "v_proj"]
    assert (got["topk"], got["item_features"], got["valid_metric"]) == ([5, 10], [], "Recall@5")


def test_a_single_number_or_name_stands_for_a_list():
    got = config("--topk=10", "--metrics=NDCG")
    assert (got["topk"], got["metrics"]) == ([10], ["NDCG"])


def test_sys_argv_is_never_read(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["x", "--epochs=77", "--learning_rat=3", "--seed", "4"])
    assert config()["epochs"] == 4


def write(folder, **settings):
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("".join(f"{key}: {value}\n" for key, value in settings.items()))


def test_later_sources_win(tmp_path):
    """Overall < model < dataset < preset < file < code < command line, one key at a time."""
    write(tmp_path / "dataset" / "toy" / "toy.yaml", metric_decimal_place=5, epochs=111)
    write(tmp_path / "mine.yaml", train_batch_size=9, lora_r=3, prefix_len=4)
    plain = HellmConfig("HeLLM", "other")
    got = config(
        "--preset=paper", "--lora_r=5", config_file_list=["mine.yaml"], config_dict={"lora_r": 4, "prefix_len": 6}
    )
    assert (plain["metric_decimal_place"], got["metric_decimal_place"]) == (6, 5)  # data set over overall
    assert plain["valid_metric"] == "NDCG@10"  # overall over RecBole
    assert config()["epochs"] == 111  # data set over model
    assert got["epochs"] == 20  # preset over data set
    assert (plain["prefix_rank"], got["prefix_rank"]) == (16, 0)  # preset over model
    assert (config("--preset=paper")["train_batch_size"], got["train_batch_size"]) == (7, 9)  # file over preset
    assert got["prefix_len"] == 6  # code over file
    assert got["lora_r"] == 5  # command line over code


def test_the_later_of_two_files_wins(tmp_path):
    write(tmp_path / "a.yaml", lora_r=3, prefix_len=4)
    write(tmp_path / "b.yaml", lora_r=5)
    got = config(config_file_list=["a.yaml", "b.yaml"])
    assert (got["lora_r"], got["prefix_len"]) == (5, 4)


def test_yaml_of_the_data_set_beside_its_data_is_read(tmp_path):
    write(tmp_path / "elsewhere" / "toy" / "toy.yaml", MAX_ITEM_LIST_LENGTH=7, item_features="[image]")
    assert config()["MAX_ITEM_LIST_LENGTH"] == 50
    got = config("--data_path=elsewhere")
    assert (got["MAX_ITEM_LIST_LENGTH"], got["data_path"]) == (7, str(Path("elsewhere") / "toy"))


@pytest.mark.parametrize("model", ["HeLLM", "MMHCL"])
def test_a_data_set_says_which_features_it_has(model):
    got = config(model=model, dataset="amazon-toys")
    assert got["item_features"] == ["text", "image"]
    assert got["text_columns"] == ["title", "categories", "description"]


def test_known_data_sets_bring_their_own_settings():
    assert config(dataset="amazon-toys")["load_col"] == {"inter": ["user_id", "item_id", "timestamp"]}
    assert config("--item_features=[text]", dataset="amazon-toys")["item_features"] == ["text"]


@pytest.mark.parametrize(
    ("model", "negatives"),
    [("SASRec", None), ("GRU4Rec", None), ("HeLLM", None), ("BPR", 1), ("FPMC", 1), ("MMHCL", 1)],
)
def test_negatives_only_where_the_loss_needs_them(model, negatives):
    """The argument that RecBole's sequential models demand by hand, and pairwise ones must keep."""
    got = config(model=model)["train_neg_sample_args"]
    assert got["sample_num"] == (negatives or "none")
    assert (got["distribution"] == "none") == (negatives is None)


def test_a_sequential_model_with_bpr_loss_keeps_its_negatives():
    got = config("--loss_type=BPR", model="SASRec")
    assert got["MODEL_INPUT_TYPE"] == InputType.PAIRWISE
    assert got["train_neg_sample_args"]["sample_num"] == 1


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--learning_rat=1"], "unknown setting 'learning_rat' (did you mean 'learning_rate'?)"),
        (["--zzz=1"], "unknown setting 'zzz'"),
        (["--lora_k=1", "--epoch=2"], "unknown setting 'epoch' (did you mean 'epochs'?), 'lora_k' (did you mean "
         "'lora_r'?)"),
        (["--feature_missing=zeros"], "setting 'feature_missing' must be one of 'mean', 'zero', 'error', got 'zeros' "
         "(did you mean 'zero'?)"),
        (["--prefix_len=ten"], "setting 'prefix_len' must be of type int, got 'ten'"),
        (["--epochs=x"], "setting 'epochs' must be of type int, got 'x'"),
        (["--epochs=-1"], "setting 'epochs' must be >= 0, got -1"),
        (["--learning_rate=0"], "setting 'learning_rate' must be positive, got 0.0"),
        (["--train_batch_size=0"], "setting 'train_batch_size' must be positive, got 0"),
        (["--eval_batch_size=0"], "setting 'eval_batch_size' must be positive, got 0"),
        (["--seed=-1"], "setting 'seed' must be in [0, 2^32), got -1"),
        (["--topk=[0]"], "setting 'topk' must be a list of positive numbers, got (0,)"),
        (["--MAX_ITEM_LIST_LENGTH=0"], "setting 'MAX_ITEM_LIST_LENGTH' must be positive, got 0"),
        (["--valid_metric=NDCG@7", "--topk=[5]"], "setting 'valid_metric' must be one of Recall@5, NDCG@5, MRR@5 "
         "(metrics x topk), got 'NDCG@7' (did you mean 'NDCG@5'?)"),
        (["--loss_type=BCE"], "setting 'loss_type' must be one of 'CE', 'BPR', got 'BCE'"),
        (["--eval_args=full"], "setting 'eval_args' must be a mapping (split, order, group_by, mode), got 'full'"),
        (["--train_stage=actor_pretrain"], "setting 'train_stage' must be one of 'auto', 'pretrain', 'finetune', got "
         "'actor_pretrain'"),
        (["--clip_grad_norm=1.0"], "setting 'clip_grad_norm' must be a mapping such as {max_norm: 1.0}, got 1.0"),
        (["--prefix_len=1", "--llm_gradient_checkpointing=True"], "setting 'llm_gradient_checkpointing' excludes "
         "'prefix_len' > 0, got 1: transformers drops the key/value prefix when it recomputes a layer; set one of the "
         "two off"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_named_with_its_rule(argv, message):
    with pytest.raises(ConfigError) as error:
        config(*argv)
    assert str(error.value) == message


def test_an_unknown_metric_gives_the_near_name_and_all_known():
    with pytest.raises(ConfigError, match=r"'metrics' has 'Recal', .*\(did you mean 'recall'\?\); known: auc, "):
        config("--metrics=[Recal]")


def test_metrics_without_cutoff_choose_the_epoch_too():
    args = SPLIT.replace("full", "labeled").replace("valid_and_test", "valid_and_test")
    got = config("--metrics=[AUC]", "--valid_metric=AUC", f"--eval_args={args}", model="BPR")
    assert got["valid_metric"] == "AUC"


@pytest.mark.parametrize("model", ["HeLLM", "BPR"])
@pytest.mark.parametrize("source", ["argument", "own yaml"])
def test_eval_args_named_in_part_keep_the_rest(model, source, tmp_path):
    """RecBole's defaults for the rest are a random split in random order."""
    if source == "own yaml":
        write(tmp_path / "d" / "toy" / "toy.yaml", eval_args={"mode": "uni5"})
        got = config(f"--data_path={tmp_path / 'd'}", model=model)["eval_args"]
    else:
        got = config("--eval_args={mode: uni5}", model=model)["eval_args"]
    assert got["mode"] == {"valid": "uni5", "test": "uni5"}
    assert (got["split"], got["order"], got["group_by"]) == ({"LS": "valid_and_test"}, "TO", "user")


def test_what_recbole_refuses_becomes_one_line():
    with pytest.raises(ConfigError, match="RecBole refuses the settings: .*train_neg_sample_args") as error:
        config("--train_neg_sample_args={}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("source", ["file", "code"])
def test_unknown_keys_are_refused_from_every_source(tmp_path, source):
    write(tmp_path / "x.yaml", lora_rr=1)
    more = {"file": {"config_file_list": ["x.yaml"]}, "code": {"config_dict": {"lora_rr": 1}}}[source]
    with pytest.raises(ConfigError, match=r"unknown setting 'lora_rr' \(did you mean 'lora_r'\?\)"):
        config(**more)


@pytest.mark.parametrize("model", ["HeLLM", "BPR"])
@pytest.mark.parametrize("key", ["config", "config_file", "config_files"])
@pytest.mark.parametrize("source", ["file", "code", "arguments"])
def test_names_of_files_are_no_setting(tmp_path, source, key, model):
    write(tmp_path / "x.yaml", **{key: "y.yaml"})
    more = {"file": {"config_file_list": ["x.yaml"]}, "code": {"config_dict": {key: "y.yaml"}}, "arguments": {}}[source]
    argv = [f"--{key}=y.yaml"] if source == "arguments" else []
    with pytest.raises(ConfigError, match=f"^setting '{key}' = 'y.yaml' .*, --config_files=.* config_file_list$"):
        config(*argv, model=model, **more)


def test_the_near_name_of_a_settings_file_is_one_that_is_read():
    with pytest.raises(ConfigError, match=r"unknown setting 'config_fil' \(did you mean 'config_files'\?\)"):
        config("--config_fil=y.yaml")


def test_settings_of_recboles_own_models_are_known_and_checked():
    assert config("--n_layers=3", model="SASRec")["n_layers"] == 3
    with pytest.raises(ConfigError, match="unknown setting 'n_layer'"):
        config("--n_layer=3", model="SASRec")
    with pytest.raises(ConfigError, match="unknown setting 'n_layers'"):
        config("--n_layers=3", model="BPR", dataset="toy")


def test_models_are_looked_up_here_first_then_in_recbole():
    assert find_model("HeLLM").__module__.startswith("recbole_hellm")
    assert find_model("SASRec").__module__.startswith("recbole.model")
    with pytest.raises(ConfigError, match=r"unknown model 'SASRek' \(did you mean 'SASRec'\?\)"):
        find_model("SASRek")


def test_a_model_whose_package_is_missing_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    for module in [name for name in sys.modules if name.startswith("recbole.model.exlib")]:
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(ConfigError, match=r"model 'LightGBM' cannot be loaded \(.*lightgbm.*\); install"):
        find_model("LightGBM")


def test_names_of_recboles_models_are_found():
    names = recbole_model_names()
    assert len(names) > 80
    assert {"SASRec", "BPR", "LightGCN"} <= set(names)


@pytest.mark.parametrize(("given", "missing"), [({"model": "HeLLM"}, "dataset"), ({"dataset": "toy"}, "model")])
def test_model_and_data_set_are_required(given, missing):
    with pytest.raises(ConfigError, match=f"setting '{missing}' is required: give --{missing}=NAME"):
        HellmConfig(**given)


def test_recbole_keys_that_would_mislead_are_refused():
    popular = {"train_neg_sample_args": {"distribution": "popularity", "sample_num": 1}}
    with pytest.raises(ConfigError, match="validation and\\s+test events together; use distribution uniform"):
        config(config_dict={"loss_type": "BPR", "finetune_targets": "last", **popular})
    with pytest.raises(ConfigError, match="'enable_amp' has no effect here; set llm_precision"):
        config("--enable_amp=True")
