"""Stages in a whole run: reused when nothing that decides them changed, refused when they do not fit."""

import errno
from pathlib import Path

import pytest
import torch

from recbole_hellm import artifacts
from recbole_hellm.errors import ArtifactError
from recbole_hellm.pipeline.graph import GraphStage
from recbole_hellm.quick_start import run_recbole_hellm
from recbole_hellm.testing import CHECKERBOARD

NAMES = ["features", "graph", "sequence"]


def run(settings, model="HeLLM"):
    return run_recbole_hellm(model, CHECKERBOARD, config_dict=settings)


def folders(result):
    """Return the folder of every stage's result."""
    return {record.name: Path(record.path) for record in result["trainer"].stage_records}


def ran(result):
    records = result["trainer"].stage_records
    assert [record.name for record in records] == NAMES
    return [record.name for record in records if record.status == "ran"]


def weights(result):
    return result["trainer"].model.state_dict()


def test_a_second_run_reuses_every_stage_and_gives_the_same_bits(toy):
    first, second = run(toy()), run(toy())
    elsewhere = run(toy(stage_cache_dir="fresh"))
    assert (ran(first), ran(second), ran(elsewhere)) == (NAMES, [], NAMES)
    assert first["test_result"] == second["test_result"] == elsewhere["test_result"]
    for name, tensor in weights(first).items():
        assert torch.equal(tensor, weights(second)[name]), name
        assert torch.equal(tensor, weights(elsewhere)[name]), name


@pytest.mark.parametrize(
    ("changes", "reruns"),
    [
        ({"lora_r": 1}, []),
        ({"epochs": 1, "learning_rate": 0.1}, []),
        ({"graph_temperature": 0.7}, ["graph"]),
        ({"sequence_dropout": 0.1}, ["sequence"]),
        ({"feature_missing": "mean"}, ["features", "graph"]),
        ({"pretrain_epochs": 1, "seed": 7}, ["graph", "sequence"]),
    ],
)
def test_a_setting_reruns_only_what_it_decides(toy, changes, reruns):
    run(toy(train_stage="pretrain"))
    assert ran(run(toy(train_stage="pretrain", **changes))) == reruns


def test_models_share_a_stage(toy):
    run(toy())
    assert [record.status for record in run(toy(), "MMHCL")["trainer"].stage_records] == ["reused"]


def test_the_result_tells_what_happened_to_each_stage(toy):
    run(toy(train_stage="pretrain"))
    told = {stage["name"]: stage["status"] for stage in run(toy(graph_temperature=0.6))["stages"]}
    assert {name: told[name] for name in NAMES} == {"features": "reused", "graph": "ran", "sequence": "reused"}


def test_pretrain_then_finetune_is_auto(toy):
    pretrained = run(toy(train_stage="pretrain"))
    assert pretrained["test_result"] is None
    assert ran(pretrained) == NAMES
    assert not pretrained["trainer"].train_loss_dict
    finetuned = run(toy(train_stage="finetune"))
    assert ran(finetuned) == []
    assert finetuned["test_result"] == run(toy(stage_cache_dir="fresh"))["test_result"]


def test_finetune_without_stages_is_refused_by_name(toy):
    with pytest.raises(ArtifactError, match="stage 'features' has no finished result .*train_stage=pretrain"):
        run(toy(train_stage="finetune"))
    run(toy(train_stage="pretrain"))
    with pytest.raises(ArtifactError, match="stage 'graph' has no finished result"):
        run(toy(train_stage="finetune", graph_temperature=0.9))


def test_a_killed_run_keeps_the_stages_that_finished(toy, monkeypatch):
    monkeypatch.setattr(GraphStage, "run", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        run(toy())
    kept = [path for path in Path(toy()["stage_cache_dir"]).iterdir() if path.is_dir()]  # locks beside them are files
    assert {folder.name.partition("-")[0] for folder in kept} == {"features", "encodings"}  # the latter: the texts
    monkeypatch.undo()
    assert ran(run(toy())) == ["graph", "sequence"]


def test_a_full_disk_leaves_nothing_half(toy, monkeypatch, tmp_path):
    def full(tensors, path):
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(artifacts, "save_file", full)
    with pytest.raises((OSError, ArtifactError), match="(?i)no space left"):
        run(toy())
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    kept = [path for path in Path(toy()["stage_cache_dir"]).rglob("*") if path.is_file()]
    kept = [path for path in kept if path.suffix != ".lock"]
    assert {path.relative_to(toy()["stage_cache_dir"]).parts[0] for path in kept} <= {"encodings"}
    assert all(path.read_bytes() != b"half" for path in kept)
    assert ran(run(toy())) == NAMES


@pytest.mark.parametrize("damage", ["flip", "truncate", "foreign"])
def test_a_damaged_stage_is_refused_with_a_way_out(toy, damage):
    path = folders(run(toy(train_stage="pretrain")))["graph"]
    manifest, tensors = path / "manifest.json", path / "tensors.safetensors"
    if damage == "flip":
        content = bytearray(tensors.read_bytes())
        content[-1] ^= 1
        tensors.write_bytes(content)
    elif damage == "truncate":
        manifest.write_text(manifest.read_text()[:50])
    else:
        other = folders(run(toy(train_stage="pretrain", graph_temperature=0.8)))["graph"]
        for file in (manifest, tensors):
            file.write_bytes((other / file.name).read_bytes())
    with pytest.raises(ArtifactError, match=f"{path}.*delete {path} and run again"):
        run(toy())


def test_changed_feature_files_run_again(toy):
    run(toy(train_stage="pretrain"))
    file = Path(toy()["data_path"]) / CHECKERBOARD / "features" / "image.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert ran(run(toy(train_stage="pretrain"))) == ["features", "graph"]


def test_changed_item_text_runs_again(toy):
    run(toy(train_stage="pretrain"))
    file = Path(toy()["data_path"]) / CHECKERBOARD / f"{CHECKERBOARD}.item"
    file.write_text(file.read_text().replace("square number 3", "triangle"))
    assert ran(run(toy(train_stage="pretrain"))) == ["features", "graph"]
