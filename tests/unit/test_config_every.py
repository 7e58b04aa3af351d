"""How often something is done."""

import pytest

from recbole_hellm.config.every import SECONDS, Every
from recbole_hellm.config.specs import RunSpec
from recbole_hellm.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "count", "unit"),
    [("200 steps", 200, "step"), ("1 step", 1, "step"), ("3epochs", 3, "epoch"), ("auto", 0, "auto"),
     ("never", 0, "never")],
)  # fmt: skip
def test_words(text, count, unit):
    assert Every.parse("save_every", text) == Every(count, unit)


@pytest.mark.parametrize("text", ["", "0 steps", "5", "1.5 epochs", "-1 steps", "every step", "2 minutes", "1 epoch "])
def test_other_words_are_refused_with_an_example(text):
    with pytest.raises(ConfigError, match=r"setting 'save_every' must be .*'200 steps' or '1 epoch', got ") as error:
        Every.parse("save_every", text)
    assert repr(text) in str(error.value)


def test_when_it_is_due():
    steps, epochs, auto, never = (Every.parse("x", text) for text in ("3 steps", "2 epochs", "auto", "never"))
    assert [step for step in range(10) if steps.due(step, None, 0.0)] == [3, 6, 9]
    assert [epoch for epoch in range(6) if epochs.due(9, epoch, 1e9)] == [2, 4]
    assert not epochs.due(4, None, 1e9), "within an epoch"
    assert (auto.due(1, None, SECONDS - 1), auto.due(1, None, SECONDS)) == (False, True)
    assert not never.due(100, 100, 1e9)


def test_validation_needs_a_number():
    for text in ("auto", "never"):
        with pytest.raises(ConfigError, match="setting 'eval_every' must be a number of steps or epochs"):
            RunSpec(eval_every=text)
    with pytest.raises(ConfigError, match="'eval_every' = '5 steps' excludes 'fit_on' = 'train.valid'"):
        RunSpec(eval_every="5 steps", fit_on="train+valid")
    assert RunSpec(eval_every="2 epochs", fit_on="train+valid").eval_every == "2 epochs"
