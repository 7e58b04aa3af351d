"""A state is of the data it was made with: events, the validation that chooses, item features."""

import os
import shutil
import signal

import pytest
from killing import differences

from recbole_hellm.errors import ArtifactError
from recbole_hellm.signals import Stopped
from recbole_hellm.testing import CHECKERBOARD

OTHER = "is of other training or validation events, or of other item features"


@pytest.fixture
def data(runs, tmp_path):
    """A copy of the data set that a test may change; other settings for ``runs``."""
    runs.settings("any")  # writes it
    shutil.copytree(runs.root / "data", tmp_path / "data")
    return tmp_path / "data"


def swap_last(data, first, second):
    """Give a user's events other times: ``first`` and ``second`` count from the end, 1 is the test event."""
    file = data / CHECKERBOARD / f"{CHECKERBOARD}.inter"
    lines = file.read_text().splitlines()
    of_user = [number for number, line in enumerate(lines) if line.startswith("u3\t")]
    one, two = of_user[-first], of_user[-second]
    (user, a, time_a), (_, b, time_b) = lines[one].split("\t"), lines[two].split("\t")
    lines[one], lines[two] = f"{user}\t{b}\t{time_a}", f"{user}\t{a}\t{time_b}"
    file.write_text("\n".join(lines) + "\n")


def retitle(data):
    file = data / CHECKERBOARD / f"{CHECKERBOARD}.item"
    file.write_text(file.read_text().replace("white square number 4", "a very different thing"))


CHANGES = {
    "validation": ("SASRec", lambda data: swap_last(data, 1, 2)),
    "training": ("SASRec", lambda data: swap_last(data, 3, 4)),
    "titles": ("HeLLM", retitle),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_state_of_other_data_is_refused_or_left_alone(runs, data, what):
    model, change = CHANGES[what]
    before = {"data_path": str(data), "epochs": 2}
    runs.kill(model, f"changed-{what}", 18, "SIGTERM", **before)  # HeLLM's stages take 14
    change(data)
    with pytest.raises(ArtifactError, match=OTHER) as error:
        runs.go(model, f"changed-{what}", **before, resume="yes")
    assert "\n" not in str(error.value)
    anew = runs.go(model, f"changed-{what}", **before, resume="auto")
    fresh = runs.go(model, f"changed-{what}-fresh", **before)
    assert (anew.metrics, anew.best, anew.curve) == (fresh.metrics, fresh.best, fresh.curve)


def test_a_finished_training_is_not_taken_for_one_with_another_validation(runs, data):
    given = {"data_path": str(data), "epochs": 1}
    first = runs.go("SASRec", "finished", **given)
    swap_last(data, 1, 2)
    again = runs.go("SASRec", "finished", **given, resume="auto")
    assert again.metrics[1] != first.metrics[1]
    assert again.metrics == runs.go("SASRec", "finished-fresh", **given).metrics


def test_a_test_event_decides_nothing_before_the_test(runs, data):
    given = {"data_path": str(data), "epochs": 2}
    runs.kill("SASRec", "test-event", 9, "SIGTERM", **given)
    file = data / CHECKERBOARD / f"{CHECKERBOARD}.inter"
    lines = file.read_text().splitlines()
    place = max(number for number, line in enumerate(lines) if line.startswith("u39\t"))  # no id begins there
    user, item, moment = lines[place].split("\t")
    assert item != "i2"
    lines[place] = f"{user}\ti2\t{moment}"
    file.write_text("\n".join(lines) + "\n")
    again = runs.go("SASRec", "test-event", **given, resume="yes")
    assert again.metrics == runs.go("SASRec", "test-event-fresh", **given).metrics


@pytest.mark.parametrize("call", [1, 2])
def test_killed_while_the_weights_of_the_fusion_are_chosen(runs, monkeypatch, call):
    """They are chosen between the last step of an epoch and its validation, and change the model."""
    from recbole_hellm.models import score_fusion

    given = {"fusion": "learned", "epochs": 2, "save_every": "never"}
    whole, choose, count = runs.go("HeLLM", "chosen", **given), score_fusion.choose_weights, []

    def killing(*args):
        count.append(1)
        if len(count) == call:
            os.kill(os.getpid(), signal.SIGTERM)
        return choose(*args)

    with monkeypatch.context() as patch:
        patch.setattr(score_fusion, "choose_weights", killing)
        with pytest.raises(Stopped) as stopped:
            runs.go("HeLLM", f"chosen-{call}", **given)
    assert "is kept in" in stopped.value.kept
    again = runs.go("HeLLM", f"chosen-{call}", **given, resume="yes")
    assert differences(again, whole) == []
