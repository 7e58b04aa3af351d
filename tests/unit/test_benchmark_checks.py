import sys
from dataclasses import replace

import pytest

from recbole_hellm import registry
from recbole_hellm.benchmark.checks import check_plan, import_models
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


def _shared(settings):
    """The toy's settings that every model reads."""
    keys = ("data_path", "load_col", "topk", "valid_metric", "epochs", "train_batch_size", "checkpoint_dir")
    return {key: settings[key] for key in keys}
