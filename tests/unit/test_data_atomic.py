import errno
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recbole_hellm.artifacts import file_digest
from recbole_hellm.data import atomic
from recbole_hellm.data.atomic import Contents, Counts, write_dataset
from recbole_hellm.data.features import FeatureTable, load_features
from recbole_hellm.data.fingerprint import folder_digests
from recbole_hellm.data.manifest import difference, is_prepared, read_manifest
from recbole_hellm.data.publish import published_folder
from recbole_hellm.data.records import CatalogueItem, UserSequence
from recbole_hellm.errors import DataError

INPUTS = {"format": 1, "name": "tiny", "source": {"layout": "s3rec", "sha256": {"a": "b"}}, "options": {}}
SEQUENCES = (
    UserSequence("1", ("10", "20", "30"), (1, 2, 8), (0.0, 0.0, 5.0)),
    UserSequence("2", ("20", "30"), (1, 2), (0.0, 0.0)),
)
ITEMS = (
    CatalogueItem("10", {"title": "a", "brand": "b"}),
    CatalogueItem("20", {"title": "c"}),
    CatalogueItem("30"),
)
IMAGE = FeatureTable("image", np.array([[1, 2], [0, 0], [3, 4]], dtype=np.float32), ("10", "20", "30"))


def contents(**changed):
    return Contents(**{"sequences": iter(SEQUENCES), "items": iter(ITEMS), "features": [IMAGE], **changed})


def files_below(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_known_answer(tmp_path):
    folder = tmp_path / "tiny"
    write_dataset(folder, contents(expected=Counts(2, 3, 5)), INPUTS)
    assert files_below(tmp_path) == [
        "tiny/features/image.ids.txt",
        "tiny/features/image.npy",
        "tiny/manifest.json",
        "tiny/tiny.inter",
        "tiny/tiny.item",
    ]
    assert (folder / "tiny.inter").read_text() == (
        "user_id:token\titem_id:token\ttimestamp:float\tday_gap:float\n"
        "1\t10\t1\t0\n1\t20\t2\t0\n1\t30\t8\t5\n2\t20\t1\t0\n2\t30\t2\t0\n"
    )
    assert (folder / "tiny.item").read_text() == (
        "item_id:token\ttitle:token_seq\tbrand:token_seq\n10\ta\tb\n20\tc\t\n30\t\t\n"
    )
    assert read_manifest(folder)["fingerprint"] == folder_digests(folder, "tiny")  # without reading the events again
    image = load_features(folder / "features" / "image.npy")
    assert (image.tokens, image.vectors.tolist()) == (("10", "30"), [[1, 2], [3, 4]])


def test_manifest(tmp_path):
    folder = tmp_path / "tiny"
    write_dataset(folder, contents(), INPUTS)
    manifest = read_manifest(folder)
    assert {key: manifest[key] for key in INPUTS} == INPUTS
    assert manifest["counts"] == {
        "n_users": 2,
        "n_items": 3,
        "n_interactions": 5,
        "n_catalogue_items": 3,
        "n_items_without_interactions": 0,
        "n_users_with_fewer_than_3_interactions": 1,
        "n_steps_tied_in_time": 2,
    }
    assert manifest["missing"] == {"catalogue_row": 0, "title": 1, "brand": 2}
    assert manifest["features"] == {"image": {"rows": 2, "width": 2, "items_without_vector": 1}}
    assert len(manifest["files"]) == 4
    for file, facts in manifest["files"].items():
        assert facts == {"sha256": file_digest(folder / file), "bytes": (folder / file).stat().st_size}
    assert is_prepared(folder)
    assert difference(folder, INPUTS) == ""
    assert "options was {}" in difference(folder, {**INPUTS, "options": {"a": 1}})


def test_same_input_gives_same_bytes(tmp_path):
    for parent in ("a", "b"):
        write_dataset(tmp_path / parent / "tiny", contents(), INPUTS)
    first, second = ((tmp_path / p / "tiny" / "manifest.json").read_bytes() for p in ("a", "b"))
    assert first == second


def test_pandas_reads_back_awkward_texts(tmp_path):
    texts = ["''Hi'' doll", "it's", "a,b;c", "# no comment", "été 玩具", "\\n"]
    items = [CatalogueItem(str(i), {"title": text}) for i, text in enumerate(texts)]
    write_dataset(tmp_path / "tiny", contents(items=items, missing_text="empty", features=[]), INPUTS)
    # the way RecBole reads it
    frame = pd.read_csv(tmp_path / "tiny" / "tiny.item", delimiter="\t", engine="python", dtype={"item_id:token": str})
    assert frame["title:token_seq"].tolist()[: len(texts)] == texts


def test_item_without_a_row(tmp_path, caplog):
    with pytest.raises(DataError, match=r"item '30' of the interactions has no row .* \(1 such items\)"):
        write_dataset(tmp_path / "tiny", contents(items=ITEMS[:2]), INPUTS)
    assert files_below(tmp_path) == []
    write_dataset(tmp_path / "tiny", contents(items=ITEMS[:2], missing_text="empty"), INPUTS)
    assert read_manifest(tmp_path / "tiny")["missing"] == {"catalogue_row": 1, "title": 1, "brand": 2}
    assert (tmp_path / "tiny" / "tiny.item").read_text().endswith("30\t\t\n")
    assert "1 items have no row in the item texts" in caplog.text


def test_other_counts_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"data set tiny: expected Counts\(n_users=9.* got Counts\(n_users=2"):
        write_dataset(tmp_path / "tiny", contents(expected=Counts(9, 3, 5)), INPUTS)
    assert list(tmp_path.iterdir()) == []


def test_features_of_other_items_are_refused(tmp_path):
    other = FeatureTable("image", np.ones((1, 2), dtype=np.float32), ("99",))
    with pytest.raises(DataError, match="features image: no item of the interactions has a vector"):
        write_dataset(tmp_path / "tiny", contents(features=[other]), INPUTS)


def test_values_beyond_float16_are_refused(tmp_path):
    large = FeatureTable("image", np.array([[1, 2], [0, 7e4]], dtype=np.float32), ("10", "20"))
    with pytest.raises(DataError, match="item '20' has a value beyond 65504, the largest of float16"):
        write_dataset(tmp_path / "tiny", contents(features=[large]), INPUTS)
    assert list(tmp_path.iterdir()) == []


def test_features_are_as_numpy_saves_them(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic, "_CHUNK_ROWS", 1)
    write_dataset(tmp_path / "tiny", contents(), INPUTS)
    np.save(tmp_path / "saved.npy", np.array([[1, 2], [3, 4]], dtype=np.float16))
    assert (tmp_path / "tiny" / "features" / "image.npy").read_bytes() == (tmp_path / "saved.npy").read_bytes()


def full_disk(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def interrupted():
    yield SEQUENCES[0]
    raise KeyboardInterrupt


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("where", ["features", "manifest", "rename", "interrupt"])
def test_a_crash_leaves_what_was_there(tmp_path, monkeypatch, where, existing):
    if existing:
        write_dataset(tmp_path / "tiny", contents(features=[]), INPUTS)
    before = {file: (tmp_path / file).read_bytes() for file in files_below(tmp_path)}
    sequences, error, message = iter(SEQUENCES), DataError, "No space left on device.*nothing was changed there"
    if where == "features":
        monkeypatch.setattr(atomic, "_half", full_disk)
    elif where == "manifest":
        monkeypatch.setattr(atomic, "write_manifest", full_disk)
    elif where == "rename":
        real = Path.rename
        monkeypatch.setattr(Path, "rename", lambda s, t: full_disk() if s.name.endswith(".part") else real(s, t))
    else:
        sequences, error, message = interrupted(), KeyboardInterrupt, None
    with pytest.raises(error, match=message):
        write_dataset(tmp_path / "tiny", contents(sequences=sequences), INPUTS)
    monkeypatch.undo()
    assert {file: (tmp_path / file).read_bytes() for file in files_below(tmp_path)} == before
    assert [path.name for path in tmp_path.iterdir()] == (["tiny"] if existing else [])


def test_published_folder_appears_at_the_end(tmp_path):
    target = tmp_path / "deep" / "x"
    with published_folder(target) as scratch:
        (scratch / "file").write_text("1")
        assert not target.exists()
        assert scratch.parent == target.parent
    assert files_below(tmp_path) == ["deep/x/file"]


def test_output_below_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write"):
        write_dataset(tmp_path / "file" / "tiny", contents(), INPUTS)


def test_is_prepared_sees_damage(tmp_path):
    folder = tmp_path / "tiny"
    assert not is_prepared(folder)
    write_dataset(folder, contents(), INPUTS)
    item = (folder / "tiny.item").read_text()
    (folder / "tiny.item").write_text(item.replace("a", "z"))
    assert is_prepared(folder)  # by size only
    assert difference(folder, INPUTS) == "file tiny.item was changed"
    (folder / "tiny.item").write_text(item + "\n")
    assert not is_prepared(folder)
    (folder / "tiny.item").unlink()
    assert difference(folder, INPUTS) == "file tiny.item is missing"
    (folder / "manifest.json").write_text(json.dumps([]))
    assert not is_prepared(folder)
    (folder / "manifest.json").write_text("{")
    assert "broken manifest" in difference(folder, INPUTS)
