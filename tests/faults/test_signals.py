"""SIGTERM and SIGINT: saved within seconds, an exit code of their own, and the command goes on where it was."""

import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest
import yaml
from interrupts import hear_interrupts, interrupts_heard

from recbole_hellm import signals
from recbole_hellm.testing import CHECKERBOARD
from recbole_hellm.trainer.resume import ResumeMixin

SECONDS_TO_SAVE = 10.0


@pytest.fixture
def command(runs, tmp_path):
    """Start the command on the toy data; returns the process, whose log says what it does."""

    def start(model, name, **changes):
        settings = {**runs.settings(name, **changes), "state": "INFO"}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(settings))
        argv = [sys.executable, "-m", "recbole_hellm.cli", "train", f"--model={model}", f"--dataset={CHECKERBOARD}"]
        return subprocess.Popen([*argv, f"--config_files={tmp_path / name}.yaml"], cwd=tmp_path, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "NO_COLOR": "1"},
                                preexec_fn=hear_interrupts)  # fmt: skip

    return start


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_the_command_saves_and_leaves_with_its_code(command, runs, signum, code):
    name = f"command-{code}"
    process = command("SASRec", name, epochs=3000, stopping_step=9999, eval_step=100, save_every="1 step")
    folder = runs.root / name / "checkpoint_dir"
    deadline = time.monotonic() + 200
    while not list(folder.glob("*/last/checkpoint.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    sent = time.monotonic()
    process.send_signal(signum)
    _, err = process.communicate(timeout=60)
    took = time.monotonic() - sent
    assert process.returncode == code
    said = [line for line in err.splitlines() if line.startswith("stopped by")]
    found = re.fullmatch(rf"stopped by {signum.name}: epoch (\d+), step (\d+) is kept in (.*/last); --resume=yes goes "
                         "on there", said[0])  # fmt: skip
    assert found, said
    assert took < SECONDS_TO_SAVE + 20, "ten seconds on a machine that has nothing else to do"
    from recbole_hellm.checkpoints.model_folder import read_model

    kept = read_model(folder / next(folder.iterdir()).name / "last")
    assert (kept.about["epoch"], kept.about["step"]) == (int(found[1]), int(found[2]))
    assert not (runs.root / name / "result.json").exists()


def test_a_signal_before_training_ends_the_run_at_once(runs, monkeypatch):
    from recbole_hellm.fitting import Fit

    monkeypatch.setattr(Fit, "run_stages", lambda fit: (os.kill(os.getpid(), signal.SIGTERM), time.sleep(5)))
    started = time.monotonic()
    with pytest.raises(signals.Stopped) as stopped:
        runs.go("SASRec", "early")
    assert time.monotonic() - started < 60
    assert (stopped.value.kept, stopped.value.exit_code) == ("", 75)


def test_a_signal_that_comes_after_anothers_does_not_break_off_the_save(runs, monkeypatch):
    """Of several processes one is asked first and tells the others, whose own signals come while they save."""
    save = ResumeMixin._save_state

    def asked_again(trainer, folder):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
        save(trainer, folder)

    monkeypatch.setattr(ResumeMixin, "_agreed", staticmethod(lambda due: (False, int(signal.SIGTERM))))
    monkeypatch.setattr(ResumeMixin, "_save_state", asked_again)
    with pytest.raises(signals.Stopped) as stopped:
        runs.go("SASRec", "late")
    assert re.fullmatch(r"epoch 1, step \d+ is kept in .*/last", stopped.value.kept)


def test_handlers_are_as_before_after_a_run(runs):
    before = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)]
    runs.go("SASRec", "handlers", epochs=1)
    assert [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)] == before


def test_a_run_in_a_thread_hears_no_signals_and_works(runs):
    found = []
    thread = threading.Thread(target=lambda: found.append(runs.go("SASRec", "thread", epochs=1)))
    thread.start()
    thread.join()
    assert found


def test_the_alarm_of_somebody_else_still_rings():
    """pytest-timeout and others count on it."""
    rung = []
    before = signal.signal(signal.SIGALRM, lambda *_: rung.append(1))
    try:
        signal.setitimer(signal.ITIMER_REAL, 1.0)
        with signals.watch(), signals.deferred(lambda: True):
            time.sleep(1.2)
        assert rung == [1]
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_second_interrupt_does_not_wait():
    with (  # noqa: PT012
        interrupts_heard(),
        signals.watch(),
        pytest.raises(KeyboardInterrupt) as raised,
        signals.deferred(lambda: False),
    ):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        assert signals.requested()
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
    assert type(raised.value) is KeyboardInterrupt


def test_a_deferred_signal_waits_for_the_check():
    done = []
    with signals.watch(), pytest.raises(signals.Stopped), signals.deferred(lambda: True):  # noqa: PT012
        os.kill(os.getpid(), signal.SIGTERM)
        done.append("step")
        signals.check()
        done.append("not reached")
    assert done == ["step"]


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with signals.watch():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
            assert not signals.requested()
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_documented_code_is_the_systems():
    assert signals.EXIT_CODE == os.EX_TEMPFAIL == 75
