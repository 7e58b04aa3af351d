"""A leak that is planted is found, of every kind that is measured, and a steady process has none."""

import gc
import logging
import mmap
import subprocess
import sys
import tempfile
import threading
import warnings
from dataclasses import replace
from pathlib import Path

import colorama
import numpy as np
import pytest
import torch
from measuring import MB_A_RUN_OF_FEW, changed, grown, stray, switches, take

N_RUNS = 8


class Plants:
    """One method per kind of leak; each call leaves one thing more."""

    def __init__(self):
        self.kept, self.over, self.streams = [], threading.Event(), (sys.stdout, sys.stderr)

    def rss_mb(self):
        # New pages, several megabytes of them: memory that earlier tests freed could serve a small object, and the
        # kernel counts pages in batches, a few hundred kilobytes for each thread.
        self.kept.append(mmap.mmap(-1, 4 * 2**20))
        self.kept[-1].write(b"x" * 4 * 2**20)

    def objects(self):
        self.kept += [[number] for number in range(5)]

    def tensors(self):
        self.kept.append(torch.zeros(1))

    def threads(self):
        self.kept.append(threading.Thread(target=self.over.wait, daemon=True))
        self.kept[-1].start()

    def files(self):
        self.kept.append(Path("/dev/null").open())  # noqa: SIM115

    def children(self):
        self.kept.append(subprocess.Popen(["sleep", "60"]))

    def handlers(self):
        self.kept.append(logging.NullHandler())
        logging.getLogger("of the test").addHandler(self.kept[-1])

    def root_handlers(self):
        self.kept.append(logging.NullHandler())
        logging.getLogger().addHandler(self.kept[-1])

    def wrappers(self):
        colorama.init(autoreset=True)

    def hooks(self):
        warnings.filterwarnings("ignore", message=f"number {len(warnings.filters)}")

    def temporary(self):
        tempfile.mkdtemp()

    def removed(self):
        sys.stdout, sys.stderr = self.streams
        self.over.set()
        for thing in self.kept:
            if isinstance(thing, subprocess.Popen):
                thing.kill()
                thing.wait()
            elif isinstance(thing, threading.Thread):
                thing.join()
            elif isinstance(thing, logging.Handler):
                for name in (None, "of the test"):
                    logging.getLogger(name).removeHandler(thing)
            elif hasattr(thing, "close"):
                thing.close()


@pytest.fixture
def plants(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    made = Plants()
    gc.freeze()  # all that other tests hold need not be counted each time
    with warnings.catch_warnings():
        yield made
        made.removed()
    gc.unfreeze()


def samples(act):
    take()  # the first use of what measures; gives back what earlier tests left
    taken = []
    for _ in range(N_RUNS):
        act()
        taken.append(take())
    return taken


def test_a_process_that_keeps_nothing_does_not_grow(plants):
    assert grown(samples(lambda: [bytes(2**20), torch.zeros(1000), Path("/dev/null").read_bytes()]), 0.5) == []


@pytest.mark.parametrize("name", [name for name in vars(Plants) if name != "removed" and name[0] != "_"])
def test_a_planted_leak_is_found(plants, name):
    found = grown(samples(getattr(plants, name)), MB_A_RUN_OF_FEW)
    assert [line for line in found if line.startswith(f"{name} ")], found


@pytest.mark.parametrize(("mb_a_run", "grows"), [(0.2, True), (0.15, True), (0.0, False)])
def test_a_fifth_of_a_megabyte_a_run_is_seen_through_the_noise(plants, mb_a_run, grows):
    """180 runs with jumps of the allocator and kinds of runs that hold more than others."""
    noise, here = np.random.default_rng(3), take()
    memory = [600 + mb_a_run * run + 2 * (run % 10 == 3) + noise.exponential(0.5) for run in range(180)]
    memory[40] += 300.0
    found = grown([replace(here, rss_mb=value) for value in memory])
    assert [line[:7] for line in found] == (["rss_mb "] if grows else [])


def test_objects_that_are_made_once_are_no_growth_and_a_few_a_run_are(plants):
    here = take()
    for at in (20, 90, 91, 160):
        assert grown([replace(here, objects=here.objects + 400 * (run >= at)) for run in range(180)]) == []
    assert grown([replace(here, objects=here.objects + 3 * run) for run in range(180)]) != []


def test_one_file_in_forty_runs_is_seen(plants):
    here = take()
    assert grown([replace(here, files=here.files + run // 40) for run in range(180)]) != []


def test_a_changed_switch_is_named(monkeypatch):
    before = switches()
    assert changed(before, switches()) == []
    monkeypatch.setenv("OF_THE_TEST", "1")
    with torch.no_grad():
        lines = changed(before, switches())
    assert [line.partition(":")[0] for line in lines] == ["gradients", "environment"]


def test_stray_files_are_named_and_locks_are_not(tmp_path):
    for name in ("saved/a/.lock", "saved/a/best/model.safetensors", "log/a.log", "data/.x.tmp.npz", "stages/.graph-1/a",
                 "stages/unfinished/graph/state", "results/a.tmp"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert stray(tmp_path) == ["data/.x.tmp.npz", "results/a.tmp", "stages/.graph-1", "stages/unfinished/graph",
                              "stages/unfinished/graph/state"]  # fmt: skip
