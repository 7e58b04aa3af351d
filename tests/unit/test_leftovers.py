"""What RecBole leaves in a process is cleared away when the run ends, in whichever way."""

import io
import logging
import sys
import threading

import pytest
import yaml
from colorama import init
from recbole.trainer import trainer as recbole_trainer
from tensorboard.summary.writer.event_file_writer import _AsyncWriterThread

from recbole_hellm.config.recbole_config import HellmConfig
from recbole_hellm.errors import HellmError
from recbole_hellm.leftovers import cleared
from recbole_hellm.quick_start import run_recbole_hellm
from recbole_hellm.testing import CHECKERBOARD


def writing():
    return {thread for thread in threading.enumerate() if isinstance(thread, _AsyncWriterThread)}


def opened():
    return recbole_trainer.get_tensorboard(logging.Logger("nobody"))


def test_the_writers_of_a_run_are_closed_and_others_are_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before, outside = writing(), opened()
    others = writing()
    assert len(others) == len(before) + 1
    with cleared():
        opened(), opened()
        assert len(writing()) == len(others) + 2
    assert writing() == others
    outside.close()
    assert writing() == before


def test_a_run_inside_of_a_run_closes_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = writing()
    with cleared():
        opened()
        outer = writing()
        with cleared():
            opened()
        assert writing() == outer
    assert writing() == before


def test_streams_are_unwrapped_and_those_that_were_set_meanwhile_stay(monkeypatch):
    mine, other = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", mine)
    monkeypatch.setattr(sys, "stderr", mine)

    def run():
        with cleared():
            init(autoreset=True)
            init(autoreset=True)
            assert sys.stdout is not mine
            sys.stderr = other
            raise KeyError

    with pytest.raises(KeyError):
        run()
    assert sys.stdout is mine
    assert sys.stderr is other


def test_reading_settings_adds_nothing_to_yaml(toy):
    def rules():
        return sum(map(len, yaml.FullLoader.yaml_implicit_resolvers.values()))

    first = HellmConfig("HeLLM", CHECKERBOARD, config_dict=toy())
    before = rules()
    again = HellmConfig("SASRec", CHECKERBOARD, config_dict=toy())
    assert rules() == before
    assert first.yaml_loader is again.yaml_loader
    assert yaml.load("1e-3", Loader=again.yaml_loader) == 0.001  # what RecBole's rule is for


@pytest.mark.parametrize("changes", [{}, {"learner": "sgd"}])
def test_a_run_leaves_no_thread_and_no_wrapper(toy, changes):
    """Also one that ends when half of its trainer is built."""
    threads, streams = writing(), (sys.stdout, sys.stderr)
    settings = toy(epochs=1, **changes)
    if changes:
        with pytest.raises(HellmError, match="learner"):
            run_recbole_hellm("HeLLM", CHECKERBOARD, config_dict=settings)
    else:
        run_recbole_hellm("HeLLM", CHECKERBOARD, config_dict=settings)
    assert writing() == threads
    assert (sys.stdout, sys.stderr) == streams
