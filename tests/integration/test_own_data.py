"""One's own csv becomes a data set on which this package's and RecBole's models run by its name."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import yaml

from recbole_hellm import cli
from recbole_hellm.data.manifest import read_manifest

HARD = ["a b", "ключ", "NA", "[PAD]", "50%", '"q"']


@pytest.fixture
def shop(tmp_path) -> Path:
    """Purchases of 30 users and 15 items, some with names that break tab-separated files; texts, and vectors."""
    chooser = random.Random(0)
    items = [*HARD, *(f"item {n}" for n in range(9))]
    rows = ["customer,sku,when,what"]
    for user in range(30):
        for place, item in enumerate(chooser.sample(items, 8)):
            quoted = '"' + item.replace('"', '""') + '"'
            rows.append(f"c {user},{quoted},2024-01-{place + 1:02d},A <b>fine</b> {items.index(item)}")
    (tmp_path / "shop.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    np.save(tmp_path / "photo.npy", np.random.default_rng(0).normal(size=(15, 4)))
    (tmp_path / "photo.ids.txt").write_text("\n".join(items) + "\n", encoding="utf-8")
    return tmp_path / "shop.csv"


@pytest.mark.parametrize("model", ["HeLLM", "SASRec"])
def test_from_csv_to_a_result(shop, tmp_path, toy, capsys, model):
    columns = "user=customer,item=sku,time=when,title=what"
    arguments = ["--columns", columns, "--features", f"image={shop.parent / 'photo.npy'}", "--min-item", "3"]
    assert cli.main(["prepare", "shop", "--source", str(shop), "--output", str(tmp_path / "data"), *arguments]) == 0
    head = read_manifest(tmp_path / "data" / "shop")
    assert (head["n_users"], head["n_items"], head["n_interactions"]) == (30, 15, 240)
    assert head["features"]["image"]["items_without_vector"] == 0
    settings = toy()
    for key in ("load_col", "item_features", "MAX_ITEM_LIST_LENGTH"):  # they come with the data set
        del settings[key]
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(settings))
    capsys.readouterr()
    code = cli.main(["train", f"--config_files={tmp_path / 'toy.yaml'}", f"--model={model}", "--dataset=shop"])
    assert (code, capsys.readouterr().err) == (0, "")
    result = json.loads((tmp_path / "result.json").read_text())
    assert 0 <= result["test_result"]["ndcg@5"] <= 1
    assert result["data"]["n_items"] == 15
