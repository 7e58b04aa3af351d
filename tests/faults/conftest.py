"""Fixtures of the fault tests."""

import pytest
from interrupts import interrupts_heard
from killing import Runs

from recbole_hellm.testing import tiny_llm


@pytest.fixture(scope="module")
def runs(tmp_path_factory, one_thread):
    root = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["pytest"])
        patch.chdir(root)
        with interrupts_heard():
            yield Runs(root, tiny_llm(root / "llm"), patch)
