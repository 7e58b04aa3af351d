"""Stage results on disk: complete or absent, and refused when they do not fit."""

import errno
import json
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_hellm import artifacts
from recbole_hellm.artifacts import ArtifactStore, fingerprint, write_atomically
from recbole_hellm.errors import ArtifactError

KEY, OTHER = "a" * 64, "a" * 16 + "b" * 48
TENSORS = {"item": torch.arange(12.0).view(3, 4), "present": torch.tensor([0, 1, 1], dtype=torch.uint8)}


@pytest.fixture
def store(tmp_path):
    store = ArtifactStore(tmp_path / "stages")
    store.save("graph", KEY, "ids", TENSORS, {"stage": "graph"})
    return store


def test_what_is_saved_is_loaded(store):
    loaded = store.load("graph", KEY, "ids")
    assert set(loaded) == set(TENSORS)
    assert all(torch.equal(loaded[name], tensor) and loaded[name].dtype == tensor.dtype
               for name, tensor in TENSORS.items())  # fmt: skip
    assert store.load("sequence", KEY, "ids") is None
    assert store.load("graph", "c" * 64, "ids") is None


def test_the_manifest_says_what_it_is(store):
    manifest = json.loads((store.path("graph", KEY) / "manifest.json").read_text())
    assert (manifest["key"], manifest["ids"], manifest["stage"]) == (KEY, "ids", "graph")


def refused(store, key=KEY, ids="ids"):
    with pytest.raises(ArtifactError) as caught:
        store.load("graph", key, ids)
    message = str(caught.value)
    assert str(store.path("graph", KEY)) in message
    assert re.search(r"delete \S+ and run again", message)
    return message


def test_another_key_is_refused(store):
    assert "holds key" in refused(store, key=OTHER)


def test_other_ids_are_refused(store):
    assert "other user or item ids" in refused(store, ids="others")


@pytest.mark.parametrize("place", [0, 100, -1])
def test_a_flipped_byte_is_refused(store, place):
    file = store.path("graph", KEY) / "tensors.safetensors"
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)
    assert "differs from its checksum" in refused(store)


def test_missing_tensors_are_refused(store):
    (store.path("graph", KEY) / "tensors.safetensors").unlink()
    assert "missing" in refused(store)


@pytest.mark.parametrize("text", ["", "{", None])
def test_a_broken_manifest_is_refused(store, text):
    file = store.path("graph", KEY) / "manifest.json"
    file.write_text(file.read_text()[:40]) if text is None else file.write_text(text)
    assert "manifest.json cannot be read" in refused(store)


def test_a_manifest_that_holds_no_mapping_is_refused(store):
    (store.path("graph", KEY) / "manifest.json").write_text("[]")
    refused(store)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_crash_while_saving_leaves_nothing(tmp_path, monkeypatch, error):
    def fail(tensors, path):
        Path(path).write_bytes(b"half")
        raise error

    store = ArtifactStore(tmp_path / "stages")
    monkeypatch.setattr(artifacts, "save_file", fail)
    with pytest.raises((type(error), ArtifactError)):
        store.save("graph", KEY, "ids", TENSORS, {})
    assert list((tmp_path / "stages").iterdir()) == []
    assert store.load("graph", KEY, "ids") is None
    monkeypatch.undo()
    store.save("graph", KEY, "ids", TENSORS, {})
    assert store.load("graph", KEY, "ids") is not None


def test_two_runs_that_finish_the_same_stage_agree(store):
    assert store.save("graph", KEY, "ids", TENSORS, {}) == store.path("graph", KEY)
    assert [path.name for path in store.root.iterdir()] == [store.path("graph", KEY).name]


def test_views_and_graph_tensors_can_be_saved(tmp_path):
    parameter = torch.nn.Parameter(torch.eye(4))
    store = ArtifactStore(tmp_path)
    store.save("x", KEY, "ids", {"turned": parameter.T[1:], "same": parameter}, {})
    assert torch.equal(store.load("x", KEY, "ids")["turned"], torch.eye(4)[1:])


PARTS = st.dictionaries(
    st.sampled_from("abc"), st.one_of(st.integers(), st.text(), st.lists(st.integers(), max_size=3), st.none())
)


@settings(deadline=None)
@given(PARTS, PARTS)
def test_fingerprints_differ_exactly_when_the_parts_do(one, two):
    assert (fingerprint(**one) == fingerprint(**two)) == (one == two)


def test_fingerprints_see_type_shape_and_content():
    tensors = [torch.zeros(4), torch.zeros(4).double(), torch.zeros(2, 2), torch.ones(4), torch.tensor([0, 0, 0, 1.0])]
    assert len({fingerprint(x=tensor) for tensor in tensors}) == len(tensors)
    assert fingerprint(x=torch.eye(3)) == fingerprint(x=torch.eye(3).T)
    assert fingerprint(a=1, b=2) == fingerprint(b=2, a=1)
    assert len(fingerprint()) == 64


def test_write_atomically_keeps_the_old_content(tmp_path, monkeypatch):
    file = tmp_path / "deep" / "x.json"
    write_atomically(file, "old")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
        with pytest.raises(OSError, match="full"):
            write_atomically(file, "new")
    assert file.read_text() == "old"
    assert [path.name for path in file.parent.iterdir()] == ["x.json"]
