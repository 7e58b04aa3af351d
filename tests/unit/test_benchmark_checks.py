import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from living import lives

from recbole_hellm import registry
from recbole_hellm.benchmark.checks import check_plan, import_models
from recbole_hellm.benchmark.child import surroundings
from recbole_hellm.benchmark.plan import Entry, Plan
from recbole_hellm.benchmark.plan_files import load_plan, plan_imports
from recbole_hellm.errors import ConfigError, DataError
from recbole_hellm.testing import CHECKERBOARD


def plan(**changes):
    given = {"name": "p", "entries": (Entry("SASRec"), Entry("TransitionCounts")), "datasets": (CHECKERBOARD,)}
    return Plan(**{**given, "seeds": (1, 2), **changes})


def refused(call, *texts):
    with pytest.raises(ConfigError) as error:
        call()
    assert all(text in str(error.value) for text in texts), str(error.value)


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        (Entry("SASRek"), "SASRek on checkerboard: unknown model 'SASRek' (did you mean 'SASRec'?)"),
        (
            Entry("SASRec", "S", {"n_layer": 1}),
            "S on checkerboard: unknown setting 'n_layer' (did you mean 'n_layers'?)",
        ),
        (Entry("HeLLM", "H", {"prefix_len": -1}), "H on checkerboard: setting 'prefix_len' must be >= 0, got -1"),
        (Entry("HeLLM", "H", {"loss_type": "BPR"}), "H on checkerboard: setting 'loss_type' = 'BPR' excludes"),
    ],
)
def test_mistakes_of_a_model_are_found_before_anything_runs(toy, tmp_path, entry, text):
    made = plan(entries=(Entry("TransitionCounts"), entry), datasets=(CHECKERBOARD,), settings=_shared(toy()))
    with pytest.raises(ConfigError, match="^plan p: ") as error:
        check_plan(made)
    assert text in str(error.value)
    assert not (tmp_path / "saved").exists()


def test_a_data_set_that_is_missing_is_found_before_anything_runs(toy):
    made = plan(datasets=(CHECKERBOARD, "chess"), settings=_shared(toy()))
    with pytest.raises(DataError, match="data set 'chess' is not in .*data/chess"):
        check_plan(made)
    check_plan(replace(made, datasets=(CHECKERBOARD,)))


def test_models_of_the_users_own_can_be_named(toy, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.path", [*sys.path])
    (tmp_path / "mine_models.py").write_text(
        "from recbole_hellm.models.transition_counts import TransitionCounts\n"
        "from recbole_hellm import registry\n\n"
        "class Mine(TransitionCounts):\n    pass\n\n"
        "registry.models.add('Mine', Mine)\n"
    )
    plan_file = tmp_path / "mine.yaml"
    plan_file.write_text("models: [Mine, SASRec]\ndatasets: [checkerboard]\nimports: [mine_models]\n")
    assert plan_imports(plan_file) == ("mine_models",)
    import_models(plan_imports(plan_file))
    try:
        settings = _shared(toy())
        check_plan(replace(load_plan(plan_file), overrides=settings))
    finally:
        registry.models.remove("Mine")
    refused(lambda: import_models(["no_such"]), "module 'no_such' cannot be imported")


def test_a_model_another_process_cannot_import_is_refused(toy):
    from recbole.model.sequential_recommender.sasrec import SASRec

    registry.models.add("Local", type("Local", (SASRec,), {"__module__": "__main__"}))
    try:
        made = plan(entries=(Entry("Local"), Entry("SASRec")), datasets=(CHECKERBOARD,))
        refused(lambda: check_plan(made), "model 'Local' is defined in __main__", "top level of a module")
    finally:
        registry.models.remove("Local")


PARENT = """
import subprocess, sys, time
from recbole_hellm.benchmark.child import surroundings
child = (
    "import time; from recbole_hellm.benchmark.child import enter; "
    f"enter({surroundings('SASRec')!r}); print('in', flush=True); time.sleep(600)"
)
process = subprocess.Popen([sys.executable, "-c", child], stdout=subprocess.PIPE, text=True, start_new_session=True)
process.stdout.readline()
print(process.pid, flush=True)
time.sleep(600)
"""


def test_a_cell_ends_when_what_started_it_is_killed():
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    cell = parent.stdout.readline().strip()
    assert lives(cell)
    parent.kill()
    parent.communicate()
    end = time.monotonic() + 30
    while lives(cell):
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_cell_knows_the_models_of_what_started_it(tmp_path, monkeypatch):
    (tmp_path / "plain_model.py").write_text(
        "from recbole_hellm.models.transition_counts import TransitionCounts\n\n"
        "class Plain(TransitionCounts):\n    pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    registry.models.add("Plain", __import__("plain_model").Plain)
    try:
        about = json.loads(json.dumps(surroundings("Plain")))
    finally:
        registry.models.remove("Plain")
    assert about["models"] == {"Plain": ["plain_model", "Plain"]}
    del about["parent"]
    script = (
        "import sys, json; from recbole_hellm.benchmark.child import enter; enter(json.loads(sys.argv[1])); "
        "from recbole.utils import get_model; print(get_model('Plain').__module__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(about)],
        cwd=tmp_path.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split()[-1] == "plain_model"


@pytest.mark.parametrize(
    ("changes", "texts"),
    [
        ({"eval_step": 0}, ["'eval_step' must be >= 1, got 0"]),
        ({"eval_step": 3, "epochs": 2}, ["'eval_step' is 3 with 'epochs' 2", "nothing would be validated"]),
        ({"eval_args": {"split": {"LS": "valid_only"}}}, ["'eval_args.split' must be {LS: valid_and_test}"]),
        ({"eval_args": {"split": {"RS": [8, 1, 1]}}}, ["'eval_args.split'", "[8, 1, 1]"]),
        ({"eval_args": {"mode": "uni10"}}, ["'eval_args.mode' must be full", "uni10"]),
        ({"topk": [5, 20]}, ["'topk' must be below the 20 items of data set 'checkerboard', got 20"]),
        ({"preset": "toys"}, ["unknown preset 'toys' of SASRec", "give it in that model's settings"]),
        ({"metrics": ["ItemCoverage"], "valid_metric": "ItemCoverage@5"}, ["'metrics' must name one that ranks"]),
    ],
)
def test_what_could_not_be_compared_is_refused_before_anything_runs(toy, changes, texts):
    made = plan(settings={**_shared(toy()), **changes}, entries=(Entry("SASRec"), Entry("LightGCN")))
    refused(lambda: check_plan(made), *texts)


def test_a_model_without_epochs_needs_no_validation(toy):
    settings = {**_shared(toy()), "eval_step": 3, "epochs": 2}
    made = plan(settings=settings, entries=(Entry("Pop"), Entry("ItemKNN")))
    check_plan(made)


def test_a_wrong_choice_for_the_report_is_refused_before_anything_runs(toy):
    made = plan(settings=_shared(toy()))
    check_plan(made, "NDCG@5", "SASRec")
    refused(lambda: check_plan(made, "ndcg@10"), "--metric 'ndcg@10' is not measured (did you mean 'ndcg@5'?)", "topk")
    refused(lambda: check_plan(made, None, "Sasrek"), "--against", "'Sasrek' (did you mean 'SASRec'?)")


@pytest.mark.parametrize(("length", "refuses"), [(1, False), (2, True), (3, True), (4, False)])
def test_users_that_are_split_in_two_ways_are_named(toy, length, refuses):
    settings = _shared(toy())
    inter = Path(settings["data_path"]) / CHECKERBOARD / f"{CHECKERBOARD}.inter"
    inter.write_text(inter.read_text() + "".join(f"new\ti{step}\t{step}\n" for step in range(length)))
    mixed = plan(settings=settings, entries=(Entry("SASRec"), Entry("LightGCN")))
    if refuses:
        refused(lambda: check_plan(mixed), "1 users with 2 or 3 interactions (such as 'new')", "[4,inf)")
    else:
        check_plan(mixed)
    check_plan(plan(settings=settings))  # all sequential: split alike
    check_plan(replace(mixed, settings={**settings, "user_inter_num_interval": "[4,inf)"}))
    if refuses:
        refused(lambda: check_plan(replace(mixed, settings={**settings, "user_inter_num_interval": "[2,inf)"})), "inf")


def test_a_near_data_set_of_the_folder_is_named(toy):
    made = plan(datasets=("checkerbord",), settings=_shared(toy()))
    with pytest.raises(DataError, match=r"in .*data: checkerboard \(did you mean 'checkerboard'\?\)"):
        check_plan(made)


def test_what_a_cell_reads_is_told_by_files_and_yamls(toy):
    settings = _shared(toy())
    made, folder = plan(settings=settings), Path(settings["data_path"]) / CHECKERBOARD
    first = check_plan(made)
    place = ("SASRec", CHECKERBOARD)
    assert set(first) == {place, ("TransitionCounts", CHECKERBOARD)}
    elsewhere = {**settings, "checkpoint_dir": "elsewhere", "state": "INFO"}
    assert check_plan(replace(made, seeds=(7,), settings=elsewhere)) == first
    (folder / f"{CHECKERBOARD}.yaml").write_text("learning_rate: 0.5\n")
    second = check_plan(made)[place]
    assert second["settings_digest"] != first[place]["settings_digest"]
    assert second["files"] == first[place]["files"]
    with (folder / f"{CHECKERBOARD}.item").open("a") as file:
        file.write("new\tno title\n")
    third = check_plan(made)[place]
    differ = {name for name in third["files"] if third["files"][name] != first[place]["files"][name]}
    assert differ == {f"{CHECKERBOARD}.item"}


@pytest.mark.parametrize("name", ["Sasrek", "sasrec", "SASREK"])
def test_a_name_in_other_letters_is_near(toy, name):
    made = plan(entries=(Entry(name), Entry("GRU4Rec")), settings=_shared(toy()))
    refused(lambda: check_plan(made), "(did you mean 'SASRec'?)")


def _shared(settings):
    """The toy's settings that every model reads."""
    keys = ("data_path", "load_col", "topk", "valid_metric", "epochs", "train_batch_size", "checkpoint_dir")
    return {key: settings[key] for key in keys}
