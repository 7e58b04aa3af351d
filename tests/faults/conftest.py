"""Fixtures of the fault tests."""

import signal

import pytest
from killing import Runs

from recbole_hellm.testing import tiny_llm


@pytest.fixture(scope="module")
def runs(tmp_path_factory, one_thread):
    root = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["pytest"])
        patch.chdir(root)
        before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a background job
        yield Runs(root, tiny_llm(root / "llm"), patch)
        signal.signal(signal.SIGINT, before)
