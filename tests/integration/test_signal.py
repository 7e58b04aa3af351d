"""The sub-commands about item features as a user runs them."""

import numpy as np
import pytest
import yaml

from recbole_hellm import cli
from recbole_hellm.config.recbole_config import HellmConfig
from recbole_hellm.data.features import load_features
from recbole_hellm.pipeline.signal import feature_signal
from recbole_hellm.testing import CHECKERBOARD
from recbole_hellm.testing.toys import N_ITEMS, write_checkerboard


@pytest.fixture
def run(toy, tmp_path, capsys):
    def go(command, *argv, **changes):
        (tmp_path / "toy.yaml").write_text(yaml.safe_dump({**toy(), **changes}))
        files = [f"--config_files={tmp_path / 'toy.yaml'}", f"--dataset={CHECKERBOARD}"]
        capsys.readouterr()
        code = cli.main([command, *argv, *files])
        out = capsys.readouterr()
        return code, out.out.splitlines(), out.err.splitlines()

    return go


def test_colour_is_a_signal_on_the_checkerboard_and_noise_is_not(tmp_path, toy):
    data = write_checkerboard(tmp_path / "data", n_users=400)
    np.save(data / "features" / "noise.npy", np.random.default_rng(3).normal(size=(N_ITEMS, 6)).astype(np.float32))
    (data / "features" / "noise.ids.txt").write_text("".join(f"i{item}\n" for item in range(N_ITEMS)))
    settings = toy(item_features=["image", "noise"])
    for split in ("valid", "test"):
        signal = feature_signal(HellmConfig("HeLLM", CHECKERBOARD, config_dict=settings), split)
        rows = {row.name: row for row in signal.rows}
        assert list(rows)[0] == "image (array)"
        # after 6 or 7 of the ten squares of a colour, those that are left are all among the first ten
        assert rows["image (array)"].last.recall == 1.0
        assert rows["image (array)"].carries
        assert not rows["noise (array)"].carries
        assert rows["noise (array)"].coverage == 1.0
        assert signal.n_users == 400
        # 20 squares without the history
        assert rows["chance"].last.recall == pytest.approx(10 / (14 if split == "valid" else 13))


def test_signal_by_command(run, data):
    code, lines, _ = run("signal", "--on=test", "--users=10")
    assert (code, lines[0]) == (0, "checkerboard, test targets of 10 users among 20 items, history masked")
    names = [line[: line.index("  ", 3)].strip() for line in lines[2:]]
    assert names == ["text (hashing)", "shuffled", "image (array)", "shuffled", "text (TF-IDF)", "shuffled",
                     "popularity", "chance"]  # fmt: skip
    code, _, errors = run("signal", "--item_featurs=[text]")
    assert (code, len(errors)) == (2, 1)
    assert "did you mean 'item_features'?" in errors[0]


def test_encode_writes_files_that_runs_read(run, data, tmp_path, capsys):
    code, lines, _ = run("encode")
    assert (code, lines) == (0, [str(data / "features" / "text.safetensors")])
    table = load_features(data / "features" / "text.safetensors")
    assert (table.vectors.shape, table.vectors.dtype) == ((N_ITEMS, 256), np.float32)
    assert set(table.tokens) == {f"i{item}" for item in range(N_ITEMS)}
    code, lines, _ = run("signal")
    assert any(line.startswith("text (array)") for line in lines)

    code, _, errors = run("encode")
    assert (code, "has an array already: nothing to encode" in errors[0]) == (2, True)
    run("encode", "--force", f"--output={tmp_path / 'other'}", item_features=["text"])
    assert (tmp_path / "other" / "text.safetensors").read_bytes() == (
        data / "features" / "text.safetensors"
    ).read_bytes()
    assert (
        cli.main(["inspect", CHECKERBOARD, "--data-path", str(data.parent), "--output", str(tmp_path / "p.html")]) == 0
    )
    shown = capsys.readouterr().out
    assert f"{N_ITEMS} items (100 %); {N_ITEMS} rows of 256 numbers, float32" in shown
    code, _, errors = run("encode", f"--output={tmp_path / 'other'}", "--force", item_features=["audio"])
    assert (code, "item feature 'audio'" in errors[0]) == (2, True)


def test_a_broken_safetensors_file_is_one_line(run, data):
    run("encode")
    path = data / "features" / "text.safetensors"
    path.write_bytes(path.read_bytes()[:40])
    code, _, errors = run("signal")
    assert (code, len(errors)) == (2, 1)
    assert "no readable tensor 'vectors'" in errors[0]
    path.with_suffix(".ids.txt").unlink()
    code, _, errors = run("train", "--model=HeLLM")
    assert (code, "text.ids.txt does not exist" in errors[0]) == (2, True)
