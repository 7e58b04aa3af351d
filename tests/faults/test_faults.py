"""What goes wrong around a run: it ends in one line or goes on, and leaves nothing that a later run believes."""

import json
import logging
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from killing import differences

from recbole_hellm import artifacts
from recbole_hellm.checkpoints import steps
from recbole_hellm.errors import ArtifactError, ConfigError, HellmError
from recbole_hellm.pipeline import graph
from recbole_hellm.quick_start import run_recbole_hellm
from recbole_hellm.testing import CHECKERBOARD


def at_step(patch, number, act):
    """Do something once, when so many steps are done."""
    note, count = steps.StepLoop._did_step, []

    def did_step(loop, *args):
        note(loop, *args)
        count.append(1)
        if len(count) == number:
            act()

    patch.setattr(steps.StepLoop, "_did_step", did_step)


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


def spoil(patch, model_class, number, value):
    """Make the loss of one batch NaN or infinite."""
    plain, count = model_class.calculate_loss, []

    def calculate_loss(self, rows):
        count.append(1)
        return plain(self, rows) * (value if len(count) == number else 1.0)

    patch.setattr(model_class, "calculate_loss", calculate_loss)


def class_of(name):
    from recbole_hellm.config.recbole_config import find_model

    return find_model(name)


@pytest.mark.parametrize(("model", "value"), [("SASRec", float("nan")), ("HeLLM", float("inf"))])
def test_a_bad_loss_stops_with_batch_step_and_last_good_state(runs, monkeypatch, model, value):
    name = f"bad-{model}"
    spoil(monkeypatch, class_of(model), 5, value)
    with pytest.raises(HellmError) as error:
        runs.go(model, name)
    message = one_line(error)
    per_epoch = {"SASRec": 13, "HeLLM": 3}[model]
    epoch, batch = divmod(4, per_epoch)
    assert f"training loss is {value} at batch {batch + 1} of epoch {epoch + 1} (step 5)" in message
    assert "the last good state is " in message
    assert "/last;" in message
    assert "skip_bad_batches=yes" in message
    assert not (runs.root / name / "result.json").exists()
    (folder,) = (runs.root / name / "checkpoint_dir").iterdir()
    assert not (folder / "done").exists()


@pytest.mark.parametrize("model", ["SASRec", "HeLLM"])
def test_a_bad_batch_is_left_out_when_asked(runs, monkeypatch, caplog, model):
    spoil(monkeypatch, class_of(model), 2, float("nan"))
    seen, note = [], steps.StepLoop._did_step

    def did_step(loop, *args):
        note(loop, *args)
        model_now = loop.parts().modules.get("model")  # stages train under other names
        if model_now is not None:
            seen.append({k: p.detach().clone() for k, p in model_now.named_parameters() if p.requires_grad})

    monkeypatch.setattr(steps.StepLoop, "_did_step", did_step)
    with caplog.at_level(logging.WARNING):
        outcome = runs.go(model, f"skip-{model}", skip_bad_batches=True, state="INFO", epochs=1)
    first, second, third = seen[:3]
    assert all(torch.equal(first[key], second[key]) for key in first), "the bad batch moved a weight"
    assert not all(torch.equal(second[key], third[key]) for key in first), "training did not go on"
    assert "the batch is left out (skip_bad_batches), the 1. so far" in caplog.text
    assert all(torch.isfinite(tensor.float()).all() for tensor in outcome.last.values())


def test_a_bad_gradient_is_left_out_when_asked(runs, monkeypatch, caplog):
    model = class_of("SASRec")
    init = model.__init__

    def spoiling(self, *args):
        init(self, *args)
        count = []
        self.item_embedding.weight.register_hook(lambda g: (count.append(1), g * float("inf"))[1]
                                                 if len(count) == 3 else (count.append(1), g)[1])  # fmt: skip

    monkeypatch.setattr(model, "__init__", spoiling)
    with caplog.at_level(logging.WARNING):
        outcome = runs.go("SASRec", "bad-gradient", skip_bad_batches=True, state="INFO", epochs=1)
    assert "a gradient is NaN or infinite" in caplog.text
    assert all(torch.isfinite(tensor.float()).all() for tensor in outcome.last.values())


def test_weights_that_became_nan_are_never_saved(runs, monkeypatch):
    def poison():
        for loop in loops:
            next(loop.parts().modules["model"].parameters()).data.fill_(float("nan"))

    loops, watch = [], steps.StepLoop.watch
    monkeypatch.setattr(
        steps.StepLoop, "watch", lambda loop, optimizer: (loops.append(loop), watch(loop, optimizer))[1]
    )
    at_step(monkeypatch, 4, poison)
    with pytest.raises(HellmError, match="became NaN or infinite at step 4; the last good state is .*/last") as error:
        runs.go("SASRec", "poisoned")
    one_line(error)
    (folder,) = (runs.root / "poisoned" / "checkpoint_dir").iterdir()
    from recbole_hellm.checkpoints.model_folder import read_model

    kept = read_model(folder / "last")
    assert kept.about["step"] == 2
    assert all(torch.isfinite(tensor.float()).all() for tensor in kept.state.values())


def test_a_bad_loss_of_a_stage_names_stage_batch_and_step(runs, monkeypatch):
    monkeypatch.setattr(graph, "MMHCLLoss", lambda spec: lambda out, *ids: out.user.sum() * float("nan"))
    with pytest.raises(HellmError, match=r"stage 'graph': loss is nan at batch 1 of epoch 1 \(step 1\)") as error:
        runs.go("HeLLM", "bad-stage")
    one_line(error)
    assert not list((runs.root / "bad-stage" / "stage_cache_dir").glob("graph-*"))


def in_child(act):
    """Run ``act`` in a forked child; returns its process id. The child leaves with 0 if ``act`` returned."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            act()
            code = 0
        finally:
            os._exit(code)
    return child


def test_two_equal_runs_at_once_both_finish_right(runs):
    """One stage cache and one folder of models for both."""
    alone = runs.go("HeLLM", "alone")

    def run(number):
        settings = {**runs.settings("shared"), "result_file": str(runs.root / f"shared-{number}.json")}
        run_recbole_hellm("HeLLM", CHECKERBOARD, config_dict=settings)

    children = [in_child(lambda number=number: run(number)) for number in (1, 2)]
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0]
    results = [json.loads((runs.root / f"shared-{number}.json").read_text()) for number in (1, 2)]
    assert results[0]["test_result"] == results[1]["test_result"] == dict(alone.metrics[2])
    ran = [
        stage["status"] for result in results for stage in result["stages"] if stage["name"] in ("graph", "sequence")
    ]
    assert sorted(ran) == ["ran", "ran", "reused", "reused"], "a stage was made twice"
    assert not (runs.root / "shared" / "stage_cache_dir" / "unfinished").exists() or not list(
        (runs.root / "shared" / "stage_cache_dir" / "unfinished").iterdir()
    )


def test_a_run_does_not_wait_for_one_that_was_killed(runs):
    runs.kill("HeLLM", "dead-holder", 3, "SIGKILL")
    started = time.monotonic()
    runs.go("HeLLM", "dead-holder")
    assert time.monotonic() - started < 250


class ReadOnly:
    """A lock in a folder that cannot be written to."""

    def __init__(self, path):
        self.path = path

    def acquire(self, **_):
        raise OSError(30, "Read-only file system", str(self.path))


def test_a_read_only_cache_serves_what_it_has_and_is_named_before_anything_is_computed(runs, monkeypatch):
    whole = runs.go("HeLLM", "read-only", epochs=1)
    shutil.rmtree(runs.root / "read-only" / "checkpoint_dir")
    monkeypatch.setattr(artifacts, "FileLock", ReadOnly)
    assert differences(runs.go("HeLLM", "read-only", epochs=1), whole) == []
    monkeypatch.setattr(graph.GraphStage, "run", lambda *_: pytest.fail("the stage ran"))
    with pytest.raises(ArtifactError, match=r"cannot be written to .*Read-only file system\); free space") as error:
        runs.go("HeLLM", "read-only", epochs=1, graph_temperature=0.2)
    one_line(error)


def test_a_cache_deleted_in_mid_run_is_made_again(runs, monkeypatch):
    whole = runs.go("HeLLM", "kept", epochs=1)
    cache = runs.root / "deleted" / "stage_cache_dir"
    at_step(monkeypatch, 3, lambda: shutil.rmtree(cache))
    assert differences(runs.go("HeLLM", "deleted", epochs=1), whole) == []
    assert sorted(path.name.partition("-")[0] for path in cache.iterdir() if path.name[0] not in ".ue") == [
        "graph", "sequence",
    ]  # fmt: skip


def test_models_deleted_in_mid_run_are_named(runs, monkeypatch):
    where = runs.root / "gone" / "checkpoint_dir"
    from recbole_hellm.fitting import Fit

    validate = Fit.validate
    monkeypatch.setattr(Fit, "validate", lambda fit: (shutil.rmtree(where), validate(fit))[1])
    with pytest.raises(ArtifactError, match="best is no checkpoint: it has no checkpoint.json") as error:
        runs.go("SASRec", "gone", epochs=1)
    one_line(error)
    assert not (runs.root / "gone" / "result.json").exists()


@pytest.mark.parametrize("jump", [-1e8, 1e8])
def test_a_clock_that_jumps_changes_nothing(runs, monkeypatch, jump):
    whole = runs.go("SASRec", "clock", epochs=2, train_minutes=30)
    now, calls = time.time, []
    monkeypatch.setattr(time, "time", lambda: (calls.append(1), now() + jump * (len(calls) % 2))[1])
    assert differences(runs.go("SASRec", f"clock{jump}", epochs=2, train_minutes=30), whole) == []
    assert calls


def test_a_worker_that_dies_ends_the_run_in_one_line(runs, monkeypatch):
    from recbole.data.dataloader import TrainDataLoader

    collate = TrainDataLoader.collate_fn

    def dying(self, index):
        if torch.utils.data.get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return collate(self, index)

    monkeypatch.setattr(TrainDataLoader, "collate_fn", dying)
    with pytest.raises(HellmError, match="a worker process of the data loader died.*set a smaller worker") as error:
        runs.go("SASRec", "worker", worker=1)
    one_line(error)


def test_resume_without_anything_to_go_on_from(runs):
    with pytest.raises(ArtifactError, match="has no state of an interrupted run of SASRec-checkerboard-2020") as error:
        runs.go("SASRec", "nothing", resume="yes")
    one_line(error)


def test_resume_with_other_settings_names_them(runs):
    runs.kill("SASRec", "other", 5, "SIGTERM")
    with pytest.raises(ArtifactError, match="is of other settings: 'learning_rate' was 0.01 and is 0.02") as error:
        runs.go("SASRec", "other", resume="yes", learning_rate=0.02)
    one_line(error)


def test_a_damaged_state_is_refused_and_auto_does_not_believe_it_either(runs):
    runs.kill("SASRec", "damaged", 5, "SIGTERM")
    (folder,) = (runs.root / "damaged" / "checkpoint_dir").iterdir()
    file = folder / "last" / "training.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    for resume in ("yes", "auto"):
        with pytest.raises(ArtifactError, match="training.safetensors differs from its digest") as error:
            runs.go("SASRec", "damaged", resume=resume)
        one_line(error)
    whole = runs.go("SASRec", "undamaged")
    assert differences(runs.go("SASRec", "damaged", resume="no"), whole) == []


def test_a_run_that_had_ended_is_only_tested_again(runs, monkeypatch):
    whole = runs.go("SASRec", "ended")
    at_step(monkeypatch, 1, lambda: pytest.fail("it trained again"))
    again = runs.go("SASRec", "ended", resume="yes")
    assert (again.metrics, again.best) == (whole.metrics, whole.best)
    assert differences(again, whole) in ([], ["last", "optimizer", "random"], ["last", "optimizer"])


@pytest.mark.parametrize(("setting", "value"), [("resume", "yes"), ("eval_every", "2 steps")])
def test_a_loop_of_its_own_is_refused_by_name(runs, setting, value):
    with pytest.raises(ConfigError, match=f"setting '{setting}' is not for model 'RecVAE'") as error:
        runs.go("RecVAE", f"own-{setting}", **{setting: value})
    one_line(error)


def test_validation_between_steps(runs):
    outcome = runs.go("SASRec", "by-step", epochs=2, eval_every="5 steps", save_every="never")
    records, by_step = outcome.curve[:2]
    assert [record["step"] for record in by_step] == [5, 10, 15, 20, 25, 26]
    assert [record[2] for record in records] == [None, None]
    best = max(by_step, key=lambda record: record["score"])
    assert outcome.metrics[0] == best["score"]
    assert outcome.metrics[3] == best["epoch"]
    runs.kill("SASRec", "by-step-killed", 17, "SIGTERM", epochs=2, eval_every="5 steps", save_every="never")
    again = runs.go("SASRec", "by-step-killed", epochs=2, eval_every="5 steps", save_every="never", resume="yes")
    assert differences(again, outcome) == []


@pytest.mark.parametrize("model", ["HeLLM", "SASRec"])
@pytest.mark.parametrize("batch", [2, 5, 8])
def test_stopped_in_a_validation(runs, monkeypatch, model, batch):
    """Three batches a validation: in the first, in the second, in the last epoch's."""
    whole = runs.go(model, f"valid-{model}", save_every="never")
    from recbole_hellm.signals import Stopped
    from recbole_hellm.trainer.evaluation import EvaluationMixin

    score, count = EvaluationMixin._full_sort_batch_eval, []

    def stopping(trainer, rows):
        count.append(1)
        if len(count) == batch:
            os.kill(os.getpid(), signal.SIGTERM)
        return score(trainer, rows)

    name = f"valid-{model}-{batch}"
    with monkeypatch.context() as patch:
        patch.setattr(EvaluationMixin, "_full_sort_batch_eval", stopping)
        with pytest.raises(Stopped) as stopped:
            runs.go(model, name, save_every="never")
    assert f"epoch {1 + (batch - 1) // 3}, step " in stopped.value.kept
    assert differences(runs.go(model, name, save_every="never", resume="yes"), whole) == []


def test_a_signal_after_the_last_step_is_not_lost(runs, monkeypatch):
    whole = runs.go("SASRec", "after-last")
    from recbole_hellm.signals import Stopped
    from recbole_hellm.trainer.epochs import EpochsMixin

    fit = EpochsMixin.fit

    def signalled(trainer, *args, **kwargs):
        result = fit(trainer, *args, **kwargs)
        os.kill(os.getpid(), signal.SIGTERM)
        return result

    with monkeypatch.context() as patch:
        patch.setattr(EpochsMixin, "fit", signalled)
        with pytest.raises(Stopped):
            runs.go("SASRec", "after-last-2")
    again = runs.go("SASRec", "after-last-2", resume="yes")
    assert (again.metrics, again.best, again.curve) == (whole.metrics, whole.best, whole.curve)


def test_a_long_step_is_broken_off_and_the_state_before_it_is_kept(runs, monkeypatch):
    """SIGTERM in a step that takes longer than the grace: saved within 10 s all the same."""
    from recbole_hellm import signals

    whole = runs.go("SASRec", "long-step")
    monkeypatch.setattr(signals, "GRACE_SECONDS", 0.5)
    model, count = class_of("SASRec"), []
    plain = model.calculate_loss

    def slow(self, rows):
        count.append(1)
        if len(count) == 8:
            os.kill(os.getpid(), signal.SIGTERM)
            for _ in range(600):
                time.sleep(0.1)
        return plain(self, rows)

    started = time.monotonic()
    with monkeypatch.context() as patch:
        patch.setattr(model, "calculate_loss", slow)
        with pytest.raises(signals.Stopped) as stopped:
            run_recbole_hellm("SASRec", CHECKERBOARD, config_dict=runs.settings("long-step-2"))
    assert "step 7 is kept in" in stopped.value.kept
    assert time.monotonic() - started < 60
    assert differences(runs.go("SASRec", "long-step-2", resume="yes"), whole) == []


def test_last_and_best_are_all_that_is_left(runs):
    runs.kill("SASRec", "tidy", 9, "SIGTERM")
    (folder,) = (runs.root / "tidy" / "checkpoint_dir").iterdir()
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "last"]
    runs.go("SASRec", "tidy", resume="yes")
    assert sorted(path.name for path in Path(folder).iterdir()) == [".lock", "best", "done"]
