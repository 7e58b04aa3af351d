"""A study on disk: what survives a kill, what several processes see, and what is refused."""

import json
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from recbole_hellm.errors import ArtifactError, HellmError
from recbole_hellm.tune import report, runner
from recbole_hellm.tune.findings import Findings, in_short
from recbole_hellm.tune.page import page
from recbole_hellm.tune.plan import Plan, Search
from recbole_hellm.tune.space import parse_space
from recbole_hellm.tune.study import Study

ABOUT = {
    "metric": "NDCG@5",
    "setting": {"epochs": 4},
    "code": {"search protocol": 1},
    "data file": {"x.inter": "abc"},
}
SPACE = {"x": {"uniform": [0.0, 1.0]}, "kind": ["a", "b"], "y": {"int": [1, 5], "when": {"kind": "b"}}}


def open_study(folder, about=None, space=None, **search):
    plan = Plan("M", "data", parse_space(space or SPACE), Search(**{"trials": 6, **search}))
    return Study(folder, plan, about or ABOUT, bigger=True)


def record(ticket, value=0.5, status="complete", seconds=1.0, error=None):
    run = {
        "value": value,
        "curve": [[1, 0.0, 2.0, 0.1], [2, value, 1.0, 0.1]],
        "best_epoch": 2,
        "stages": [],
        "peak_memory_mb": 1.0,
    }
    return {
        "trial": ticket.number + 1,
        "settings": ticket.chosen,
        "same_as": None,
        "status": status,
        "value": None if status == "failed" else value,
        "sd": None,
        "runs": {} if status == "failed" else {"2020": {**run, "commit": "c"}},
        "error": error,
        "seconds": seconds,
        "time": "now",
        "process": "p",
    }


def run_all(study):
    """Run a study whose metric is x, and return the chosen settings."""
    while (ticket := study.next_trial()) is not None:
        study.end(ticket, record(ticket, ticket.chosen["x"]))
    return [found["settings"] for found in study.records()]


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_stop_changes_no_choice(tmp_path, sampler):
    whole = run_all(open_study(tmp_path / "whole", sampler=sampler, trials=14))
    first = open_study(tmp_path / "parts", sampler=sampler, trials=14)
    for _ in range(5):
        ticket = first.next_trial()
        first.end(ticket, record(ticket, ticket.chosen["x"]))
    assert run_all(open_study(tmp_path / "parts", sampler=sampler, trials=14)) == whole
    assert len(whole) == 14
    assert len({chosen["x"] for chosen in whole}) == 14


def test_tpe_learns(tmp_path):
    chosen = run_all(open_study(tmp_path, trials=30))
    assert sum(one["x"] for one in chosen[-10:]) / 10 > 0.75


def child(code, folder):
    """Run Python in a process of its own, with ``study`` open, and return its output."""
    setup = f"""
        import os, signal, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from pathlib import Path
        from test_tune_study import open_study, record
        study = open_study(Path({str(folder)!r}))
    """
    text = textwrap.dedent(setup) + textwrap.dedent(code)
    return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=250)


def test_a_kill_loses_only_the_running_trial_and_its_settings_run_again(tmp_path):
    done = child(
        """
        import json
        ticket = study.next_trial()
        study.end(ticket, record(ticket, 0.1))
        ticket = study.next_trial()
        (study.folder / "running" / "2-2020").mkdir()
        print(json.dumps(ticket.chosen), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        tmp_path,
    )
    assert done.returncode == -9, done.stderr
    lost = json.loads(done.stdout)
    study = open_study(tmp_path)
    assert [found["value"] for found in study.records()] == [0.1]
    ticket = study.next_trial()
    assert ticket.chosen == lost
    study.end(ticket, record(ticket, 0.2))
    assert len(run_all(study)) == 6  # the lost one does not count
    assert not list((tmp_path / "running").iterdir())


def test_a_kill_after_the_record_loses_nothing(tmp_path):
    done = child(
        """
        ticket = study.next_trial()
        ticket.trial.set_user_attr("record", record(ticket, 0.7))
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        tmp_path,
    )
    assert done.returncode == -9, done.stderr
    study = open_study(tmp_path)
    study.next_trial()
    assert study.best()["value"] == 0.7


def test_a_trial_that_another_process_runs_is_left_alone(tmp_path):
    one, two = open_study(tmp_path, trials=2), open_study(tmp_path, trials=2)
    mine = one.next_trial()
    other = two.next_trial()
    assert (mine.number, other.number) == (0, 1)
    assert one.next_trial() is None  # both count
    two.end(other, record(other, 0.3))
    one.end(mine, record(mine, 0.4))
    assert [found["value"] for found in two.records()] == [0.4, 0.3]


def test_processes_share_a_study_without_loss(tmp_path):
    code = """
        while (ticket := study.next_trial()) is not None:
            study.end(ticket, record(ticket, ticket.chosen["x"]))
            print(ticket.number, flush=True)
    """
    with ThreadPoolExecutor(3) as pool:  # they also create it at the same time
        done = list(pool.map(lambda _: child(code, tmp_path), range(3)))
    assert [one.returncode for one in done] == [0, 0, 0], [one.stderr for one in done]
    numbers = sorted(int(number) for one in done for number in one.stdout.split())
    assert numbers == list(range(6))
    assert len(open_study(tmp_path).records()) == 6


def test_a_grid_runs_every_point_once_over_two_calls(tmp_path):
    space = {"kind": ["a", "b"], "y": {"int": [1, 3], "when": {"kind": "b"}}, "l": {"choice": [["u"], ["u", "g"]]}}
    first = open_study(tmp_path, space=space, sampler="grid", trials=None)
    for _ in range(3):
        ticket = first.next_trial()
        first.end(ticket, record(ticket))
    again = open_study(tmp_path, space=space, sampler="grid", trials=None)
    while (ticket := again.next_trial()) is not None:
        again.end(ticket, record(ticket))
    chosen = [json.dumps(found["settings"], sort_keys=True) for found in again.records()]
    assert len(chosen) == len(set(chosen)) == 8
    assert again.left() == "all 8 trials are there"


def test_a_study_of_other_data_settings_or_code_is_refused(tmp_path):
    open_study(tmp_path)
    for part, changed, said in (
        ("data file", {"x.inter": "abd"}, "data file 'x.inter' changed"),
        ("setting", {"epochs": 5}, "setting 'epochs' was 4, is 5"),
        ("code", {"search protocol": 2}, "code 'search protocol' was 1, is 2"),
    ):
        with pytest.raises(ArtifactError) as caught:
            open_study(tmp_path, {**ABOUT, part: changed})
        assert said in str(caught.value)
        assert "give another --study NAME" in str(caught.value)
        assert "\n" not in str(caught.value)
    open_study(tmp_path, trials=50, minutes=3.0, pruner="halving")  # how it is searched may change


def test_time_in_total_ends_the_search_before_a_trial_that_would_not_fit(tmp_path):
    study = open_study(tmp_path, minutes=1.0, trials=99)
    ran = 0
    while (ticket := study.next_trial()) is not None:
        study.end(ticket, record(ticket, seconds=25.0))
        ran += 1
    assert ran == 2  # 25 + 25 s; a third would end at 75 s
    assert study.left() == "no time for another trial within 1 minutes"


@pytest.mark.parametrize("pruner", ["median", "halving", "none"])
def test_a_weak_trial_is_pruned_and_a_strong_one_is_not(tmp_path, pruner):
    study = open_study(tmp_path, pruner=pruner, prune_after_trials=2, prune_after_epochs=2, trials=9)
    for _ in range(3):
        ticket = study.next_trial()
        for epoch in (1, 2, 3):
            study.report(ticket, epoch, 0.5)
        study.end(ticket, record(ticket))
    weak, strong = study.next_trial(), study.next_trial()
    assert [study.report(weak, epoch, 0.1) for epoch in (1, 2)] == [False, pruner != "none"]
    assert [study.report(strong, epoch, 0.9) for epoch in (1, 2)] == [False, False]


def test_a_failed_trial_counts_but_is_never_the_best(tmp_path):
    study = open_study(tmp_path, trials=2)
    ticket = study.next_trial()
    study.end(ticket, record(ticket, status="failed", error="out of memory"))
    ticket = study.next_trial()
    study.end(ticket, record(ticket, 0.2))
    assert study.next_trial() is None
    assert study.best()["value"] == 0.2


def test_a_search_of_failures_ends_in_one_line(tmp_path):
    study = open_study(tmp_path)
    for _ in range(runner.HOPELESS):
        ticket = study.next_trial()
        study.end(ticket, record(ticket, status="failed", error="no such layer"))
    with pytest.raises(HellmError, match=r"first 3 trials failed, all of them; the last one: no such layer.*--study"):
        runner._check_hope(study)


def test_report_and_best_file_say_what_was_found(tmp_path):
    study = open_study(tmp_path, trials=8)
    while (ticket := study.next_trial()) is not None:
        status = ("complete", "complete", "pruned", "failed")[ticket.number % 4]
        study.report(ticket, 1, ticket.chosen["x"])
        study.end(
            ticket, record(ticket, ticket.chosen["x"], status, error="<b>broke</b>" if status == "failed" else None)
        )
        runner.keep(study)
    said = report.write_report(study, "study")
    best = max((found for found in study.records() if found["status"] == "complete"), key=lambda found: found["value"])
    assert said.splitlines()[1].split()[:3] == [str(best["trial"]), f"{best['value']:.4f}", "complete"]
    assert f"--config_files={tmp_path}/best.yaml" in said
    lines = [json.loads(line) for line in (tmp_path / "trials.jsonl").read_text().splitlines()]
    assert lines == study.records()
    markdown, html = (tmp_path / "report.md").read_text(), (tmp_path / "report.html").read_text()
    assert "4 complete, 2 pruned, 2 failed" in markdown
    assert f"The best is trial {best['trial']}" in markdown
    for text in (
        "Validation curves",
        "Importance of settings",
        f"trial {best['trial']}",
        "the test split was not read",
    ):
        assert text in html
    assert "<b>broke</b>" not in html
    assert "&lt;b&gt;broke&lt;/b&gt;" in html
    assert html.count("<svg") == 3 + len(SPACE)
    assert sum(study.importances().values()) == pytest.approx(1.0)
    assert not list(tmp_path.glob("running/*"))


def test_a_study_without_a_complete_trial_has_a_report_but_no_best(tmp_path):
    study = open_study(tmp_path, trials=0)
    runner.keep(study)
    assert "no trial is complete" in report.write_report(study, "study")
    assert not (tmp_path / "best.yaml").exists()


def test_the_page_of_a_repeated_trial_and_of_seeds(tmp_path):
    study = open_study(tmp_path, trials=2, space={"kind": ["a", "b"]})
    tickets = [study.next_trial()]
    study.end(tickets[0], {**record(tickets[0]), "sd": 0.01})
    found = Findings("n", study.plan, study.about, study.metric, True, tuple(study.records()), {}, tmp_path / "b")
    assert "standard deviation 0.0100 over 1 seeds" in in_short(found)
    assert "0.0100" in page(found)
    assert "Validation curves" in page(found)


def test_trials_of_one_validation_have_no_curves(tmp_path):
    study = open_study(tmp_path, trials=1)
    ticket = study.next_trial()
    made = record(ticket)
    made["runs"]["2020"]["curve"] = made["runs"]["2020"]["curve"][:1]
    study.end(ticket, made)
    found = Findings("n", study.plan, study.about, study.metric, True, tuple(study.records()), {}, tmp_path / "b")
    assert "Trials in order" in page(found)
    assert "Validation curves" not in page(found)
