"""Fixtures of the fault tests."""

import signal

import pytest
import torch
from killing import Runs

from recbole_hellm.testing import tiny_llm


@pytest.fixture(scope="module")
def one_thread():
    """A forked child must not enter an OpenMP pool its parent has made."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def runs(tmp_path_factory, one_thread):
    root = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["pytest"])
        patch.chdir(root)
        before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a background job
        yield Runs(root, tiny_llm(root / "llm"), patch)
        signal.signal(signal.SIGINT, before)
