import gzip
import json
import logging
from pathlib import Path

import numpy as np
import pytest
import yaml

from recbole_hellm.data import prepare as module
from recbole_hellm.data.atomic import Counts
from recbole_hellm.data.features import load_features
from recbole_hellm.data.prepare import DATASETS, is_prepared, prepare
from recbole_hellm.errors import ConfigError, DataError

PROPERTIES = Path(__file__).parents[2] / "properties" / "dataset"


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A data set of two users and three items, item 2 without an image."""
    monkeypatch.setitem(DATASETS, "tiny", module._amazon("Tiny", Counts(2, 3, 5), clip=True))
    folder = tmp_path / "source" / "Tiny"
    folder.mkdir(parents=True)
    (folder / "Tiny.txt").write_text("1 1 2 3\n2 2 3\n")
    (folder / "Tiny_daygaps.txt.gz").write_bytes(gzip.compress(b"1 0 0 5\n2 0 7\n"))
    texts = "".join(json.dumps({"id": i, "asin": f"A{i}", "title": f"t {i}"}) + "\n" for i in (1, 2, 3))
    (folder / "item_text.jsonl.gz").write_bytes(gzip.compress(texts.encode()))
    (folder / "item2asin.tsv").write_text("item_id\tasin\n1\tA1\n2\tA2\n3\tA3\n")
    image = np.array([[0, 0], [1, 2], [0, 0], [3, 4]], dtype=np.float16)
    np.save(folder / "clip_vitb32_image_f16.npy", image)
    np.save(folder / "clip_vitb32_text_f16.npy", image + np.float16(1))
    np.save(folder / "has_image.npy", np.array([False, True, False, True]))
    return folder


def test_writes_all_files(source, tmp_path):
    folder = prepare("tiny", source.parent, tmp_path / "out")
    assert folder == tmp_path / "out" / "tiny"
    assert is_prepared(folder)
    image = load_features(folder / "features" / "image.npy")
    assert (image.tokens, image.vectors.tolist()) == (("1", "3"), [[1, 2], [3, 4]])
    assert load_features(folder / "features" / "clip_text.npy").tokens == ("1", "2", "3")
    manifest = json.loads((folder / "manifest.json").read_text())
    assert len(manifest["source"]["sha256"]) == 7
    assert str(tmp_path) not in (folder / "manifest.json").read_text()


def test_same_is_reused_and_other_needs_force(source, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    out = tmp_path / "out"
    folder = prepare("tiny", source, out)
    written = (folder / "tiny.inter").stat().st_mtime_ns
    prepare("tiny", source.parent, out)
    assert (folder / "tiny.inter").stat().st_mtime_ns == written
    assert "reused" in caplog.text
    (source / "Tiny.txt").write_text("1 1 3 2\n2 2 3\n")
    with pytest.raises(DataError, match=r"exists and differs \(source was .*--force"):
        prepare("tiny", source, out)
    prepare("tiny", source, out, force=True)
    assert "1\t3\t2\t0\n" in (folder / "tiny.inter").read_text()
    (folder / "tiny.inter").write_text("")
    with pytest.raises(DataError, match=r"file tiny\.inter was changed"):
        prepare("tiny", source, out)
    with pytest.raises(DataError, match=r"options was .*'error'.* is now .*'empty'"):
        prepare("tiny", source, out, missing_text="empty")


def test_force_does_not_delete_other_files(source, tmp_path):
    target = tmp_path / "out" / "tiny"
    target.mkdir(parents=True)
    (target / "thesis.tex").write_text("years of work")
    with pytest.raises(DataError, match="no prepared data set: move them away"):
        prepare("tiny", source, tmp_path / "out", force=True)
    assert (target / "thesis.tex").read_text() == "years of work"


def test_failed_force_keeps_the_old_folder(source, tmp_path):
    folder = prepare("tiny", source, tmp_path / "out")
    old = (folder / "tiny.inter").read_text()
    (source / "Tiny.txt").write_text("1 1 2\n2 2 3\n")
    with pytest.raises(DataError, match="does not align"):
        prepare("tiny", source, tmp_path / "out", force=True)
    assert (folder / "tiny.inter").read_text() == old
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["tiny"]


def test_names_and_sources(source, tmp_path):
    with pytest.raises(
        DataError, match=r"unknown data set 'amazon-toy' \(did you mean 'amazon-toys'\?\); known .*: ml-100k.*--source"
    ):
        prepare("amazon-toy", None, tmp_path)
    with pytest.raises(ConfigError, match="has a recipe, no options: take another name, or give its --format"):
        prepare("amazon-toys", source, tmp_path, filters={"min_user": 3})
    with pytest.raises(DataError, match="does not exist"):
        prepare("amazon-toys", tmp_path / "nowhere", tmp_path)
    with pytest.raises(DataError, match="missing_text must be"):
        prepare("tiny", source, tmp_path, missing_text="ignore")


def test_clip_files_must_fit(source, tmp_path):
    np.save(source / "has_image.npy", np.array([False, True, True, True]))
    with pytest.raises(DataError, match=r"has_image\.npy: does not fit the zero rows"):
        prepare("tiny", source, tmp_path / "out")
    np.save(source / "clip_vitb32_image_f16.npy", np.ones((3, 2), dtype=np.float16))
    with pytest.raises(DataError, match="expected 4 rows"):
        prepare("tiny", source, tmp_path / "out")
    (source / "clip_vitb32_image_f16.npy").write_bytes(b"x")
    with pytest.raises(DataError, match=r"no readable \.npy"):
        prepare("tiny", source, tmp_path / "out")
    (source / "has_image.npy").unlink()
    with pytest.raises(DataError, match=r"has_image\.npy is missing"):
        prepare("tiny", source, tmp_path / "out")


def test_every_data_set_has_a_yaml():
    names = {path.stem for path in PROPERTIES.glob("*.yaml")}
    shipped = {"ml-100k", "amazon-toys", "amazon-beauty", "amazon-sports"}
    assert names >= shipped
    assert set(DATASETS) == shipped
    for name in shipped:
        text = (PROPERTIES / f"{name}.yaml").read_text()
        settings = yaml.safe_load(text)
        assert settings["load_col"] == {"inter": ["user_id", "item_id", "timestamp"]}
        split = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"}
        assert settings["eval_args"] == split
        assert settings["MAX_ITEM_LIST_LENGTH"] == 50
        for count in (DATASETS[name].expected.n_users, DATASETS[name].expected.n_interactions):
            assert f"{count:,}" in text
