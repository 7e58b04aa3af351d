"""Fixtures shared by all tests."""

import logging
import os
import resource
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest
import torch
from hypothesis import HealthCheck, settings

import recbole_hellm  # noqa: F401  (repairs RecBole before anything imports it)
from recbole_hellm.testing import checkerboard_settings, tiny_llm

# A process that is not run for a moment is no failure; what is drawn is the same in every run of `make test`.
settings.register_profile("test", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
settings.register_profile("search", settings.get_profile("test"), derandomize=False)
settings.load_profile("test")

CHECKOUT = Path(__file__).resolve().parents[1]


def pytest_addoption(parser):
    parser.addoption("--update-recorded", action="store_true", help="write recorded numbers anew instead of comparing")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real data and golden numbers, which only developers have."""
    folder = Path(os.environ.get("RECBOLE_HELLM_SHARED", CHECKOUT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no folder {folder} with real data and golden numbers (set RECBOLE_HELLM_SHARED)")
    return folder


@pytest.fixture(scope="session")
def llm(tmp_path_factory) -> Path:
    """A random language model of a few thousand weights."""
    return tiny_llm(tmp_path_factory.mktemp("llm") / "tiny")


@pytest.fixture
def disk_full():
    """A context that lets no file of this process grow beyond some bytes, as a full disk does."""

    @contextmanager
    def limit(n_bytes):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limit


@pytest.fixture(scope="module")
def one_thread():
    """A forked child must not enter an OpenMP pool its parent has made."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def logging_as_before():
    """RecBole sets level and handlers of the root logger; the next test must not inherit them."""
    root = logging.getLogger()
    level, handlers = root.level, set(root.handlers)
    yield
    root.setLevel(level)
    for handler in set(root.handlers) - handlers:
        if not type(handler).__module__.startswith("_pytest"):
            root.removeHandler(handler)


@pytest.fixture
def toy(tmp_path, llm, monkeypatch):
    """Settings for quick runs on the toy data set, in a folder of their own."""
    monkeypatch.setattr("sys.argv", ["pytest"])  # RecBole's own Config reads it
    monkeypatch.chdir(tmp_path)

    def settings(**changes):
        return checkerboard_settings(tmp_path, llm, **changes)

    return settings
