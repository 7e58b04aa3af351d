import json

import pytest

from recbole_hellm.benchmark import commands
from recbole_hellm.cli import main

TWO = ["compare", "--models", "SASRec,GRU4Rec", "--datasets", "toy"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["compare", "--model", "A", "--datasets", "x"], "unknown argument '--model' (did you mean '--models'?)"),
        (["compare", "--models", "A,B", "--dataset=x"], "unknown argument '--dataset' (did you mean '--datasets'?)"),
        ([*TWO, "--seed", "3"], "unknown argument '--seed' (did you mean '--seeds'?)"),
        ([*TWO, "--epochs", "3"], "write --epochs=3"),
        ([*TWO, "--history", "off"], "'history' must be one of 'kept', 'masked'"),
        ([*TWO, "--results", "file/x.jsonl"], "file is no folder that can be written"),
        ([*TWO, "--results", "x"], "must end in .jsonl"),
        ([*TWO, "--report", "file"], "report cannot be written to file (file is no folder that can be written)"),
        ([*TWO, "--report", "file/r"], "give another --report DIR"),
        (["report", "x.jsonl", "--output", "file"], "give another --output DIR"),
        ([*TWO, "--config_file=file"], "SASRec on toy: setting 'config_file' = 'file' is not read among settings"),
        (["ablate", "--dataset=toy", "--config_file=file"], "--config_files=a.yaml,b.yaml"),
        (["compare", "--models", "SASRec,GRU4Rec", "--datasets", "a/b"], "data set 'a/b' must be a name"),
    ],
)
def test_a_slip_on_the_command_line_is_named(tmp_path, monkeypatch, capsys, arguments, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x")
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert text in error
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    "files",
    [
        ["--config_files=a.yaml,b.yaml"],
        ["--config=a.yaml", "--config_files", "b.yaml"],
        ["--config=a.yaml", "--config", "b.yaml"],
    ],
)
@pytest.mark.parametrize("command", [TWO, ["ablate", "--dataset=toy"]], ids=["compare", "ablate"])
def test_settings_files_may_be_given_by_both_names(tmp_path, monkeypatch, command, files):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text("eval_batch_size: 3\nlearning_rate: 0.5\n")
    (tmp_path / "b.yaml").write_text("learning_rate: 0.25\n")
    plans = []
    monkeypatch.setattr(commands, "_run", lambda plan, options: plans.append(plan) or 0)
    assert main([*command, *files]) == 0
    cells = plans[0].cells()
    assert len(cells) >= 2
    assert {(cell.settings["eval_batch_size"], cell.settings["learning_rate"]) for cell in cells} == {(3, 0.25)}
    assert not any("config" in key for cell in cells for key in cell.settings)


def test_a_plan_names_no_settings_files(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.yaml").write_text(
        "models: [SASRec, GRU4Rec]\ndatasets: [toy]\nsettings: {config_files: gone.yaml}\n"
    )
    assert main(["compare", "--plan=p.yaml"]) == 2
    assert "SASRec on toy: setting 'config_files' = 'gone.yaml' is not read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("test", "valid_metric", "want"),
    [
        (["recall@5", "ndcg@5", "ndcg@10"], "NDCG@5", "ndcg@10"),
        (["recall@5", "ndcg@5", "recall@20", "ndcg@20"], "MRR@20", "ndcg@20"),
        (["recall@5", "mrr@5"], "MRR@5", "mrr@5"),
        (["itemcoverage@5", "recall@5"], "MRR@7", "recall@5"),
        (["itemcoverage@5"], "MRR@7", "ndcg@10"),
    ],
)
def test_a_report_is_about_what_is_measured(test, valid_metric, want):
    line = {"status": "ok", "test": dict.fromkeys(test, 0.1), "settings": {"valid_metric": valid_metric}}
    assert commands._default_metric([line, {"status": "failed"}]) == want


def test_a_comparison_of_failures_ends_in_one_line(toy, tmp_path, capsys):
    settings = toy()
    keys = ("data_path", "load_col", "topk", "valid_metric", "state")
    given = [f"--{key}={json.dumps(settings[key])}" for key in keys]
    command = ["compare", "--models", "SASRec,BERT4Rec", "--datasets", "checkerboard", *given, "--n_heads=3"]
    assert main([*command, "--results", "x.jsonl"]) == 1
    out, err = capsys.readouterr()
    assert "0 ran, 2 failed, 0 were there already: x.jsonl" in out
    line = err.splitlines()[-1]
    assert line.startswith("error: all 2 cells failed: ")
    assert "attention heads" in line
    assert not (tmp_path / "x-report").exists()
