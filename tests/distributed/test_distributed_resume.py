"""An interrupted run goes on with another number of processes."""

import json
import os
import signal

import pytest
import torch
from processes import finish, start, together

from recbole_hellm import signals
from recbole_hellm.checkpoints import steps
from recbole_hellm.quick_start import run_recbole_hellm
from recbole_hellm.testing import CHECKERBOARD

CLOSE = 1e-5
THREE_EPOCHS = {"epochs": 3, "save_every": "never", "metrics": ["Recall", "NDCG", "MRR"]}


def stopped_after(settings, step, rank=None):
    """Run until so many steps are done, then send this process SIGTERM; on one process alone if ``rank`` is given."""
    note, done = steps.StepLoop._did_step, []

    def did_step(loop, *args):
        note(loop, *args)
        done.append(1)
        if len(done) == step and (rank is None or os.environ["RANK"] == str(rank)):
            os.kill(os.getpid(), signal.SIGTERM)

    steps.StepLoop._did_step = did_step
    run_recbole_hellm("HeLLM", CHECKERBOARD, config_dict=settings)


@pytest.fixture(scope="module")
def undisturbed(runs):
    runs.go(1, "undisturbed", **THREE_EPOCHS)
    return runs.state("undisturbed")


@pytest.mark.parametrize(("before", "after", "step"), [(2, 1, 4), (1, 2, 4), (2, 2, 3), (3, 2, 8)])
def test_goes_on_with_another_number_of_processes(runs, undisturbed, before, after, step):
    name = f"from-{before}-to-{after}"
    codes = finish(start(before, runs.root / "told" / name, stopped_after, runs.settings(name, **THREE_EPOCHS), step))
    assert codes == [signals.EXIT_CODE] * before
    assert not (runs.root / name / "result.json").exists()
    kept = json.loads(next((runs.root / name / "saved").glob("*/last/checkpoint.json")).read_text())
    assert kept["about"]["step"] == step
    runs.go(after, name, **THREE_EPOCHS, resume="yes")
    state = runs.state(name)
    assert state.keys() == undisturbed.keys()
    for key, tensor in undisturbed.items():
        if tensor.numel():
            assert float((state[key].float() - tensor.float()).abs().max()) < CLOSE, key


def test_a_signal_to_one_process_stops_all_at_the_same_step(runs):
    name = "one-hears"
    made = runs.settings(name, **THREE_EPOCHS)
    assert finish(start(2, runs.root / "told" / name, stopped_after, made, 5, 1)) == [signals.EXIT_CODE] * 2
    kept = json.loads(next((runs.root / name / "saved").glob("*/last/checkpoint.json")).read_text())
    assert kept["about"]["step"] == 5


def test_two_processes_go_on_to_the_bit_with_dropout(runs):
    """Dropout's draws follow from seed, place and process, so they come out the same."""
    changes = {**THREE_EPOCHS, "finetune_dropout": 0.4, "prefix_dropout": 0.3}
    runs.go(2, "whole", **changes)
    name = "broken"
    assert finish(start(2, runs.root / "told" / name, stopped_after, runs.settings(name, **changes), 4)) == [75, 75]
    together(2, runs.root / "told" / f"{name}-again", runs.outcome, name, {**changes, "resume": "yes"})
    whole, broken = runs.state("whole"), runs.state(name)
    assert all(torch.equal(whole[key], broken[key]) for key in whole)
