import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_hellm.errors import ConfigError
from recbole_hellm.tune.space import RandomChoice, choose, grid, parse_space

SPACE = parse_space(
    {
        "learning_rate": {"log": [1e-4, 1e-2]},
        "llm_layers": [1, 2, 4],
        "dropout": {"uniform": [0.0, 0.5], "step": 0.1},
        "epochs": {"int": [2, 9], "step": 3},
        "width": {"int_log": [8, 64]},
        "lora_r": [0, 8, 16],
        "lora_alpha": {"int": [1, 4], "when": {"lora_r": [8, 16]}},
        "lora_targets": {"choice": [["up_proj"], ["up_proj", "gate_proj"]], "when": {"lora_r": 16}},
    }
)


@given(st.integers(0, 2**32))
def test_chosen_values_are_in_their_domains_and_conditions_hold(seed):
    chosen = choose(SPACE, RandomChoice(Random(seed)))
    assert 1e-4 <= chosen["learning_rate"] <= 1e-2
    assert chosen["llm_layers"] in (1, 2, 4)
    assert math.isclose(chosen["dropout"] * 10, round(chosen["dropout"] * 10), abs_tol=1e-9)
    assert chosen["epochs"] in (2, 5, 8)
    assert type(chosen["width"]) is int
    assert 8 <= chosen["width"] <= 64
    assert ("lora_alpha" in chosen) == (chosen["lora_r"] > 0)
    assert ("lora_targets" in chosen) == (chosen["lora_r"] == 16)
    assert chosen.get("lora_targets") in (None, ["up_proj"], ["up_proj", "gate_proj"])


def test_a_grid_has_every_combination_once_and_conditions_only_where_they_hold():
    space = parse_space(
        {
            "lora_r": [0, 8],
            "lora_alpha": {"int": [1, 3], "when": {"lora_r": 8}},
            "d": {"uniform": [0, 0.3], "step": 0.3},
        }
    )
    points = grid(space)
    assert len(points) == 2 * (1 + 3)
    assert {"lora_r": 0, "d": 0.3} in points
    assert {"lora_r": 8, "lora_alpha": 3, "d": 0.0} in points
    assert len({str(point) for point in points}) == len(points)


def test_true_is_no_one():
    (domain,) = parse_space({"flag": [True, False]})
    assert {choose([domain], RandomChoice(Random(seed)))["flag"] for seed in range(9)} == {True, False}
    with pytest.raises(ConfigError, match="none of its choices"):
        parse_space({"flag": [True, False], "x": {"int": [1, 2], "when": {"flag": 1}}})


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({}, "'space' must hold 'setting: values' lines"),
        ({"lr": {"lgo": [1, 2]}}, "space: lr: unknown key 'lgo' (did you mean 'log'?)"),
        ({"lr": {}}, "space: lr: needs one of choice, uniform, log, int, int_log, got none"),
        ({"lr": {"log": [1, 2], "int": [1, 2]}}, "got log, int"),
        ({"lr": 0.1}, "a setting with one value belongs into 'settings'"),
        ({"lr": [0.1]}, "needs at least 2 values to choose from, got [0.1]"),
        ({"lr": [1, 2, 1]}, "1 stands twice"),
        ({"lr": {"log": [0, 1]}}, "log needs ends above 0, got [0, 1]; take uniform"),
        ({"lr": {"uniform": [1, 0]}}, "a low and then a higher end"),
        ({"lr": {"uniform": [0, float("inf")]}}, "a low and then a higher end"),
        ({"lr": {"int": [0.5, 2]}}, "int needs two whole numbers"),
        ({"lr": {"uniform": ["1e-3", 2]}}, "uniform needs two numbers"),
        ({"lr": {"log": [1, 2], "step": 1}}, "'step' must be a number in (0, 1]"),
        ({"lr": {"int": [1, 4], "step": 0.5}}, "'step' must be a whole number in (0, 3]"),
        ({"a": [1, 2], "b": {"int": [1, 2], "when": {"aa": 1}}}, "'when' names 'aa' (did you mean 'a'?)"),
        ({"b": {"int": [1, 2], "when": {"a": 1}}, "a": [1, 2]}, "must stand above it"),
        ({"a": [1, 2], "b": {"int": [1, 2], "when": {"a": 3}}}, "3 is none of its choices"),
        ({"a": {"int": [1, 2]}, "b": {"int": [1, 2], "when": {"a": 1}}}, "a condition needs a choice"),
    ],
)
def test_a_wrong_space_is_named_in_one_line(raw, message):
    with pytest.raises(ConfigError) as caught:
        parse_space(raw)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_infinite_or_huge_grid_is_refused():
    with pytest.raises(ConfigError, match="add 'step:'"):
        grid(parse_space({"x": {"uniform": [0, 1]}}))
    with pytest.raises(ConfigError, match="more than 1000"):
        grid(parse_space({"x": {"int": [1, 100]}, "y": {"int": [1, 100]}}))
