import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from living import lives

from recbole_hellm.artifacts import file_digest
from recbole_hellm.benchmark.lines import ResultsFile, load_lines
from recbole_hellm.benchmark.plan import Entry, Plan
from recbole_hellm.benchmark.runner import Counts, run_plan
from recbole_hellm.errors import ArtifactError, ConfigError

FAKE = """
import hashlib, json, os, signal, subprocess, sys, time
from pathlib import Path

request = json.loads(Path(sys.argv[1]).read_text())
what = request["settings"].get("what", "ok")
with open(os.environ["CALLS"], "a") as calls:
    calls.write(request["model"] + " " + str(request["settings"]["seed"]) + "\\n")
print("half a line of progress", end="\\r")
users = b"users of " + request["cell"]["cell"].encode()
line = {**request["cell"], "status": "ok", "test": {"ndcg@10": 0.0451}}
line["users_sha256"] = hashlib.sha256(users).hexdigest()
if what == "fails":
    print("error: an earlier one", file=sys.stderr)
    print("error: setting 'x' must be y", file=sys.stderr)
    sys.exit(2)
if what == "crashes":
    raise IndexError("index 5 is out of range")
if what == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if what == "silent":
    sys.exit(3)
if what == "sleeps":
    helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(os.environ["CALLS"] + ".pids").write_text(f"{os.getpid()} {helper.pid}")
    time.sleep(600)
if what != "no users":
    Path(request["users"]).write_bytes(users[:-1] if what == "cut users" else users)
if what == "other":
    line["cell"] = "0" * 16
text = json.dumps(line)
if what != "no result":
    Path(request["result"]).write_text(text[:-9] if what == "cut result" else text)
"""
WAITING = """
import sys
from pathlib import Path
from recbole_hellm.benchmark.plan import Entry, Plan
from recbole_hellm.benchmark.runner import run_plan
plan = Plan("p", (Entry("SASRec"), Entry("GRU4Rec", "", {"what": "sleeps"})), ("toy",), (1,))
run_plan(plan, Path("x.jsonl"), "compare", module="fake")
"""

# Whatever the tests run under: under nohup SIGHUP is ignored, in the background of a script SIGINT is.
LISTENING = (
    """
import signal
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
"""
    + WAITING
)


@pytest.fixture
def env(tmp_path):
    (tmp_path / "fake.py").write_text(FAKE)
    return {"PYTHONPATH": str(tmp_path), "CALLS": str(tmp_path / "calls")}


@pytest.fixture
def calls(tmp_path):
    """What was run since the last look."""
    path = tmp_path / "calls"

    def look():
        found = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return found

    return look


@pytest.fixture
def run(tmp_path, env):
    return lambda plan: run_plan(plan, tmp_path / "x.jsonl", "recbole-hellm compare", env, "fake")


def plan(second="ok", **changes):
    entries = (Entry("SASRec"), Entry("GRU4Rec", "", {"what": second}))
    return Plan("p", **{"entries": entries, "datasets": ("toy",), "seeds": (1, 2), **changes})


def lines(tmp_path):
    return load_lines(tmp_path / "x.jsonl")[1]


def left(tmp_path):
    return sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob(".work*"))


def test_every_cell_runs_once_and_only_once(run, calls, tmp_path, capfd):
    assert run(plan()) == Counts(ran=4, failed=0, skipped=0)
    assert calls() == ["SASRec 1", "GRU4Rec 1", "SASRec 2", "GRU4Rec 2"]
    out = capfd.readouterr().out.splitlines()
    assert len(out) == 4
    assert out[0].startswith("[1/4] SASRec on toy, seed 1 ... ok ")
    assert out[3].endswith(" s, ndcg@10 0.0451")
    for line, cell in zip(lines(tmp_path), plan().cells(), strict=True):
        assert line["users_file"] == f"x.users/{cell.key}.npz"
        assert file_digest(tmp_path / line["users_file"]) == line["users_sha256"]
        assert line["command"] == "recbole-hellm compare"
        assert {key: line[key] for key in cell.line()} == json.loads(json.dumps(cell.line()))
        assert (tmp_path / "x.logs" / f"{cell.key}.log").is_file()
    assert left(tmp_path) == []
    before = (tmp_path / "x.jsonl").read_bytes()
    assert run(plan()) == Counts(ran=0, failed=0, skipped=4)
    assert (calls(), (tmp_path / "x.jsonl").read_bytes()) == ([], before)


def test_a_plan_that_grows_runs_only_what_is_new(run, calls):
    run(plan(seeds=(1,)))
    calls()
    assert run(plan(seeds=(1, 3))) == Counts(ran=2, failed=0, skipped=2)
    assert calls() == ["SASRec 3", "GRU4Rec 3"]
    entries = (Entry("SASRec"), Entry("GRU4Rec", "", {"what": "ok", "n": 1}))
    assert run(plan(seeds=(1,), entries=entries)) == Counts(ran=1, failed=0, skipped=1)


def test_another_label_needs_no_other_run(run, calls, tmp_path):
    run(plan())
    calls()
    entries = (Entry("SASRec", "first"), Entry("GRU4Rec", "", {"what": "ok"}))
    assert run(plan(entries=entries)).skipped == 4
    assert calls() == []
    assert [line["label"] for line in lines(tmp_path)] == ["first", "GRU4Rec"] * 2


@pytest.mark.parametrize(
    ("what", "error"),
    [
        ("fails", "setting 'x' must be y"),
        ("crashes", "exit code 1: IndexError: index 5 is out of range; its log is "),
        ("killed", "killed by signal 9 (SIGKILL), as the system does when memory runs out; its log is "),
        ("silent", "exit code 3: half a line of progress; its log is "),
        ("no result", "the run ended without a complete result; its log is "),
        ("cut result", "the run ended without a complete result; its log is "),
        ("no users", "the run ended without a complete result; its log is "),
        ("cut users", "the run ended without a complete result; its log is "),
        ("other", "the run ended without a complete result; its log is "),
    ],
)
def test_a_failed_cell_is_a_line_and_the_others_go_on(run, calls, tmp_path, capfd, what, error):
    assert run(plan(what)) == Counts(ran=2, failed=2, skipped=0)
    assert calls() == ["SASRec 1", "GRU4Rec 1", "SASRec 2", "GRU4Rec 2"]
    found = lines(tmp_path)
    assert [line["status"] for line in found] == ["ok", "failed", "ok", "failed"]
    assert found[1]["error"].startswith(error)
    assert "\n" not in found[1]["error"]
    assert "test" not in found[1]
    assert (found[1]["label"], found[1]["settings"]["what"], found[1]["seed"]) == ("GRU4Rec", what, 1)
    assert found[1]["protocol"]["selected_on"] == "valid"
    said = rf"GRU4Rec on toy, seed 1 \.\.\. failed after \d+ s: {re.escape(error[:20])}"
    assert re.search(said, capfd.readouterr().out)
    assert left(tmp_path) == []
    assert len(list((tmp_path / "x.users").iterdir())) == 2
    assert run(plan(what)) == Counts(ran=0, failed=2, skipped=2)  # tried again


@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_a_cell_whose_user_file_is_damaged_runs_again(run, calls, tmp_path, damage):
    run(plan())
    calls()
    file = tmp_path / lines(tmp_path)[2]["users_file"]
    file.unlink() if damage == "gone" else file.write_bytes(file.read_bytes()[:-1])
    assert run(plan()) == Counts(ran=1, failed=0, skipped=3)
    assert calls() == ["SASRec 2"]


def test_what_a_kill_left_of_a_cell_is_cleared(run, tmp_path):
    cell = plan().cells()[0]
    work = tmp_path / "x.users" / f".work-{cell.key}"
    work.mkdir(parents=True)
    (work / "result.json").write_text(json.dumps({**cell.line(), "status": "ok", "test": {}}))
    assert run(plan("fails", seeds=(1,))) == Counts(ran=1, failed=1, skipped=0)
    assert left(tmp_path) == []


def test_a_line_that_cannot_be_written_ends_the_plan(run, tmp_path, monkeypatch):
    run(plan(seeds=(1,)))
    before = (tmp_path / "x.jsonl").read_bytes()
    monkeypatch.setattr("os.fsync", lambda file: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(ArtifactError, match=r"x.jsonl cannot be written \(No space left"):
        run(plan())
    assert (tmp_path / "x.jsonl").read_bytes() == before


@pytest.fixture
def waiting(tmp_path, env):
    """A process in the middle of its second cell, and the pids of that cell and its helper."""
    process = subprocess.Popen(
        [sys.executable, "-c", LISTENING], cwd=tmp_path, env={**os.environ, **env}, stdout=subprocess.PIPE, text=True
    )
    pids = Path(env["CALLS"] + ".pids")
    _until(lambda: pids.exists() and len(pids.read_text().split()) == 2)
    yield process, [int(pid) for pid in pids.read_text().split()]
    process.kill()
    process.wait()
    for pid in map(int, pids.read_text().split()):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, -2), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_stop_ends_the_running_cell_and_keeps_the_others(waiting, tmp_path, number, code):
    process, pids = waiting
    process.send_signal(number)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == code  # python ends by the signal itself after Ctrl-C; the command gives 130
    assert out.splitlines()[-2:] == [
        "[2/2] GRU4Rec on toy, seed 1 ... stopped",
        "finished cells are in x.jsonl; the same command runs the others",
    ]
    _until(lambda: not any(map(lives, pids)))
    assert [line["label"] for line in lines(tmp_path)] == ["SASRec"]
    assert left(tmp_path) == []


IGNORING = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n" + WAITING


def test_nohup_outlives_the_terminal(tmp_path, env):
    process = subprocess.Popen([sys.executable, "-c", IGNORING], cwd=tmp_path, env={**os.environ, **env})
    pids = Path(env["CALLS"] + ".pids")
    try:
        _until(lambda: pids.exists() and len(pids.read_text().split()) == 2)
        process.send_signal(signal.SIGHUP)
        time.sleep(1)
        assert process.poll() is None
        assert all(map(lives, map(int, pids.read_text().split())))
        process.send_signal(signal.SIGTERM)  # that one is still heard
        assert process.wait(30) == 143
    finally:
        process.kill()
        process.wait()


def test_a_closed_pipe_does_not_end_the_run(tmp_path, env):
    script = WAITING.replace("sleeps", "ok") + "print('more')\n"
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    error = process.stderr.read().decode()
    assert (process.wait(60), error) == (0, "")
    assert [line["status"] for line in lines(tmp_path)] == ["ok", "ok"]


def test_two_names_of_a_results_file_share_lock_and_users(tmp_path, run, env, calls):
    run(plan())
    calls()
    (tmp_path / "other").mkdir()
    link = tmp_path / "other" / "y.jsonl"
    link.symlink_to(tmp_path / "x.jsonl")
    assert run_plan(plan(), link, "recbole-hellm compare", env, "fake").skipped == 4
    with ResultsFile(tmp_path / "x.jsonl", plan().header()), pytest.raises(ArtifactError, match="being written"):
        run_plan(plan(), link, "recbole-hellm compare", env, "fake")
    assert sorted(path.name for path in (tmp_path / "other").iterdir()) == ["y.jsonl"]
    with pytest.raises(ConfigError, match=r"must end in \.jsonl"):
        run_plan(plan(), tmp_path / "x", "recbole-hellm compare", env, "fake")


def test_a_cell_whose_inputs_changed_runs_again(tmp_path, env, calls, caplog):
    def run_with(files="f", digest="d"):
        reads = {"settings_digest": digest, "files": {"toy.inter": files}}
        inputs = {("SASRec", "toy"): reads}
        return run_plan(plan(seeds=(1,)), tmp_path / "x.jsonl", "compare", env, "fake", inputs).ran

    run_plan(plan(seeds=(1,)), tmp_path / "x.jsonl", "compare", env, "fake")
    assert run_with() == 0  # an older line does not say
    (tmp_path / "x.jsonl").unlink()
    assert [run_with(), run_with()] == [2, 0]
    assert lines(tmp_path)[0]["files"] == {"toy.inter": "f"}
    caplog.clear()
    assert run_with(digest="e") == 1
    assert "SASRec on toy, seed 1 runs again: a preset, or the yaml of the model" in caplog.text
    assert run_with("g", "e") == 1
    assert "SASRec on toy, seed 1 runs again: toy.inter changed since" in caplog.text
    assert run_with("g", "e") == 0


def test_after_a_kill_only_the_running_cell_is_missing(waiting, run, calls, tmp_path):
    process, _ = waiting
    process.kill()
    process.communicate()
    assert [line["label"] for line in lines(tmp_path)] == ["SASRec"]
    calls()
    entries = (Entry("SASRec"), Entry("GRU4Rec"))
    assert run(plan(entries=entries, seeds=(1,))) == Counts(ran=1, failed=0, skipped=1)
    assert calls() == ["GRU4Rec 1"]


def test_a_second_writer_is_refused_while_the_first_runs(waiting, run):
    with pytest.raises(ArtifactError, match=f"being written by plan 'p' \\(process {waiting[0].pid}\\)"):
        run(plan())


def _until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)
