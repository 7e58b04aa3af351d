"""``recbole-hellm verify``: one line a quantity, and an exit code."""

import json
import re
import shutil

import numpy as np
import pytest
from made import read, write_golden

from recbole_hellm.cli import main
from recbole_hellm.verify import Difference

LINE = re.compile(r"^(ok  |FAIL) (stage[12] \S+)\s+(\d\.\d\de[-+]\d\d|nan)  \(limit 1e-0[45]\)$")
STAGE1 = {"ui_norm", "u2u_norm", "i2i_norm", "i2i_incidence", "user_out", "item_out", "uu_out", "ii_out"}
STAGE1 |= {"contrastive_user", "contrastive_item", "bpr", "reg"}
STAGE2 = {"io.prefix_key", "io.prefix_value", "io.last_hidden", "io.logits", "io.loss"}
QUANTITIES = {f"stage1 {name}" for name in STAGE1} | {f"stage2 {name}" for name in STAGE2}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return write_golden(tmp_path_factory.mktemp("made") / "golden")


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made, tmp_path / "golden")


def run(folder, capsys):
    code = main(["verify", f"--golden={folder}"])
    out, err = capsys.readouterr()
    lines = out.splitlines()
    return code, {match[2]: match[1].strip() for match in map(LINE.match, lines[:-1])}, lines[-1:], err


def change(path, **arrays):
    np.savez(path, **{**read(path), **arrays})


def assert_refused(folder, capsys, *texts):
    code, _, last, err = run(folder, capsys)
    assert (code, last) == (2, [])
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    for text in texts:
        assert text in err


def test_the_authors_numbers_agree(shared, capsys):
    if not (shared / "golden" / "stage2.npz").is_file():
        pytest.skip("no golden numbers")
    code, lines, last, err = run(shared / "golden", capsys)
    assert (code, last, err) == (0, ["17 of 17 quantities agree"], "")
    assert lines == dict.fromkeys(QUANTITIES, "ok")


@pytest.mark.parametrize(
    "shape", [{"seed": 1}, {"seed": 2, "kv_heads": 1, "prefix_len": 5, "topk": 2, "user_layers": 3}]
)
def test_other_sizes_agree_too(tmp_path, capsys, shape):
    code, lines, last, _ = run(write_golden(tmp_path / "other", **shape), capsys)
    assert lines == dict.fromkeys(QUANTITIES, "ok")
    assert (code, last) == (0, ["17 of 17 quantities agree"])


@pytest.mark.parametrize("quantity", sorted(QUANTITIES))
def test_one_wrong_number_is_found_and_nothing_else(folder, capsys, quantity):
    stage, name = quantity.split()
    array = read(folder / f"{stage}.npz")[name].copy()
    array.reshape(-1)[-1] += 1e-3
    change(folder / f"{stage}.npz", **{name: array})
    code, lines, last, _ = run(folder, capsys)
    assert (code, last) == (1, ["16 of 17 quantities agree"])
    assert [name for name, state in lines.items() if state == "FAIL"] == [quantity]


def test_a_wrong_setting_is_found(folder, capsys):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "lora_alpha": 7}))
    code, lines, _, _ = run(folder, capsys)
    assert code == 1
    assert [name for name, state in lines.items() if state == "FAIL"] == [
        "stage2 io.last_hidden", "stage2 io.logits", "stage2 io.loss"]  # fmt: skip


def test_nan_never_agrees():
    assert not Difference("x", float("nan"), 1e-4).ok
    assert Difference("x", 1e-4, 1e-4).ok
    assert not Difference("x", 1.1e-4, 1e-4).ok


@pytest.mark.parametrize("file", ["config.json", "stage1.npz", "stage2.npz"])
def test_a_missing_file_is_named(folder, capsys, file):
    (folder / file).unlink()
    assert_refused(folder, capsys, str(folder / file), "does not exist; give a folder with config.json")


def test_a_missing_folder_is_named(tmp_path, capsys):
    assert_refused(tmp_path / "gone", capsys, "gone/config.json does not exist")


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("stage1.npz", "text_feat"), ("stage1.npz", "ui_norm"), ("stage1.npz", "bpr"), ("stage2.npz", "io.logits"),
        ("stage2.npz", "io.input_ids"), ("stage2.npz", "prefix.learned_keys"), ("stage2.npz", "item_embedding.graph"),
        ("stage2.npz", "model.layers.0.self_attn.k_proj.weight"),
    ],
)  # fmt: skip
def test_a_missing_array_is_named(folder, capsys, file, name):
    arrays = read(folder / file)
    del arrays[name]
    np.savez(folder / file, **arrays)
    assert_refused(folder, capsys, name)


@pytest.mark.parametrize("key", ["topk", "temperature", "hidden_size", "prefix_len", "lora_alpha", "rope_theta"])
def test_a_missing_size_is_named(folder, capsys, key):
    config = json.loads((folder / "config.json").read_text())
    del config[key]
    (folder / "config.json").write_text(json.dumps(config))
    assert_refused(folder, capsys, key)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 half an archive"])
def test_a_broken_archive_is_named(folder, capsys, content):
    (folder / "stage2.npz").write_bytes(content)
    assert_refused(folder, capsys, "stage2.npz", "cannot be read")


def test_a_cut_off_archive_is_named(folder, capsys):
    path = folder / "stage1.npz"
    path.write_bytes(path.read_bytes()[:-200])
    assert_refused(folder, capsys, "stage1.npz", "cannot be read")


def test_a_broken_config_is_named(folder, capsys):
    (folder / "config.json").write_text('{"topk": ')
    assert_refused(folder, capsys, "config.json is no valid JSON")


@pytest.mark.parametrize(
    ("file", "name", "array"),
    [
        ("stage1.npz", "user_out", np.zeros((2, 2), np.float32)),
        ("stage2.npz", "io.logits", np.zeros((1, 2), np.float32)),
        ("stage2.npz", "prefix.learned_keys", np.zeros((1, 2, 9, 24), np.float32)),
        ("stage1.npz", "users", np.array([99])),
        ("stage2.npz", "io.input_ids", np.full((4, 5), 99)),
    ],
)
def test_an_array_that_does_not_fit_is_one_line(folder, capsys, file, name, array):
    change(folder / file, **{name: array})
    assert_refused(folder, capsys, file.removesuffix(".npz"))
