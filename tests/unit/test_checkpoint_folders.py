"""A folder is there completely or not at all, and a changed bit is found."""

import json
import os

import pytest

from recbole_hellm.checkpoints import folders
from recbole_hellm.checkpoints.folders import MANIFEST, read_manifest, replace_folder, settle, write_folder
from recbole_hellm.errors import ArtifactError


def fill(text="one"):
    def write(folder):
        (folder / "a.txt").write_text(text)
        (folder / "sub").mkdir()
        (folder / "sub" / "b.txt").write_text("two")

    return write


def write(target, text="one"):
    write_folder(target, {"kind": "test"}, fill(text), "do this")
    return target


def test_a_folder_is_read_back(tmp_path):
    manifest = read_manifest(write(tmp_path / "best"))
    assert manifest["kind"] == "test"
    assert set(manifest["files"]) == {"a.txt", "sub/b.txt"}
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


@pytest.mark.parametrize("can_exchange", [True, False])
def test_an_older_one_is_replaced(tmp_path, monkeypatch, can_exchange):
    if not can_exchange:
        monkeypatch.setattr(folders, "exchange", lambda one, other: False)
    write(tmp_path / "best", "old")
    write(tmp_path / "best", "new")
    assert read_manifest(tmp_path / "best")
    assert (tmp_path / "best" / "a.txt").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_this_system_exchanges_in_one_step(tmp_path):
    one, other = write(tmp_path / "one"), write(tmp_path / "other", "x")
    assert folders.exchange(one, other)
    assert (one / "a.txt").read_text() == "x"


@pytest.mark.parametrize("name", ["a.txt", "sub/b.txt", MANIFEST])
def test_every_flipped_bit_is_found(tmp_path, name):
    target = write(tmp_path / "best")
    file = target / name
    good = file.read_bytes()
    for place in range(len(good)):
        bad = bytearray(good)
        bad[place] ^= 1 << (place % 8)
        file.write_bytes(bad)
        with pytest.raises(ArtifactError, match=f"{name.partition('/')[0]}|{MANIFEST}") as error:
            read_manifest(target)
        assert "\n" not in str(error.value)
    file.write_bytes(good)
    assert read_manifest(target)


@pytest.mark.parametrize("name", ["a.txt", "sub/b.txt", MANIFEST])
@pytest.mark.parametrize("keep", [None, 0, 2])
def test_a_missing_or_cut_file_is_named(tmp_path, name, keep):
    file = write(tmp_path / "best") / name
    if keep is None:
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:keep] if keep else b"")
    with pytest.raises(ArtifactError, match=file.name):
        read_manifest(tmp_path / "best")


def test_a_name_that_leads_out_is_refused(tmp_path):
    target = write(tmp_path / "best")
    (tmp_path / "secret").write_text("x")
    document = json.loads((target / MANIFEST).read_text())
    document.pop("digest")
    document["files"]["../secret"] = folders.file_digest(tmp_path / "secret")
    (target / MANIFEST).write_text(json.dumps({**document, "digest": folders._digest(document)}))
    with pytest.raises(ArtifactError, match="leads out of the folder"):
        read_manifest(target)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), ValueError("bug")])
def test_a_failure_leaves_the_older_one(tmp_path, error):
    target = write(tmp_path / "best", "old")

    def failing(folder):
        (folder / "a.txt").write_text("new")
        raise error

    expected = ArtifactError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected) as raised:
        write_folder(target, {}, failing, "do this")
    if isinstance(error, OSError):
        assert str(raised.value) == f"{target} cannot be written ([Errno 28] No space left on device); do this"
    assert (target / "a.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_the_disk_has_everything_before_the_name_changes(tmp_path, monkeypatch):
    seen, synced = [], folders.sync
    monkeypatch.setattr(folders, "sync", lambda path: (seen.append(path.name), synced(path)))
    monkeypatch.setattr(folders, "replace_folder", lambda scratch, target: (seen.append("REPLACE"),
                                                                          replace_folder(scratch, target)))  # fmt: skip
    write(tmp_path / "best")
    before, after = seen[: seen.index("REPLACE")], seen[seen.index("REPLACE") + 1 :]
    assert {"a.txt", "b.txt", "sub", MANIFEST} <= set(before)
    assert after == [tmp_path.name]


def test_settle_puts_back_and_sweeps(tmp_path, monkeypatch):
    """After a kill between the two renames of a system that cannot exchange."""
    monkeypatch.setattr(folders, "exchange", lambda one, other: False)
    write(tmp_path / "best", "old")
    (tmp_path / "best").rename(tmp_path / ".best.older")
    write(tmp_path / ".last-0123456789abcdef", "scratch")
    settle(tmp_path)
    assert (tmp_path / "best" / "a.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_others_may_read_what_a_run_leaves(tmp_path):
    from safetensors.torch import save_file
    from torch import zeros

    write_folder(tmp_path / "best", {}, lambda folder: save_file({"a": zeros(1)}, folder / "a.safetensors"), "")
    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / "best" / "a.safetensors").stat().st_mode & 0o777 == 0o666 & ~mask
