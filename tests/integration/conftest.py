"""The command as a user runs it on the toy data set."""

import pytest
import yaml

from recbole_hellm import cli
from recbole_hellm.testing import CHECKERBOARD


@pytest.fixture
def train(toy, tmp_path, capsys):
    """Run ``train`` on the toy data set in ``tmp_path``; returns exit code and the lines on standard error."""
    settings = toy()

    def run(*argv, **changes):
        (tmp_path / "toy.yaml").write_text(yaml.safe_dump({**settings, **changes}))
        given = [f"--config_files={tmp_path / 'toy.yaml'}", *argv]
        given += [] if any(a.startswith("--model=") for a in argv) else ["--model=HeLLM"]
        given += [] if any(a.startswith("--dataset=") for a in argv) else [f"--dataset={CHECKERBOARD}"]
        capsys.readouterr()  # what making the data and models printed
        code = cli.main(["train", *given])
        return code, [line.removeprefix("error: ") for line in capsys.readouterr().err.splitlines()]

    return run


@pytest.fixture
def data(tmp_path, toy):
    toy()
    return tmp_path / "data" / CHECKERBOARD


def _made(folder):
    """What a run left behind, logs aside."""
    files = [
        path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".lock")
    ]
    return sorted(str(f) for f in files if f.parts[0] not in ("log", "log_tensorboard", "data", "toy.yaml"))


@pytest.fixture
def refused(train, tmp_path):
    """The one line of a refused run, after which there must be no stage, model or result."""

    def run(*argv, **changes):
        code, lines = train(*argv, **changes)
        assert (code, len(lines)) == (2, 1)
        assert _made(tmp_path) == []
        return lines[0]

    return run


@pytest.fixture
def made(tmp_path):
    """What the runs in ``tmp_path`` left behind, as a function."""
    return lambda: _made(tmp_path)
