from dataclasses import FrozenInstanceError, dataclass, fields
from typing import ClassVar, Literal, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_hellm.config.schema import Spec, convert
from recbole_hellm.config.specs import (
    SPECS,
    FinetuneSpec,
    LoraSpec,
    PrefixSpec,
    PromptSpec,
    RunSpec,
    SequenceSpec,
    check_together,
)
from recbole_hellm.errors import ConfigError


@dataclass(frozen=True)
class Toy(Spec):
    prefix: ClassVar[str] = "toy_"
    size: int
    rate: float = 0.5
    kind: Literal["red", "blue"] = "red"
    names: tuple[str, ...] = ()
    limit: int | None = None
    flag: bool = False

    def __post_init__(self) -> None:
        self.require(self.size > 0, "size", "positive")


def read(**values):
    return Toy.from_config(
        {"toy_size": 1, **{f"toy_{key}": value for key, value in values.items()}, "other": "ignored"}
    )


def test_fields_come_from_prefixed_keys_and_defaults():
    assert read(rate=0.25) == Toy(size=1, rate=0.25)
    assert Toy.keys() == {"toy_size", "toy_rate", "toy_kind", "toy_names", "toy_limit", "toy_flag"}


def test_a_field_without_default_is_required():
    with pytest.raises(ConfigError, match="setting 'toy_size' is required"):
        Toy.from_config({})


def test_a_spec_cannot_be_changed_afterwards():
    with pytest.raises(FrozenInstanceError):
        read().size = 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"size": "1"}, "setting 'toy_size' must be of type int, got '1'"),
        ({"size": 1.0}, "setting 'toy_size' must be of type int, got 1.0"),
        ({"size": True}, "setting 'toy_size' must be of type int, got True"),
        ({"size": None}, "setting 'toy_size' must be of type int, got None"),
        ({"rate": "fast"}, "setting 'toy_rate' must be of type float, got 'fast'"),
        ({"flag": 1}, "setting 'toy_flag' must be of type bool, got 1"),
        ({"flag": "False"}, "setting 'toy_flag' must be of type bool, got 'False'"),
        ({"names": [1]}, "setting 'toy_names' must be of type str, got 1"),
        ({"limit": "many"}, "setting 'toy_limit' must be of type int, got 'many'"),
        ({"size": 0}, "setting 'toy_size' must be positive, got 0"),
    ],
)
def test_a_wrong_type_or_range_names_key_value_and_rule(given, message):
    with pytest.raises(ConfigError) as error:
        read(**given)
    assert str(error.value) == message


def test_a_misspelt_choice_gives_the_nearest():
    with pytest.raises(ConfigError) as error:
        read(kind="bleu")
    assert str(error.value) == "setting 'toy_kind' must be one of 'red', 'blue', got 'bleu' (did you mean 'blue'?)"


def test_true_is_no_one_and_one_is_no_true():
    for value, allowed in ((True, Literal[1, 2]), (1, Literal[True])):
        with pytest.raises(ConfigError, match="must be one of"):
            convert("x", value, allowed)
    assert convert("x", 1, Literal[1, 2]) == 1
    assert convert("x", True, Literal[True]) is True


@pytest.mark.parametrize(
    ("spec", "key", "read", "meant"),
    [
        (RunSpec, "mask_history", True, "yes"),
        (RunSpec, "mask_history", False, "no"),
        (PromptSpec, "prompt_template", None, "none"),
    ],
)
def test_a_choice_that_is_a_word_of_yaml_may_stand_unquoted(spec, key, read, meant):
    assert getattr(spec.from_config({key: read}), key.split("_", 1)[-1] if spec.prefix else key) == meant


@pytest.mark.parametrize(
    ("value", "allowed"), [(True, Literal["auto"]), (None, Literal["yes"]), ("True", Literal["yes"])]
)
def test_a_word_of_yaml_that_is_no_choice_is_refused(value, allowed):
    with pytest.raises(ConfigError):
        convert("x", value, allowed)


def test_the_few_conversions_there_are():
    assert type(read(rate=1).rate) is float
    assert read(names="one").names == ("one",)
    assert read(names=["one", "two"]).names == ("one", "two")
    assert read(names=None).names == ()
    assert read(limit=None).limit is None
    assert read(limit=3).limit == 3


@given(st.one_of(st.integers(), st.floats(), st.text(), st.booleans(), st.none(), st.lists(st.integers())))
def test_a_value_passes_as_it_is_or_is_refused(value):
    try:
        assert convert("x", value, int) is value
        assert type(value) is int
    except ConfigError:
        assert type(value) is not int


def test_no_two_specs_read_the_same_key():
    keys = [key for spec in SPECS for key in sorted(spec.keys())]
    assert len(SPECS) == 12
    assert len(keys) == len(set(keys)) >= 60


def test_every_field_of_every_spec_is_documented():
    import inspect

    n_fields = 0
    for spec in SPECS:
        lines = [line.strip() for line in inspect.getsource(spec).splitlines()]
        for field in fields(spec):
            n_fields += 1
            start = next(i for i, line in enumerate(lines) if line.startswith(f"{field.name}:"))
            assert lines[start + 1].startswith('"""'), f"{spec.__name__}.{field.name}"
    assert n_fields >= 60


def test_every_spec_builds_from_nothing_but_defaults():
    for spec in SPECS:
        built = spec.from_config({})
        hints = get_type_hints(spec)
        for field in fields(spec):
            assert convert(field.name, getattr(built, field.name), hints[field.name]) == getattr(built, field.name)


@pytest.mark.parametrize(
    ("spec", "key", "bad"),
    [
        (LoraSpec, "lora_r", -1),
        (LoraSpec, "lora_targets", []),
        (LoraSpec, "lora_dropout", 1.0),
        (PrefixSpec, "prefix_len", -1),
        (PrefixSpec, "prefix_rank", -1),
        (PrefixSpec, "prefix_dropout", -0.1),
        (SequenceSpec, "sequence_n_heads", 3),
        (SequenceSpec, "sequence_epochs", 0),
        (FinetuneSpec, "finetune_accumulation_steps", 0),
        (FinetuneSpec, "finetune_label_smoothing", 1.0),
        (FinetuneSpec, "finetune_warmup_epochs", -1),
    ],
)
def test_out_of_range_is_refused(spec, key, bad):
    with pytest.raises(ConfigError, match=r"setting '\w+' must be .+, got "):
        spec.from_config({key: bad})


def test_lora_targets_may_be_empty_without_lora():
    assert LoraSpec.from_config({"lora_r": 0, "lora_targets": []}).targets == ()


EXCLUSIVE = [
    ({"llm_gradient_checkpointing": True, "prefix_len": 1}, {"prefix_len": 0}, "prefix_len"),
    ({"prompt_template": "alpaca"}, {"finetune_targets": "last"}, "finetune_targets=last or prompt_template=none"),
    ({"loss_type": "BPR"}, {"finetune_targets": "last"}, "finetune_targets=last or loss_type=CE"),
    ({"finetune_graph_vectors": False, "sequence_vectors": False}, {"sequence_vectors": True}, "set one of them on"),
]


@pytest.mark.parametrize(("settings", "way_out", "message"), EXCLUSIVE)
def test_settings_that_exclude_each_other_name_the_way_out(settings, way_out, message):
    with pytest.raises(ConfigError, match=message):
        check_together(settings)
    check_together({**settings, **way_out})
