"""One's own csv becomes a data set on which this package's and RecBole's models run by its name."""

import json
import logging
import random
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from recbole_hellm import cli
from recbole_hellm.config.recbole_config import HellmConfig
from recbole_hellm.data.catalogue import read_item_tokens
from recbole_hellm.data.manifest import read_manifest
from recbole_hellm.data.tokens import unescaped
from recbole_hellm.errors import DataError
from recbole_hellm.pipeline.cold import cold_items
from recbole_hellm.quick_start import run_recbole_hellm

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


@pytest.fixture
def photo_shop(tmp_path) -> Path:
    """Purchases, products and photos of 20 products and 40 customers; a photo is missing and one is broken."""
    chooser = random.Random(1)
    skus = [f"SKU {n}" if n % 5 == 0 else f"SKU-{n}" for n in range(20)]
    bought = [
        f"c{user},{sku},2024-0{month}-11 10:00,1"
        for user in range(40)
        for month, sku in enumerate(chooser.sample(skus[user % 2 :: 2], 7), start=1)
    ]
    (tmp_path / "purchases.csv").write_text("\n".join(["customer,sku,bought_at,quantity", *bought]) + "\n")
    products = [f"{sku},{'Red' if n % 2 else 'Blue'} mug,{n}.50,SALE" for n, sku in enumerate(skus)]
    (tmp_path / "products.csv").write_text("\n".join(["sku,name,cost,sticker", *products]) + "\n")
    (tmp_path / "photos").mkdir()
    for n, sku in enumerate(skus[1:]):
        Image.new("RGB", (16, 16), "blue" if n % 2 else "red").save(tmp_path / "photos" / f"{sku}.jpg")
    (tmp_path / "photos" / "SKU-1.jpg").write_bytes(b"")
    return tmp_path


WALK = ["--items", "products.csv", "--columns", "user=customer,item=sku,time=bought_at,title=name,price=cost"]


def test_from_a_csv_and_a_folder_of_photos_to_a_result(photo_shop, toy, capsys, caplog, monkeypatch):
    """The commands of docs/data.md, with small settings."""
    settings = {**toy(), "epochs": 1, "pretrain_epochs": 1, "sequence_epochs": 1, "image_encoder": "colours"}
    for key in ("load_col", "item_features", "MAX_ITEM_LIST_LENGTH", "data_path"):  # they come with the data set
        del settings[key]
    (photo_shop / "toy.yaml").write_text(yaml.safe_dump(settings))
    monkeypatch.chdir(photo_shop)
    caplog.set_level(logging.INFO)
    assert cli.main(["prepare", "shop", "--source", "purchases.csv", *WALK, "--images", "photos"]) == 0
    assert "photos: 19 of 20 items have a picture" in caplog.text
    assert "products.csv: not taken: 'sticker'" in caplog.text
    given = yaml.safe_load(Path("dataset/shop/shop.yaml").read_text())
    assert given["item_features"] == ["text", "image"]
    assert given["image_source"] == str(photo_shop / "photos")
    head = Path("dataset/shop/manifest.json").read_text()
    assert json.loads(head)["pictures"] == {"items_with_picture": 19, "items_without_picture": 1}
    assert str(photo_shop) not in head

    assert cli.main(["inspect", "shop"]) == 0
    assert "19 items (95 %)" in capsys.readouterr().out
    assert Path("shop-inspect.html").read_text().count("data:image/jpeg") > 5

    assert cli.main(["signal", "--dataset=shop", "--config_files=toy.yaml"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (colours,) = (line for line in lines if line.startswith("image (colours)"))
    assert colours.split()[2:4] == ["90.0", "%"]  # two have no usable photo
    assert colours.endswith("carries signal")

    features = "--item_features=[text,image,price]"
    assert cli.main(["train", "--model=HeLLM", "--dataset=shop", "--config_files=toy.yaml", features]) == 0
    assert "pictures in" in caplog.text
    assert "broken: 1 is empty" in caplog.text


def test_pictures_of_other_items_are_refused_and_nothing_is_written(photo_shop, capsys, monkeypatch):
    monkeypatch.chdir(photo_shop)
    for path in Path("photos").iterdir():
        path.rename(path.with_name(f"IMG{path.name.removeprefix('SKU')}"))
    capsys.readouterr()
    assert cli.main(["prepare", "shop", "--source", "purchases.csv", *WALK, "--images", "photos"]) == 2
    error = capsys.readouterr().err
    assert "error: photos: no item has a picture there: files must be named by item id (SKU" in error
    assert not any(Path("dataset").iterdir())
    assert cli.main(["prepare", "shop", "--source", "purchases.csv", *WALK, "--images", "fotos"]) == 2
    assert "fotos does not exist" in capsys.readouterr().err


def test_items_nobody_bought_are_kept_out_of_the_model_and_scored_by_what_they_look_like(
    photo_shop, toy, caplog, monkeypatch
):
    settings = {**toy(), "epochs": 1, "pretrain_epochs": 1, "sequence_epochs": 1, "image_encoder": "colours"}
    for key in ("load_col", "item_features", "MAX_ITEM_LIST_LENGTH", "data_path"):
        del settings[key]
    monkeypatch.chdir(photo_shop)
    with Path("products.csv").open("a") as file:
        file.write("NEW-1,Red mug,1.00,\nNEW-2,Blue mug,1.00,\nNEW-3,,1.00,\n")
    for name, colour in (("NEW-1", "red"), ("NEW-2", "blue")):
        Image.new("RGB", (16, 16), colour).save(f"photos/{name}.jpg")
    given = ["--source", "purchases.csv", *WALK, "--images", "photos", "--keep-cold-items"]
    assert cli.main(["prepare", "shop", *given]) == 0
    head = read_manifest(Path("dataset/shop"))
    assert (head["n_items"], head["counts"]["n_items_without_interactions"]) == (20, 3)

    result = run_recbole_hellm("HeLLM", "shop", config_dict=settings)
    known = result["loaders"][0]._dataset.field2id_token["item_id"]
    assert len(known) == 21  # padding; no id for a new item
    caplog.set_level(logging.INFO)
    cold = cold_items(result["config"], known, k=3)
    assert (cold.tokens, cold.left_out) == (("NEW-1", "NEW-2"), ("NEW-3",))
    assert "2 of 3 items without interactions are like known ones" in caplog.text
    # a new red mug has the words and the photo of the known red ones, which have odd numbers
    red = [number for number, token in enumerate(known) if token != "[PAD]" and int(unescaped(token)[4:]) % 2]
    np.testing.assert_allclose(np.asarray(cold.weights[:, red].sum(axis=1)).ravel(), [1, 0], atol=1e-6)

    interaction = next(iter(result["loaders"][2]))[0]
    with torch.no_grad():
        scores = result["trainer"].model.full_sort_predict(interaction).numpy()
    new = cold.scores(scores)
    assert new.shape == (len(scores), 2)
    assert np.isfinite(new).all()
    assert (new.max(axis=1) <= scores[:, 1:].max(axis=1) + 1e-5).all()


def test_a_data_set_without_cold_items_says_so(photo_shop, toy, monkeypatch):
    monkeypatch.chdir(photo_shop)
    settings = toy()
    for key in ("load_col", "item_features", "MAX_ITEM_LIST_LENGTH", "data_path"):
        del settings[key]
    assert cli.main(["prepare", "shop", "--source", "purchases.csv", *WALK]) == 0
    config = HellmConfig("HeLLM", "shop", config_dict=settings)
    known = ["[PAD]", *read_item_tokens(Path("dataset/shop/shop.item"))]
    with pytest.raises(DataError, match="has no item without interactions: prepare the data set with --keep-cold"):
        cold_items(config, known)
    with pytest.raises(DataError, match="but item_features is empty"):
        cold_items(HellmConfig("HeLLM", "shop", config_dict={**settings, "item_features": []}), known[:-1])
