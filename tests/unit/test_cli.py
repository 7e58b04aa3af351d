import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from recbole_hellm import assets, cli, errors, quick_start
from recbole_hellm.testing import checkerboard_settings

CHECKOUT = Path(__file__).resolve().parents[2]
COMMANDS = ("train", "prepare", "inspect", "models", "compare", "ablate", "report", "tune", "verify")


def shell(*command, cwd):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, *map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True, timeout=120
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory, llm):
    """One run of the script, as a user starts it."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "toy.yaml").write_text(yaml.safe_dump(checkerboard_settings(folder, llm, topk=[1, 5])))
    script = CHECKOUT / "run_recbole_hellm.py"
    done = shell(script, "--model=HeLLM", "--dataset=checkerboard", "--config_files=toy.yaml", "--seed=5", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, done


@pytest.fixture(scope="module")
def result(run):
    return json.loads((run[0] / "result.json").read_text())


@pytest.fixture(scope="module")
def ranks(run):
    with np.load(run[0] / "result.ranks.npz", allow_pickle=False) as file:
        return dict(file)


def test_a_run_prints_the_metrics_of_its_result_file(run, result):
    lines = run[1].stdout.splitlines()
    assert "HeLLM on checkerboard, seed 5" in lines
    metrics = {line.split()[0]: line.split()[1:] for line in lines if "@" in line and not line.startswith("chosen")}
    assert set(metrics) == {f"{name}@{k}" for name in ("recall", "ndcg", "mrr") for k in (1, 5)}
    for name, (valid, test) in metrics.items():
        assert valid == f"{result['best_valid_result'][name]:.4f}"
        assert test == f"{result['test_result'][name]:.4f}"


def test_a_run_writes_no_traceback(run):
    assert "Traceback" not in run[1].stderr
    assert "error" not in run[1].stderr.lower()


def test_a_result_says_what_was_run(result):
    assert (result["model"], result["dataset"], result["seed"]) == ("HeLLM", "checkerboard", 5)
    assert result["protocol"]["split"]["split"] == {"LS": "valid_and_test"}
    assert (result["protocol"]["fitted_on"], result["protocol"]["selected_on"]) == ("train", "valid")
    assert result["protocol"]["history_masked"] is False
    assert result["settings"]["lora_r"] == 2
    assert result["settings"]["finetune_targets"] == "all"
    assert (result["data"]["n_users"], result["data"]["n_items"]) == (40, 20)
    assert len(result["data"]["fingerprint"]) == 64
    assert 0 < result["parameters"]["trained"] < result["parameters"]["total"]
    assert {"python", "torch", "recbole", "transformers"} <= set(result["versions"])
    assert result["evaluation_users_per_second"] > 0
    assert len(result["training_loss"]) == 2


def test_a_result_says_what_every_part_took(result):
    parts = ["data and model", "features", "graph", "sequence", "training", "evaluation"]
    assert [stage["name"] for stage in result["stages"]] == parts
    for stage in result["stages"]:
        assert stage["status"] == "ran"
        assert 0 <= stage["seconds"] < 60
        assert 50 < stage["peak_memory_mb"] < 20_000


@pytest.mark.parametrize("phase", ["valid", "test"])
def test_ranks_reproduce_the_metrics(result, ranks, phase):
    rank = ranks[f"{phase}_rank"]
    metrics = result["test_result" if phase == "test" else "best_valid_result"]
    assert len(rank) == 40
    assert set(ranks[f"{phase}_user"]) == {f"u{user}" for user in range(40)}
    for k in (1, 5):
        hit = rank <= k
        assert metrics[f"recall@{k}"] == pytest.approx(hit.mean(), abs=1e-6)
        assert metrics[f"mrr@{k}"] == pytest.approx((hit / rank).mean(), abs=1e-6)
        assert metrics[f"ndcg@{k}"] == pytest.approx((hit / np.log2(rank + 1)).mean(), abs=1e-6)


def test_ranked_items_are_the_last_of_each_user(ranks):
    for phase, step in (("valid", 6), ("test", 7)):
        for token, item in zip(ranks[f"{phase}_user"], ranks[f"{phase}_item"], strict=True):
            user = int(token[1:])
            assert item == f"i{2 * ((user // 2 + step) % 10) + user % 2}"


def fails(capsys, *argv):
    """Run the command, and return the one line it prints on standard error."""
    try:
        code = cli.main([str(argument) for argument in argv])
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err.removeprefix("error: ").rstrip("\n")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert all(f"\n    {command} " in out for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(capsys, command):
    with pytest.raises(SystemExit) as stop:
        cli.main([command, "--help"])
    assert stop.value.code == 0
    assert f"usage: recbole-hellm {command}" in capsys.readouterr().out


def test_the_installed_command_is_this_one():
    from importlib.metadata import entry_points

    (script,) = entry_points(group="console_scripts", name="recbole-hellm")
    assert script.load() is cli.main
    assert Path(sys.executable).with_name("recbole-hellm").is_file()


def test_an_unknown_command_names_the_known_ones(capsys):
    message = fails(capsys, "trian")
    assert all(command in message for command in ("'trian'", *COMMANDS, "--help"))


@pytest.mark.parametrize("argv", [[], ["verify"], ["prepare"], ["prepare", "ml-100k", "--frce"], ["models", "--x=1"]])
def test_wrong_arguments_are_one_line(capsys, argv):
    assert "--help" in fails(capsys, *argv)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--dataset=x"], "setting 'model' is required: give --model=NAME"),
        (["--model=HeLLM"], "setting 'dataset' is required: give --dataset=NAME"),
        (["--model=HelLM", "--dataset=x"], "unknown model 'HelLM' (did you mean 'HeLLM'?)"),
        (["--model=SASRek", "--dataset=x"], "unknown model 'SASRek' (did you mean 'SASRec'?)"),
        (["--model=HeLLM", "--dataset=x", "--lora_rr=1"], "unknown setting 'lora_rr' (did you mean 'lora_r'?)"),
        (["--model=HeLLM", "--dataset=x", "--epochs", "5"], "argument '--epochs' must have the form --key=value"),
        (["--model=HeLLM", "--dataset=x", "--config_files=gone.yaml"], "settings file gone.yaml does not exist"),
        (["--model=HeLLM", "--dataset=ml-100"], "(did you mean 'ml-100k'?)"),
        (["--model=HeLLM", "--dataset=amazon-sports", "--data_path=d"],
         "run: recbole-hellm prepare amazon-sports --output d (downloads the public originals; with files at"),
        (["--model=HeLLM", "--dataset=amazon-toys", "--source=gone"], "gone"),
    ],
)  # fmt: skip
def test_train_names_the_mistake_and_leaves_nothing(capsys, here, argv, message):
    assert message in fails(capsys, "train", *argv)
    assert list(here.rglob("*.*")) == []


@pytest.mark.parametrize("command", ["train", "estimate", "signal"])
@pytest.mark.parametrize("key", ["config", "config_file"])
def test_another_name_for_settings_files_is_refused_with_the_right_one(capsys, here, command, key):
    given = [] if command == "signal" else ["--model=HeLLM"]
    message = fails(capsys, command, *given, "--dataset=x", f"--{key}=gone.yaml")
    assert message.startswith(f"setting '{key}' = 'gone.yaml' ")
    assert "on the command line, --config_files=a.yaml,b.yaml," in message


def test_an_unknown_builtin_model_gives_the_nearest(capsys):
    assert "did you mean 'smollm2-135m'" in fails(capsys, "models", "smollm2-135")


def test_models_prints_where_each_one_lies(capsys, monkeypatch):
    monkeypatch.setattr(assets, "fetch", lambda name: Path("/models") / name)
    assert cli.main(["models"]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{name}: /models/{name}" for name in assets.ASSETS]
    assert cli.main(["models", "smollm2-135m"]) == 0
    assert capsys.readouterr().out == "smollm2-135m: /models/smollm2-135m\n"


def stopping(error):
    def run(*args, **kwargs):
        raise error

    return run


def test_an_interrupt_ends_with_130_and_one_line(capsys, monkeypatch):
    monkeypatch.setattr(quick_start, "run_recbole_hellm", stopping(KeyboardInterrupt()))
    assert cli.train_main(["--model=HeLLM", "--dataset=x"]) == 130
    assert capsys.readouterr().err == "interrupted: finished stages and saved models are kept\n"


def test_an_error_of_the_system_is_one_line(capsys, monkeypatch):
    monkeypatch.setattr(quick_start, "run_recbole_hellm", stopping(OSError(28, "No space left on device", "x.pth")))
    message = fails(capsys, "train", "--model=HeLLM", "--dataset=x")
    assert message == "[Errno 28] No space left on device: 'x.pth'; check the path, its rights and the free space"


def test_another_process_says_a_wrong_setting_only_if_the_first_has_not(capsys, monkeypatch):
    """The first is slower here: a second that ended at once would have it ended without a word."""
    for name, value in {"LOCAL_RANK": "1", "RANK": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    waited = []
    monkeypatch.setattr(cli.time, "sleep", lambda seconds: waited.append((seconds, capsys.readouterr().err)))
    monkeypatch.setattr(quick_start, "run_recbole_hellm", stopping(errors.ConfigError("setting 'x' is wrong")))
    assert cli.train_main(["--model=HeLLM", "--dataset=x"]) == 2
    assert waited == [(cli.FIRST_SPEAKS_SECONDS, "")]
    assert capsys.readouterr().err == "process 1: error: setting 'x' is wrong\n"


def test_a_mistake_of_ours_is_not_hidden(monkeypatch):
    monkeypatch.setattr(quick_start, "run_recbole_hellm", stopping(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        cli.main(["train"])


def test_settings_files_may_be_listed_with_commas_or_given_twice(monkeypatch):
    seen = {}
    monkeypatch.setattr(quick_start, "run_recbole_hellm", lambda **given: seen.update(given) or {"test_result": None})
    assert cli.main(["train", "--config_files=a.yaml,b.yaml", "--epochs=1", "--config_files=c.yaml"]) == 0
    assert seen == {"config_file_list": ["a.yaml", "b.yaml", "c.yaml"], "argv": ["--epochs=1"]}


def test_arguments_come_from_sys_argv_when_none_are_given(monkeypatch):
    seen = {}
    monkeypatch.setattr(quick_start, "run_recbole_hellm", lambda **given: seen.update(given) or {"test_result": None})
    monkeypatch.setattr(sys, "argv", ["x", "--model=A"])
    assert cli.train_main() == 0
    assert seen["argv"] == ["--model=A"]
