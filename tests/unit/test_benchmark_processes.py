"""A process that is started for another never outlives it, whenever a signal comes."""

import os
import signal
import subprocess
import sys
import time

import pytest
from interrupts import interrupts_heard
from living import lives

from recbole_hellm.benchmark import processes
from recbole_hellm.benchmark.processes import run_process, stoppable

SLEEPS = [sys.executable, "-c", "import time; time.sleep(600)"]


@pytest.mark.parametrize(("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_while_a_process_is_being_started_ends_it(tmp_path, monkeypatch, number, raised):
    started = []

    class Popen(subprocess.Popen):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            started.append(self.pid)
            os.kill(os.getpid(), number)
            time.sleep(0.1)  # a handler of Python's runs between two of its instructions

    monkeypatch.setattr(processes.subprocess, "Popen", Popen)
    with interrupts_heard(), stoppable("nothing"):
        listening = signal.getsignal(number)
        with pytest.raises(raised):
            run_process(SLEEPS, tmp_path / "log", {})
        assert signal.getsignal(number) == listening
    assert len(started) == 1
    assert not lives(started[0])


def test_a_program_that_is_not_there_is_said(tmp_path):
    with pytest.raises(FileNotFoundError):
        run_process([str(tmp_path / "none")], tmp_path / "log", {})
