"""Mistakes a user makes, through the command: one line that names what, the rule and the way out, nothing half done."""

import json

import numpy as np
import pytest


def edit_image(data, change):
    file = data / "features" / "image.npy"
    np.save(file, change(np.load(file)))


def edit_text(path, change):
    path.write_text(change(path.read_text()))


def with_nan(vectors):
    vectors[4, 2] = np.nan
    return vectors


@pytest.mark.parametrize(
    ("change", "texts"),
    [
        (lambda v: v[:-3], ["image.npy: 17 rows but 20 ids: one id a row is needed"]),
        (with_nan, ["image.npy: row 4 (item 'i4') has NaN or infinity: leave the row out or set it to zeros"]),
        (lambda v: v * 0, ["no item of the data set has a vector: every row is all zero"]),
        (lambda v: v[:, 0], ["shape must be [rows, width], got [20]"]),
        (lambda v: (v * 9).astype(int), ["type must be float16, float32 or float64, got int64: save array.astype("]),
    ],
)
def test_a_broken_feature_array(refused, data, change, texts):
    edit_image(data, change)
    message = refused()
    assert str(data / "features" / "image.npy") in message
    assert all(text in message for text in texts)


@pytest.mark.parametrize(
    ("ids", "text"),
    [
        (
            [f"x{i}" for i in range(20)],
            "its ids (x0, x1, x2, ...) must be the data set's item tokens (i0, i1, i10, ",
        ),
        (["i0"] * 20, "item id 'i0' comes twice: an item has one row"),
        ([f"i{i}" for i in range(19)], "20 rows but 19 ids"),
    ],
)
def test_a_wrong_list_of_ids(refused, data, ids, text):
    (data / "features" / "image.ids.txt").write_text("\n".join(ids) + "\n")
    assert text in refused()


def test_a_list_of_ids_that_is_missing(refused, data):
    (data / "features" / "image.ids.txt").unlink()
    assert refused().endswith("image.ids.txt does not exist: image.npy needs one item id a line for its rows beside it")


@pytest.mark.parametrize(
    ("edit", "item"),
    [
        (lambda d: edit_text(d / "checkerboard.item", lambda t: t[: t.index("i19\t")]), "i19"),
        (lambda d: edit_text(d / "checkerboard.item", lambda t: t.replace("black square number 7\n", "\n")), "i7"),
        (lambda d: edit_text(d / "checkerboard.inter", lambda t: t + "u0\ti99\t99\n"), "i99"),
    ],
    ids=["no row", "no text", "no such item"],
)
def test_an_item_without_text_under_policy_error(refused, data, edit, item):
    edit(data)
    message = refused("--feature_missing=error")
    if item == "i99":  # lacks a picture as well, and arrays are looked at before anything is encoded
        assert f"image.npy: item '{item}' has no vector" in message
    else:
        assert f"features text of {data / 'checkerboard.item'}: item '{item}' has no vector" in message
    assert message.endswith("complete the file, or set feature_missing to 'zero' or 'mean'")


def test_an_item_with_a_zero_row_under_policy_error(refused, data):
    edit_image(data, lambda v: v * (np.arange(20) != 3)[:, None])
    message = refused("--feature_missing=error")
    assert "item 'i3' has no vector" in message
    assert "1 with a zero row" in message


def test_an_item_without_text_is_counted_and_kept_otherwise(train, data, tmp_path, caplog):
    caplog.set_level("INFO")
    edit_text(data / "checkerboard.item", lambda t: t[: t.index("i18\t")])
    assert train()[0] == 0
    assert "features text of" in caplog.text
    assert "18 of 20 items (90.00 %), 2 without a row" in caplog.text
    assert json.loads((tmp_path / "result.json").read_text())["data"]["n_items"] == 20


def test_users_with_few_interactions_are_reported_and_train_the_graph(train, data, tmp_path, caplog):
    from safetensors.torch import load_file

    edit_text(data / "checkerboard.inter", lambda t: t + "lonely\ti1\t1\npair\ti1\t1\npair\ti3\t2\n")
    assert train()[0] == 0
    assert "2 users have fewer than 3 interactions: they are kept in training and not evaluated" in caplog.text
    assert json.loads((tmp_path / "result.json").read_text())["data"]["n_users"] == 42
    with np.load(tmp_path / "result.ranks.npz") as ranks:
        assert not {"lonely", "pair"} & set(ranks["test_user"])
        assert len(ranks["test_user"]) == 40
    stage = next((tmp_path / "stages").glob("graph-*"))
    assert load_file(stage / "tensors.safetensors")["user"].shape[0] == 43


def replace(old, new):
    return lambda text: text.replace(old, new)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda t: t + "u0\ti9\n", ":322: expected 3 cells, got 2"),
        (lambda t: t + "u0\ti9\t\n", ":322: timestamp must be a number, got ''"),
        (lambda t: t + "u0\ti9\tyesterday\n", ":322: timestamp must be a number, got 'yesterday'"),
        (lambda t: t + "u0\ti9\tnan\n", ":322: timestamp must be a number, got 'nan'"),
        (replace("item_id:", "item:"), ":1: no column 'item_id' (did you mean 'item'?); the header has: user_id, item"),
        (replace("item_id:token", "item_id"), ":1: header cell 'item_id' must be name:type, type one of token, float"),
        (lambda t: t.splitlines()[0] + "\n", " has no interaction"),
        (lambda t: "", ": the file is empty"),
    ],
)
def test_a_broken_interaction_file(refused, data, change, text):
    edit_text(data / "checkerboard.inter", change)
    assert f"{data / 'checkerboard.inter'}{text}" in refused()


def test_what_recbole_refuses_of_the_data_is_one_line(refused):
    message = refused("--load_col={inter: [user_id, item_id]}")
    assert message.startswith("RecBole cannot use data set 'checkerboard' in ")
    assert message.endswith("check the files and settings load_col, eval_args, *_FIELD")


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        ("--llm_path=./gone", "setting 'llm_path': './gone' is no folder; give a folder with config.json"),
        ("--llm_path=smollm2", "(did you mean 'smollm2-135m'?)"),
        ("--llm_layers=3", "setting 'llm_layers' must be at most 2, got 3"),
        (
            "--lora_targets=[q_prj]",
            "'q_prj', which matches no linear module of the backbone (did you mean 'q_proj'?)",
        ),
        ("--llm_gradient_checkpointing=True", "excludes 'prefix_len' > 0, got 2"),
        ("--model=HeLM", "unknown model 'HeLM' (did you mean 'HeLLM'?)"),
        ("--dataset=ml-100", "data set 'ml-100' is not in "),
        ("--lora_rr=1", "unknown setting 'lora_rr' (did you mean 'lora_r'?)"),
        ("--preset=papr", "unknown preset 'papr' of HeLLM (did you mean 'paper'?); known: default, demo, fast, paper"),
        ("--text_encoder=minlm", "unknown text encoder 'minlm' (did you mean 'minilm'?); known: hashing, minilm"),
        ("--text_encoder=./gone", "text encoder gone is no model folder"),
        ("--item_features=[imag]", "imag.npy does not exist (there: image); put the array and imag.ids.txt there, or"),
        ("--item_features=[text,text]", "setting 'item_features' names 'text' twice"),
        ("--text_columns=[titel]", "unknown column 'titel' (did you mean 'title'?); known: title"),
        ("--train_stage=finetune", "stage 'features' has no finished result for these settings and data"),
        ("--valid_metric=NDCG@7", "'valid_metric' must be one of Recall@5, NDCG@5, MRR@5 (metrics x topk)"),
    ],
)
def test_a_wrong_setting(refused, argv, text):
    assert text in refused(argv)


def test_a_prompt_without_a_tokenizer(refused):
    message = refused("--prompt_template=alpaca", "--finetune_targets=last")
    assert "needs a tokenizer" in message
    assert message.endswith("put tokenizer.json there or set prompt_template=none")


def test_a_model_without_k_proj_and_v_proj(refused, tmp_path):
    from transformers import GPT2Config, GPT2Model

    folder = tmp_path / "data" / "gpt2"  # beside the data, which counts as input
    sizes = {"vocab_size": 9, "n_embd": 8, "n_layer": 1, "n_head": 2}
    GPT2Model(GPT2Config(**sizes, bos_token_id=1, eos_token_id=2)).save_pretrained(folder)
    message = refused(f"--llm_path={folder}")
    assert "setting 'prefix_len' must be 0 for a backbone of type 'gpt2'" in message
    assert "no separate k_proj and v_proj" in message


def test_a_stage_that_ends_in_nan_is_not_kept(train, made):
    code, lines = train("--pretrain_learning_rate=1e20")
    assert code == 2
    assert "stage 'graph'" in lines[0]
    assert "pretrain_learning_rate" in lines[0]
    assert {name.split("-")[0] for name in made()} == {"stages/features", "stages/encodings/hashing"}


def test_another_optimiser_is_refused_rather_than_ignored(refused):
    assert refused("--learner=sgd") == "setting 'learner' must be adamw for this model, got 'sgd'"
