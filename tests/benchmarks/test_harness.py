"""Pairs, children, result file and table of the measurements."""

import json

import numpy as np
import pytest
import torch

import benchmarks.__main__ as command
from benchmarks.child import in_child, measured
from benchmarks.data import QUICK, Data, Skipped, fewer_users, find_data, write_quick
from benchmarks.fragment import Fragment, as_document, run_alone
from benchmarks.inputs import Stage1Inputs
from benchmarks.options import Options
from benchmarks.pairs import Paired, alternate
from benchmarks.stage1_steps import Steps, record_steps, stage1
from benchmarks.synthetic import interactions, synthetic_inputs
from benchmarks.table import markers, replace_between, targets_table
from benchmarks.targets import TARGETS, keys_of
from recbole_hellm.config.specs import GraphSpec, PretrainSpec
from recbole_hellm.models.mmhcl_core import MMHCLLoss

FLAT_KEYS = (
    *("graph_time_ratio", "graph_memory_ratio", "graph_seconds", "stage1_epoch_seconds", "stage1_epoch_ratio"),
    *("stage1_minutes_to_reference_toys", "stage2_samples_ratio", "ranking_users_ratio", "stage2_peak_share"),
    *("toys_total_minutes", "startup_seconds", "scale_graph_minutes", "scale_graph_gb", "scale_stage1_cost_ratio"),
)


@pytest.fixture
def options(tmp_path):
    return Options(tmp_path / "dataset", tmp_path / "scratch")


def test_the_ratio_is_the_median_of_the_turns():
    turns = iter([1.0, 10.0, 2.0, 50.0, 4.0, 8.0])
    paired = alternate(lambda: next(turns), lambda: next(turns), 3)
    assert paired == Paired(naive=(10.0, 50.0, 8.0), fast=(1.0, 2.0, 4.0))
    assert paired.ratio == 10.0  # of 10, 25, 2; the ratio of the medians would be 5


def test_memory_is_that_of_the_call():
    found = measured(lambda: int(np.ones((64, 2**17)).sum()))  # 64 MB of float64
    assert found["result"] == 64 * 2**17
    assert 60 <= found["peak_mb"] < 100


def test_a_child_answers_and_its_error_is_told():
    assert in_child("benchmarks.targets:keys_of", measurement="ranking").keys() == {"ranking_users_ratio"}
    with pytest.raises(RuntimeError, match="no_such_measure"):
        in_child("benchmarks.targets:no_such_measure")


def test_all_flat_keys_are_there_and_nothing_is_invented(options):
    fragment = Fragment({"ranking_users_ratio": 31.5}, {"users": 3})
    document = command.with_fragment({}, "ranking", as_document(fragment, options, 1.0), options)
    assert set(FLAT_KEYS) <= set(document)
    assert document["ranking_users_ratio"] == 31.5
    assert all(document[key] is None for key in FLAT_KEYS if key != "ranking_users_ratio")
    assert document["measurements"]["ranking"]["details"] == {"users": 3}
    assert {"date", "commit", "hardware", "threads", "versions", "seed"} <= set(document["about"])


def test_another_measurement_keeps_the_first(options):
    first = command.with_fragment(
        {}, "ranking", as_document(Fragment({"ranking_users_ratio": 2.0}), options, 1), options
    )
    second = Fragment()
    for key in keys_of("graphs"):
        second.missing(key, "no data")
    both = command.with_fragment(first, "graphs", as_document(second, options, 1), options)
    assert both["ranking_users_ratio"] == 2.0
    assert both["graph_seconds"] is None
    assert both["reasons"]["graph_seconds"] == "no data"


def test_absent_data_are_skipped_with_the_command_that_makes_them(options, monkeypatch, tmp_path):
    monkeypatch.setenv("RECBOLE_HELLM_SHARED", str(tmp_path / "nowhere"))
    with pytest.raises(Skipped, match="recbole-hellm prepare amazon-toys"):
        find_data("amazon-toys", options)


def test_a_skipped_measurement_has_empty_keys(tmp_path, monkeypatch):
    def measure(options):
        raise Skipped("no data here")

    output = tmp_path / "out.json"
    monkeypatch.setattr("sys.argv", ["x", "--scratch", str(tmp_path), "--output", str(output)])
    run_alone(measure, keys_of("scale"), "about")
    found = json.loads(output.read_text())
    assert found["keys"] == dict.fromkeys(keys_of("scale"))
    assert set(found["reasons"].values()) == {"no data here"}


def test_a_measurement_may_not_lose_a_key(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["x", "--scratch", str(tmp_path)])
    with pytest.raises(RuntimeError, match="announced"):
        run_alone(lambda options: Fragment({"scale_graph_gb": 1.0}), keys_of("scale"), "about")


def test_a_failed_measurement_is_told_and_the_others_go_on(options, monkeypatch, tmp_path, capsys):
    def run(arguments, name):
        raise RuntimeError(f"{name} ended with code 1:\nValueError: broken")

    monkeypatch.setattr(command, "run", run)
    path = tmp_path / "latest.json"
    code = command.main(["--only", "ranking,scale", "--results", str(path), "--scratch", str(tmp_path)])
    found = json.loads(path.read_text())
    assert code == 1
    assert found["reasons"] == {
        key: "failed: ValueError: broken" for name in ("ranking", "scale") for key in keys_of(name)
    }
    assert "broken" in capsys.readouterr().err


def test_an_unknown_measurement_is_refused(capsys):
    with pytest.raises(SystemExit):
        command.main(["--only", "graph"])
    assert "graphs" in capsys.readouterr().err


def test_the_table_is_replaced_and_the_prose_kept():
    start, end = markers("table")
    once = replace_between("# Title\n\nBefore.\n", "table", "| a |")
    assert once == f"# Title\n\nBefore.\n\n{start}\n\n| a |\n\n{end}\n"
    again = replace_between(once + "\nAfter.\n", "table", "| b |")
    assert again == f"# Title\n\nBefore.\n\n{start}\n\n| b |\n\n{end}\n\nAfter.\n"
    with pytest.raises(ValueError, match="once each"):
        replace_between(once.replace(end, ""), "table", "| c |")


def test_the_table_says_what_is_met_and_why_something_is_missing():
    text = targets_table({"graph_time_ratio": 60.0, "graph_seconds": 12.0, "reasons": {"scale_graph_gb": "no room"}})
    rows = {row.split("|")[1].strip(): [cell.strip() for cell in row.split("|")[2:]] for row in text.splitlines()[2:17]}
    assert len(rows) == len(TARGETS) == 15
    assert rows["both hypergraphs of Sports: dense time over ours"][:3] == [">= 50 x", "60 x", "yes"]
    assert rows["both hypergraphs of Sports"][:3] == ["<= 10 s", "12 s", "no"]
    assert rows["the same, peak memory above the data"][1:3] == ["- (no room)", "-"]


def test_fewer_users_keep_their_rows(options, tmp_path):
    write_quick(tmp_path / "data")
    part = fewer_users(Data(QUICK, tmp_path / "data"), 40, options)
    lines = (part.path / part.name / f"{part.name}.inter").read_text().splitlines()
    whole = (tmp_path / "data" / QUICK / f"{QUICK}.inter").read_text().splitlines()
    users = {line.split("\t")[0] for line in lines[1:]}
    assert len(users) == 40
    assert lines == [whole[0], *(line for line in whole[1:] if line.split("\t")[0] in users)]
    items = {line.split("\t")[1] for line in lines[1:]}
    catalogue = (part.path / part.name / f"{part.name}.item").read_text().splitlines()
    assert {line.split("\t")[0] for line in catalogue[1:]} == items


def test_fewer_users_are_read_with_their_times(options, tmp_path):
    from recbole_hellm.config.recbole_config import HellmConfig

    write_quick(tmp_path / "whole")
    part = fewer_users(Data(QUICK, tmp_path / "whole"), 5, options)
    config = HellmConfig("MMHCL", part.name, config_dict={"data_path": str(part.path)})
    assert config["load_col"] == {"inter": ["user_id", "item_id", "timestamp"]}


def test_synthetic_interactions_have_the_sizes_asked_for():
    users, items = interactions(1000, 300, 8000, seed=0)
    assert 8000 <= len(users) < 8400  # the last round is not cut: it would favour small ids
    assert set(users) == set(range(1, 1001))
    assert set(items) == set(range(1, 301))
    assert len(np.unique(users * 1000 + items)) == len(users)
    counts = np.sort(np.bincount(items)[1:])[::-1]
    assert counts[:30].sum() > 0.2 * len(items), "popular items are popular"
    with pytest.raises(ValueError, match="do not fit"):
        interactions(10, 10, 90, seed=0)


def test_the_first_users_of_a_file_keep_their_items_features(tmp_path):
    arrays = {
        "users": np.array([1, 1, 2, 3]), "items": np.array([4, 2, 2, 1]), "sizes": np.array([4, 5]),
        "feature_0": np.arange(5.0)[:, None], "present_0": np.array([False, True, True, True, True]),
    }  # fmt: skip
    np.savez(tmp_path / "inputs.npz", **arrays)
    part = Stage1Inputs.load(tmp_path / "inputs.npz", n_users=3)
    assert (part.n_users, part.n_items) == (3, 3)
    assert part.users.tolist() == [1, 1, 2]
    assert part.features[0][0][part.items].flatten().tolist() == [4.0, 2.0, 2.0]


def test_an_epoch_of_stage1_is_found_from_outside():
    inputs = synthetic_inputs(60, 30, 300, width=4, seed=0)
    size = len(inputs.users)
    original = MMHCLLoss.forward
    train = stage1(inputs, GraphSpec(embedding_size=4, neighbours=3), PretrainSpec(epochs=3, batch_size=64), seed=0)
    steps = record_steps(train, lambda seen: seen.before()[-1] >= 2 * size)
    assert steps.before()[-1] == 2 * size
    assert steps.epoch_seconds(size) > 0
    assert MMHCLLoss.forward is original


def test_costs_leave_out_the_warm_up_and_the_unfinished_batch():
    steps = Steps(started=[0.0, 5.0, 6.0, 8.0], interactions=[10, 10, 20, 10])
    assert steps.seconds_per_interaction() == pytest.approx(3.0 / 30)
    assert steps.epoch_seconds(10) == 1.0
    with pytest.raises(RuntimeError, match="no epochs of 7"):
        steps.epoch_seconds(7)


def test_the_default_threads_are_noted(options):
    assert as_document(Fragment(), options, 0.0)["about"]["threads"] == torch.get_num_threads()
