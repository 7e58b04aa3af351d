import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_hellm.config.recbole_config import HellmConfig, parse_arguments, read_yaml
from recbole_hellm.errors import ConfigError


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[q_proj,v_proj]", ["q_proj", "v_proj"]),
        ("[5,10]", [5, 10]),
        ("[]", []),
        ("['a b',c]", ["a b", "c"]),
        ("{max_norm: 1.0}", {"max_norm": 1.0}),
        ("1e-3", 1e-3),
        ("1E-3", 1e-3),
        ("5.0e-6", 5e-6),
        ("-2", -2),
        ("0.5", 0.5),
        ("True", True),
        ("None", None),
        ("~", None),
        ("", ""),
        ("a=b", "a=b"),
        ("NDCG@10", "NDCG@10"),
        ("Recall,NDCG", "Recall,NDCG"),
        ("/data/1e3/x", "/data/1e3/x"),
        ("__import__('os').getcwd()", "__import__('os').getcwd()"),
        ("1+1", "1+1"),
    ],
)
def test_values_of_arguments(text, value):
    got = parse_arguments([f"--x={text}"])["x"]
    assert got == value
    assert type(got) is type(value)


EVIL = ["__import__('os').mkdir('gone')", "open('gone','w')", "!!python/object/apply:os.mkdir [gone]"]


@pytest.mark.parametrize("text", EVIL)
def test_no_argument_is_ever_executed(text, tmp_path):
    try:
        value = parse_arguments([f"--x={text}"])["x"]
    except ConfigError:
        value = text
    assert value == text
    assert list(tmp_path.iterdir()) == []


def test_no_value_in_code_or_file_is_executed_either(tmp_path):
    evil = "__import__('os').mkdir('gone')"
    (tmp_path / "x.yaml").write_text(f'text_encoder: "{evil}"\n')
    assert HellmConfig("HeLLM", "toy", config_file_list=["x.yaml"])["text_encoder"] == evil
    assert HellmConfig("HeLLM", "toy", config_dict={"text_encoder": evil})["text_encoder"] == evil
    (tmp_path / "y.yaml").write_text("text_encoder: !!python/object/apply:os.mkdir [gone]\n")
    with pytest.raises(ConfigError, match="y.yaml is no valid yaml"):
        HellmConfig("HeLLM", "toy", config_file_list=["y.yaml"])
    assert not (tmp_path / "gone").exists()


@pytest.mark.parametrize("argv", [["--epochs", "5"], ["--epochs"], ["epochs=5"], ["-e=5"], ["--=5"], ["5"]])
def test_an_argument_of_another_shape_is_refused(argv):
    with pytest.raises(ConfigError, match=f"argument '{argv[0]}' must have the form --key=value"):
        parse_arguments(argv)


def test_a_key_given_twice_with_two_values_is_refused():
    with pytest.raises(ConfigError, match="argument '--epochs' is given twice: 5 and 6"):
        parse_arguments(["--epochs=5", "--epochs=6"])
    assert parse_arguments(["--epochs=5", "--epochs=5"]) == {"epochs": 5}


def test_a_value_that_is_no_yaml_names_the_argument():
    with pytest.raises(ConfigError, match=r"argument '--topk=\[5' has a value that is no valid yaml"):
        parse_arguments(["--topk=[5"])


@given(st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.booleans())
def test_what_python_prints_is_read_back(value):
    assert parse_arguments([f"--x={value}"])["x"] == value


@pytest.mark.parametrize(("text", "message"), [("- a\n- b\n", "must hold 'key: value' lines, got a list"),
                                               ("a: [1\n", "is no valid yaml"), (None, "does not exist"),
                                               ("epochs: 1  # \xe9\n", "is no valid yaml")])  # fmt: skip
def test_a_broken_settings_file_is_named(tmp_path, text, message):
    if text is not None:
        (tmp_path / "x.yaml").write_text(text, encoding="latin-1")
    with pytest.raises(ConfigError, match=f"settings file .*x.yaml {message}") as error:
        read_yaml(tmp_path / "x.yaml")
    assert "\n" not in str(error.value)


def test_an_empty_settings_file_changes_nothing(tmp_path):
    (tmp_path / "x.yaml").write_text("# nothing\n")
    assert read_yaml(tmp_path / "x.yaml") == {}


def test_resume_may_stand_without_a_value():
    assert parse_arguments(["--resume"]) == parse_arguments(["--resume=yes"])
    with pytest.raises(ConfigError, match="'--resum' must have the form --key=value"):
        parse_arguments(["--resum"])
