"""A run that was killed at some step and continued ends like one that was not: equal to the bit."""

import random

import pytest
from killing import WAYS, differences

from recbole_hellm.checkpoints import steps

LAST = {"finetune_targets": "last", "train_batch_size": 40, "finetune_accumulation_steps": 2}
CASES = {
    "HeLLM": ("HeLLM", {"prefix_dropout": 0.3, "lora_dropout": 0.1}),
    "HeLLM last": ("HeLLM", {**LAST, "loss_type": "BPR", "epochs": 2}),
    "HeLLM fused": ("HeLLM", {"fusion": "learned", "epochs": 2}),
    "MMHCL": ("MMHCL", {"train_batch_size": 64}),
    "SASRec": ("SASRec", {"train_batch_size": 64}),
    "BPR": ("BPR", {"train_batch_size": 64}),
    "MultiVAE": ("MultiVAE", {"train_batch_size": 16}),
}
STEP = {"HeLLM": {"stage graph": 8, "stage sequence": 6, "model": 9}}


@pytest.fixture(scope="module")
def undisturbed(runs):
    """The outcome and the number of steps of each case, run once."""
    known = {}

    def outcome(case):
        if case not in known:
            model, changes = CASES[case]
            count, note = [], steps.StepLoop._did_step
            with runs.patch.context() as patch:
                patch.setattr(steps.StepLoop, "_did_step", lambda loop, *args: (count.append(1), note(loop, *args)))
                known[case] = runs.go(model, f"{case}-whole", **changes), len(count)
        return known[case]

    return outcome


def killed_and_continued(runs, undisturbed, case, way, places):
    """Kill at each of ``places`` (shares of the steps), continue to the end, and compare."""
    (whole, n_steps), (model, changes) = undisturbed(case), CASES[case]
    assert n_steps > 6
    name, done = f"{case}-{way}-{'-'.join(f'{p:.4f}' for p in places)}", 0
    for number, place in enumerate(places):
        step = max(1, round(place * n_steps))
        again = {"resume": "auto"} if number else {}
        runs.kill(model, name, step, way, **changes, **again)
        done += 1
    assert differences(runs.go(model, name, **changes, resume="auto"), whole) == []
    return done


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", CASES)
def test_killed_once(runs, undisturbed, case, way):
    place = random.Random(f"{case} {way}").uniform(0.1, 0.9)
    killed_and_continued(runs, undisturbed, case, way, [place])


def test_killed_in_each_stage_and_at_each_kind_of_place(runs, undisturbed):
    """Graph stage, sequence stage, first and last step of fine-tuning."""
    for step in (1, 9, 20, 23):
        killed_and_continued(runs, undisturbed, "HeLLM", "SIGTERM", [step / undisturbed("HeLLM")[1]])


def test_killed_again_and_again(runs, undisturbed):
    # Counted anew after each continuation, so that every kill lies further on.
    assert killed_and_continued(runs, undisturbed, "HeLLM", "SIGTERM", [0.3, 0.2, 0.2]) == 3


@pytest.mark.long
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", CASES)
def test_killed_at_many_random_steps(runs, undisturbed, case, way):
    source = random.Random(f"many {case} {way}")
    for _ in range(5):
        killed_and_continued(runs, undisturbed, case, way, [source.uniform(0.0, 0.95)])
