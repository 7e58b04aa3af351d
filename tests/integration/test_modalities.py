"""Every modality a run can have: pictures, numbers, arrays of any name; with item texts and without."""

import logging
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from recbole_hellm.quick_start import run_recbole_hellm
from recbole_hellm.testing import CHECKERBOARD
from recbole_hellm.testing.toys import N_ITEMS

QUICK = {"epochs": 1, "pretrain_epochs": 1, "sequence_epochs": 1, "image_encoder": "colours"}


@pytest.fixture
def photos(data):
    """Photos of the toy's squares, white or black, two of them broken, and no ready image array."""
    for file in (data / "features").iterdir():
        file.unlink()
    folder = data / "images"
    folder.mkdir()
    for item in range(N_ITEMS):
        shade = 40 + item if item % 2 else 235 - item
        Image.new("RGB", (12, 12), (shade, shade, shade)).save(folder / f"i{item}.png")
    (folder / "i3.png").write_bytes(b"")
    (folder / "i4.png").write_bytes(b"<html>not found</html>")
    (folder / "i5.png").unlink()
    return folder


@pytest.fixture
def run(toy, made):
    def go(model="HeLLM", **changes):
        return run_recbole_hellm(model, CHECKERBOARD, config_dict={**toy(), **QUICK, **changes})

    return go


def features(result):
    """The tensors of the stage ``features`` of a run, and the item tokens."""
    from safetensors.torch import load_file

    (stage,) = (record for record in result["stages"] if record["name"] == "features")
    tokens = result["loaders"][0]._dataset.field2id_token["item_id"]
    return load_file(f"{stage['path']}/tensors.safetensors"), list(tokens)


@pytest.mark.parametrize("where", ["folder", "zip"])
def test_pictures_become_a_modality(run, photos, tmp_path, where, caplog):
    caplog.set_level(logging.INFO)
    source = tmp_path / "elsewhere.zip"
    if where == "zip":
        with zipfile.ZipFile(source, "w") as archive:
            for path in sorted(photos.iterdir()):
                archive.write(path, f"deep/{path.name}")
    result = run(item_features=["text", "image"], image_source=str(source) if where == "zip" else "")
    assert result["test_result"]["recall@5"] >= 0
    found, tokens = features(result)
    image = dict(zip(tokens, found["image"], strict=True))
    present = dict(zip(tokens, found["image.present"].tolist(), strict=True))
    assert {token for token in tokens[1:] if not present[token]} == {"i3", "i4", "i5"}
    assert not any(image[token].any() for token in ("i3", "i4", "i5"))
    assert float(image["i0"] @ image["i2"]) > 0.9 > 0 > float(image["i0"] @ image["i1"])
    assert f"{N_ITEMS - 1} of {N_ITEMS} items have one; broken: 1 is empty; 1 is no JPEG" in caplog.text
    again = run(item_features=["text", "image"], image_source=str(source) if where == "zip" else "")
    assert {record["status"] for record in again["stages"] if record["name"] in ("features", "graph")} == {"reused"}


def test_a_new_picture_is_encoded_and_the_others_are_not(run, photos, caplog):
    run(item_features=["image"])
    Image.new("RGB", (12, 12), "red").save(photos / "i5.png")
    caplog.set_level(logging.INFO)
    result = run(item_features=["image"])
    assert "colours: 1 of 19 distinct images encoded" in caplog.text
    assert [record["status"] for record in result["stages"] if record["name"] == "features"] == ["ran"]


def test_a_ready_array_comes_before_pictures(run, data, caplog):
    caplog.set_level(logging.INFO)
    (data / "images").mkdir()
    found, _ = features(run(item_features=["image"], image_encoder="efficientnet-lite0"))
    assert found["image"].shape[1] == 8
    assert "image.npy: no encoder runs" in caplog.text


def test_the_missing_policy_decides_about_broken_pictures(train, run, photos):
    code, (line,) = train(item_features=["image"], feature_missing="error", image_encoder="colours")
    assert (code, "item 'i3' has no vector" in line) == (2, True)
    assert "(18 of 20 items" in line
    found, tokens = features(run(item_features=["image"], feature_missing="mean"))
    assert bool(found["image.present"][1:].all())
    others = [place for place in range(1, len(tokens)) if tokens[place] not in ("i3", "i4", "i5")]
    torch.testing.assert_close(found["image"][tokens.index("i3")], found["image"][others].mean(dim=0))


def test_one_line_errors_of_pictures(refused, photos, tmp_path):
    image = {"item_features": ["image"], "image_encoder": "colours"}
    assert "unknown image encoder 'colour' (did you mean 'colours'?)" in refused(**{**image, "image_encoder": "colour"})
    assert "image encoder gone is no model folder" in refused(**{**image, "image_encoder": "./gone"})
    assert "folder of images gone does not exist" in refused(**image, image_source="gone")
    for path in photos.iterdir():
        path.rename(path.with_name(f"x{path.name}"))
    assert "no item of the data set has a usable picture: files must be named by item id (i0, " in refused(**image)
    for path in photos.iterdir():
        path.unlink()
    photos.rmdir()
    assert "item feature 'image' has no pictures" in refused(**image)
    (photos.parent / "images.tsv").write_text("i0\thttps://127.0.0.1:9/i0.jpg\n")
    line = refused(**image)
    assert "1 of 1 pictures are known by address only; set image_download=True" in line
    assert not photos.exists()


def test_pictures_are_fetched_when_asked(run, photos, server):
    files = {path.name: path.read_bytes() for path in photos.iterdir()}
    for path in photos.iterdir():
        path.unlink()
    photos.rmdir()
    lines = [f"i{item}\t{server(files)}/i{item}.png" for item in range(N_ITEMS)]
    (photos.parent / "images.tsv").write_text("\n".join(lines) + "\n")
    found, _ = features(run(item_features=["image"], image_download=True))
    assert int(found["image.present"].sum()) == N_ITEMS - 3
    assert len(list(photos.iterdir())) == N_ITEMS - 3


@pytest.fixture
def server(tmp_path):
    import functools
    import threading
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    (tmp_path / "www").mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=tmp_path / "www"))
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def serve(files):
        for name, content in files.items():
            (tmp_path / "www" / name).write_bytes(content)
        return f"http://127.0.0.1:{server.server_port}"

    yield serve
    server.shutdown()
    server.server_close()


def array(data, name, width, items=range(N_ITEMS)):
    vectors = np.random.default_rng(len(name)).normal(size=(len(items), width)).astype(np.float32)
    np.save(data / "features" / f"{name}.npy", vectors)
    (data / "features" / f"{name}.ids.txt").write_text("".join(f"i{item}\n" for item in items))


def test_a_data_set_without_text_and_with_three_modalities(run, data):
    (data / f"{CHECKERBOARD}.item").unlink()
    array(data, "audio", 5)
    array(data, "video", 12, items=range(4, N_ITEMS))
    result = run(item_features=["image", "audio", "video"])
    assert result["test_result"]["recall@5"] >= 0
    found, _ = features(result)
    assert {name: tensor.shape[1] for name, tensor in found.items() if "present" not in name} == {
        "image": 8, "audio": 5, "video": 12,
    }  # fmt: skip
    assert int(found["video.present"].sum()) == N_ITEMS - 4


def test_a_column_of_numbers_is_a_modality(run, train, data):
    rows = [f"i{item}\tsquare {item}\t{'' if item == 2 else item * 1.5}" for item in range(N_ITEMS)]
    path = data / f"{CHECKERBOARD}.item"
    path.write_text("\n".join(["item_id:token\ttitle:token_seq\tprice:float", *rows]) + "\n")
    found, tokens = features(run(item_features=["text", "price"]))
    price = dict(zip(tokens, found["price"], strict=True))
    assert int(found["price.present"].sum()) == N_ITEMS - 1
    assert float(price["i10"] @ price["i11"]) > 0.6 > 0.1 > float(price["i10"] @ price["i19"])
    code, (line,) = train(item_features=["prise"])
    assert (code, "columns of numbers in checkerboard.item: price" in line) == (2, True)
