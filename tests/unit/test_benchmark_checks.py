import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

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
    state = Path(f"/proc/{parent.stdout.readline().strip()}/stat")
    assert state.exists()
    parent.kill()
    parent.communicate()
    end = time.monotonic() + 30
    while state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z":
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


def _shared(settings):
    """The toy's settings that every model reads."""
    keys = ("data_path", "load_col", "topk", "valid_metric", "epochs", "train_batch_size", "checkpoint_dir")
    return {key: settings[key] for key in keys}
