import json

import numpy as np
import pytest

from recbole_hellm.errors import ArtifactError
from recbole_hellm.report import metrics_table
from recbole_hellm.results import (
    PACKAGES,
    check_writable,
    hardware,
    peak_memory_mb,
    plain,
    reset_peak_memory,
    versions,
    write_result,
)

RANKS = {"test": {"user": np.array(["u1", "u2"]), "item": np.array(["i3", "i1"]), "rank": np.array([1, 12])}}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_is_written_is_read_back(tmp_path):
    path = tmp_path / "new" / "x.json"
    write_result(path, {"model": "HeLLM", "seed": np.int64(3), "score": np.float64(0.25)}, RANKS)
    assert json.loads(path.read_text()) == {"model": "HeLLM", "seed": 3, "score": 0.25, "ranks_file": "x.ranks.npz"}
    with np.load(path.parent / "x.ranks.npz", allow_pickle=False) as file:
        assert {name: file[name].tolist() for name in file.files} == {
            "test_user": ["u1", "u2"], "test_item": ["i3", "i1"], "test_rank": [1, 12]}  # fmt: skip
    assert names(path.parent) == ["x.json", "x.ranks.npz"]


def test_a_second_result_replaces_the_first(tmp_path):
    path = tmp_path / "x.json"
    write_result(path, {"a": 1}, RANKS)
    write_result(path, {"b": 2}, {})
    assert json.loads(path.read_text()) == {"b": 2, "ranks_file": "x.ranks.npz"}
    with np.load(tmp_path / "x.ranks.npz") as file:
        assert file.files == []


@pytest.mark.parametrize("n_bytes", [0, 100, 500])
def test_a_full_disk_leaves_nothing_half_written(tmp_path, disk_full, n_bytes):
    path = tmp_path / "x.json"
    with pytest.raises(ArtifactError, match="result file .*x.json cannot be written .*File too large.*set result_file"):  # noqa: SIM117
        with disk_full(n_bytes):
            write_result(path, {"text": "long " * 500}, RANKS)
    assert names(tmp_path) == []


def test_a_full_disk_keeps_the_result_before(tmp_path, disk_full):
    path = tmp_path / "x.json"
    write_result(path, {"a": 1}, RANKS)
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
    with pytest.raises(ArtifactError), disk_full(600):
        write_result(path, {"text": "long " * 500}, {"test": {"rank": np.arange(3)}})
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == before


def test_a_file_in_place_of_the_folder_is_named_before_and_after(tmp_path):
    (tmp_path / "file").write_text("x")
    for call in (lambda path: check_writable(path), lambda path: write_result(path, {}, {})):
        with pytest.raises(ArtifactError, match="file/x.json cannot be written"):
            call(tmp_path / "file" / "x.json")
    assert names(tmp_path) == ["file"]


def test_a_folder_in_place_of_the_file_is_named_before_the_run(tmp_path):
    with pytest.raises(ArtifactError, match="it is a folder"):
        check_writable(tmp_path)


def test_checking_leaves_no_file(tmp_path):
    check_writable(tmp_path / "deep" / "er" / "x.json")
    assert names(tmp_path / "deep" / "er") == []


def test_plain_values_are_what_json_holds():
    given = {"a": np.float32(0.5), 2: (np.int64(1), {"x"}), "b": [None, True, "t"], "c": np.bool_(True), "d": dict}
    found = plain(given)
    assert found == {"a": 0.5, "2": [1, ["x"]], "b": [None, True, "t"], "c": True, "d": "<class 'dict'>"}
    assert json.loads(json.dumps(found)) == found


def test_versions_name_every_package():
    found = versions()
    assert set(found) == {"python", *PACKAGES}
    assert found["recbole"] == "1.2.1"
    assert all(found.values())


def test_hardware_is_told():
    found = hardware()
    assert found["cores"] >= 1
    assert found["memory_gb"] > 0
    assert found["processor"]
    assert found["instructions"].partition(" ")[2] in ("", "bf16")


def test_peak_memory_sees_a_large_array():
    reset_peak_memory()
    before = peak_memory_mb()
    block = np.ones(25_000_000)  # 200 MB
    assert peak_memory_mb() - before > 150
    del block


def test_the_table_shows_both_phases_and_what_chose_the_epoch():
    result = {
        "config": {"model": "HeLLM", "dataset": "toy", "seed": 7, "valid_metric": "NDCG@5"},
        "best_valid_result": {"recall@5": 0.5},
        "test_result": {"recall@5": 0.25, "ndcg@5": 0.125},
        "result_file": "results/x.json",
    }
    lines = metrics_table(result).splitlines()
    assert "HeLLM on toy, seed 7" in lines
    assert lines[-3].split() == ["recall@5", "0.5000", "0.2500"]
    assert lines[-2].split() == ["ndcg@5", "-", "0.1250"]
    assert lines[-1] == "chosen on validation (NDCG@5), test read once; details: results/x.json"
