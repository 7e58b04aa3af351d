"""A model folder that was changed at random is read as it was or refused in one line; never anything else."""

import json
import shutil

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from recbole_hellm.checkpoints import folders
from recbole_hellm.checkpoints.adapter import AdapterPlan
from recbole_hellm.checkpoints.identity import Identity
from recbole_hellm.checkpoints.model_folder import ModelCheckpoint, read_model, write_model
from recbole_hellm.errors import ArtifactError

EXAMPLES = 400
"""Changed folders in each of the two tests."""


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A small folder with every kind of file."""
    state = {**nn.Linear(3, 2).state_dict(), "llm.layers.0.up.lora_A.default.weight": torch.ones(2, 3),
             "llm.layers.0.up.lora_B.default.weight": torch.ones(4, 2)}  # fmt: skip
    other = {"table": np.arange(4.0), "kept": (1, None, {"a": [2.5]})}
    probe = {
        "rows": {"item": torch.arange(3)},
        "columns": torch.arange(2),
        "scores": torch.ones(3, 2),
        "precision": "fp32",
    }
    checkpoint = ModelCheckpoint(state, other, {"epochs": 3}, probe, {"versions": {"recbole-hellm": "0.1.0"}}, {}, (),
                                 {"training": {"step": 4, "m": torch.ones(2)}})  # fmt: skip
    folder = tmp_path_factory.mktemp("fuzz") / "best"
    write_model(folder, checkpoint, Identity("M", "d", ("[PAD]", "a")), AdapterPlan("llm.", "x", 1, 2, 2, 0.0, ["up"]))
    return folder


def plain(found):
    state = sorted((key, tensor.tolist()) for key, tensor in found.state.items())
    return repr((state, found.other["kept"], found.settings, found.items, found.about, found.identity, found.extra))


def changed(data, good, folder):
    """Change one file at one to three places; returns its name."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(good, folder)
    name = data.draw(st.sampled_from(sorted(str(p.relative_to(good)) for p in good.rglob("*") if p.is_file())))
    content = bytearray((folder / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, max(0, len(content) - 1)))
        how = data.draw(st.sampled_from(["set", "insert", "delete", "cut", "double"]))
        if how == "set" and content:
            content[at] = data.draw(st.integers(0, 255))
        elif how == "insert":
            content[at:at] = data.draw(
                st.binary(min_size=1, max_size=4) | st.sampled_from([b"{", b"]", b"null", b'"a":1,'])
            )
        elif how == "delete":
            del content[at : at + data.draw(st.integers(1, 40))]
        elif how == "cut":
            del content[at:]
        else:
            content += content[at:]
    (folder / name).write_bytes(content)
    return name


def read_or_refused(folder):
    try:
        return read_model(folder, extra=("training",))
    except ArtifactError as error:
        assert "\n" not in str(error)  # noqa: PT017
        assert len(str(error)) > 20  # noqa: PT017
        return None


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_change_is_found(data, good, tmp_path):
    name = changed(data, good, tmp_path / "copy")
    same = (tmp_path / "copy" / name).read_bytes() == (good / name).read_bytes()
    found = read_or_refused(tmp_path / "copy")
    if not same and name == folders.MANIFEST and found is not None:
        assert json.loads((tmp_path / "copy" / name).read_text()) == json.loads((good / name).read_text())
    elif not same:
        assert found is None, f"a changed {name} was read"
    if found is not None:
        assert plain(found) == plain(read_model(good, extra=("training",)))


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_with_digests_that_fit_it_is_read_or_refused(data, good, tmp_path):
    folder = tmp_path / "copy"
    changed(data, good, folder)
    try:
        manifest = json.loads((folder / folders.MANIFEST).read_text())
        manifest.pop("digest", None)
        manifest["files"] = {n: folders.file_digest(folder / n) for n in manifest["files"]}
    except (ValueError, AttributeError, TypeError, KeyError, OSError):
        return  # a manifest nobody could seal
    (folder / folders.MANIFEST).write_text(json.dumps({**manifest, "digest": folders._digest(manifest)}))
    read_or_refused(folder)
