"""A disk that is full, or a folder that cannot be written to: one line, and nothing half written."""

from recbole_hellm import artifacts, quick_start
from recbole_hellm.trainer.saving import SavingMixin


def test_a_disk_full_during_a_stage(train, made, disk_full, monkeypatch):
    monkeypatch.setattr(artifacts, "save_file", disk_full(300)(artifacts.save_file))
    code, (message,) = train()
    assert (code, [name.split("-")[0] for name in made()]) == (2, ["stages/encodings/hashing"])
    assert message.startswith("result of stage 'features' cannot be written to ")
    assert message.endswith("; free space there, or set stage_cache_dir to a folder that can be written to")


def test_a_disk_full_during_the_result(train, made, disk_full, tmp_path, monkeypatch):
    monkeypatch.setattr(quick_start, "write_result", disk_full(500)(quick_start.write_result))
    code, lines = train()
    assert (code, len(lines)) == (2, 1)
    assert lines[0].startswith(f"result file {tmp_path / 'result.json'} cannot be written (File too large); free space")
    assert [name for name in made() if "result" in name] == []


def test_a_disk_full_during_a_checkpoint(train, made, disk_full, tmp_path, monkeypatch):
    monkeypatch.setattr(SavingMixin, "_save_checkpoint", disk_full(3000)(SavingMixin._save_checkpoint))
    code, lines = train()
    assert (code, len(lines)) == (2, 1)
    assert lines[0].startswith(f"{tmp_path}/saved/HeLLM-checkerboard-")
    assert "/best cannot be written (" in lines[0]
    assert lines[0].endswith("; free space there, or set checkpoint_dir to another folder")
    assert [name for name in made() if name.startswith(("saved", "result"))] == []


def test_a_result_file_that_cannot_be_written_is_refused_before_the_run(refused, tmp_path):
    (tmp_path / "data" / "file").write_text("")
    assert "file/x.json cannot be written" in refused(f"--result_file={tmp_path}/data/file/x.json")


def test_a_stage_folder_that_cannot_be_written(refused, tmp_path):
    (tmp_path / "data" / "file").write_text("")
    message = refused(f"--stage_cache_dir={tmp_path}/data/file")
    assert f"cannot be written to {tmp_path}/data/file" in message
    assert message.endswith("or set stage_cache_dir to a folder that can be written to")
