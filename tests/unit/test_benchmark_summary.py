"""From lines to a comparison: what it says, and what it refuses to put in one table."""

import json

import numpy as np
import pytest
from benchmark_lines import METRICS, PARTS, make_results, read_results

from recbole_hellm.benchmark import stored
from recbole_hellm.benchmark.groups import groups
from recbole_hellm.benchmark.lines import load_lines
from recbole_hellm.benchmark.per_user import metric_vectors
from recbole_hellm.benchmark.significance import mean_interval
from recbole_hellm.benchmark.summary import Reported, compare
from recbole_hellm.errors import ArtifactError, ConfigError


@pytest.fixture
def compared(tmp_path):
    """Make a results file and compare its cells; keywords of :func:`compare` are told from those of the file."""

    def run(metric="ndcg@10", against=None, **changes):
        path = make_results(tmp_path / "results", **{"n_users": 300, **changes})
        header, lines = read_results(path)
        return compare(lines, header, path.parent, metric, against)

    return run


def refused(compared, message, **changes):
    with pytest.raises(ArtifactError, match=message) as caught:
        compared(**changes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def only(label, seed, change):
    """Return a change of one cell alone."""

    def apply(line, arrays):
        if (line["label"], line["seed"]) == (label, seed):
            change(line, arrays)

    return apply


def test_what_the_package_reads_is_compared(tmp_path):
    path = make_results(tmp_path, reported=True, failed=True, ablation=True)
    header, lines = load_lines(path)
    comparison = compare(lines, header, path.parent)
    assert comparison.name == "toys-small"
    assert [row.label for row in comparison.rows] == ["HeLLM", "SASRec", "TransitionCounts"]
    assert comparison.reported == (Reported(**header["reported"][0]),)
    assert [line["label"] for line in comparison.failed] == ["BERT4Rec"]
    assert comparison.metrics == tuple(f"{metric}@{k}" for metric in METRICS for k in (5, 10, 20))
    assert comparison.tested == ("ndcg@10", "recall@10", "mrr@10", "hit@10", "precision@10")


def test_cutoffs_stand_in_order_though_a_line_is_sorted_as_text(compared):
    def change(line, arrays):
        line["test"] = dict(sorted(line["test"].items()))

    metrics = compared(change=change).metrics
    assert list(metrics) == [f"{name}@{k}" for name in sorted(METRICS) for k in (5, 10, 20)]


def test_numbers_of_a_row_are_means_of_its_lines(tmp_path, compared):
    row = compared().rows[0]
    assert (row.seeds, row.group, row.n_users) == ((2020, 2021, 2022), "compare", 300)
    assert row.lines == tuple(line["cell"] for line in row.cells)
    for metric in ("ndcg@10", "recall@20", "mrr@5"):
        numbers = [line["test"][metric] for line in row.cells]
        assert row.mean[metric] == pytest.approx(np.mean(numbers))
        assert row.std[metric] == pytest.approx(np.std(numbers, ddof=1))
        assert row.valid_mean[metric] == pytest.approx(np.mean([line["valid"][metric] for line in row.cells]))
    arrays = [np.load(tmp_path / "results" / line["users_file"]) for line in row.cells]
    vectors = [metric_vectors(a["rank"], a["user"], METRICS, (10, 20)) for a in arrays]
    assert row.interval["ndcg@10"] == mean_interval(np.mean([v["ndcg@10"] for v in vectors], axis=0))
    assert row.interval["ndcg@10"][0] < row.mean["ndcg@10"] < row.interval["ndcg@10"][1]
    tied = arrays[0]["tied"] == 1
    assert row.tied_share == pytest.approx(tied.mean())
    assert row.untied["recall@20"] == pytest.approx(np.mean([v["recall@20"][~tied] for v in vectors]))


def test_cost_counts_a_reused_stage_as_if_it_had_run(compared):
    rows = compared().rows
    cost = rows[0].cost
    assert {stage["status"] for stage in rows[0].cells[1]["stages"]} == {"ran", "reused"}
    assert list(cost.seconds_by_stage) == ["data and model", "features", "graph", "sequence", "training", "evaluation"]
    line = rows[0].cells[0]
    assert cost.seconds == pytest.approx(sum(stage["computed_seconds"] for stage in line["stages"]))
    assert cost.parameters_total - cost.parameters_trained == 135_000_000
    counted = rows[2].cost
    assert counted.training_samples_per_second is None
    assert counted.evaluation_users_per_second > 0


def test_planted_model_is_found_and_tests_are_of_the_printed_numbers(compared):
    comparison = compared(models=("SASRec", "HeLLM", "GRU4Rec"), effect={"HeLLM": 0.6}, n_users=600)
    assert comparison.against == {"amazon-toys": "HeLLM"}
    assert comparison.against_reason["amazon-toys"] == "HeLLM is the model of this package"
    assert set(comparison.tests) == {("amazon-toys", metric) for metric in comparison.tested}
    means = {row.label: row.mean["ndcg@10"] for row in comparison.rows}
    results = comparison.tests["amazon-toys", "ndcg@10"]
    assert [result.other for result in results] == ["SASRec", "GRU4Rec"]
    for result in results:
        assert result.significant
        assert result.holm_seeds < 0.05
        assert result.difference == pytest.approx(means["HeLLM"] - means[result.other], abs=1e-6)
    assert comparison.notes == ()


def test_equal_model_is_not_found(compared):
    results = compared(effect=0.0).tests["amazon-toys", "ndcg@10"]
    assert len(results) == 2
    assert not any(result.significant for result in results)


def test_best_is_chosen_on_validation_not_on_test(compared):
    def change(line, arrays):
        line["valid"]["ndcg@10"] = {"A": 0.1, "B": 0.3, "C": 0.2}[line["label"]]

    comparison = compared(models=("A", "B", "C"), effect={"A": 0.8}, change=change)
    assert max(comparison.rows, key=lambda row: row.mean["ndcg@10"]).label == "A"
    assert comparison.against == {"amazon-toys": "B"}
    assert comparison.against_reason["amazon-toys"] == "B has the best ndcg@10 on validation"
    assert [result.other for result in comparison.tests["amazon-toys", "ndcg@10"]] == ["A", "C"]
    assert comparison.tests["amazon-toys", "ndcg@10"][0].p_wilcoxon > 0.99


def test_named_model_is_tested(compared):
    comparison = compared(against="SASRec")
    assert {result.label for result in comparison.tests["amazon-toys", "ndcg@10"]} == {"SASRec"}
    assert comparison.against_reason["amazon-toys"] == "SASRec was named"
    with pytest.raises(ConfigError, match=r"'SASrec' \(did you mean 'SASRec'\?\)"):
        compared(against="SASrec")


def test_nothing_is_tested_where_nothing_was_validated(compared):
    comparison = compared(models=("A", "B"), change=lambda line, arrays: line.update(valid={}))
    assert comparison.tests == comparison.against == {}
    assert comparison.against_reason["amazon-toys"] == "no model has ndcg@10 on validation, so nothing is tested"
    assert comparison.rows[0].valid_mean == {}


def test_two_data_sets_are_two_tables(compared):
    comparison = compared(datasets=("amazon-toys", "amazon-beauty"), seeds=(1,))
    assert [row.dataset for row in comparison.rows] == ["amazon-toys"] * 3 + ["amazon-beauty"] * 3
    assert {dataset for dataset, _ in comparison.tests} == {"amazon-toys", "amazon-beauty"}
    assert np.isnan(comparison.rows[0].std["ndcg@10"])
    assert len(comparison.notes) == 2
    assert (
        "takes at least 3 shared seeds; it is left out for 2 pairs of models, which share 1 each."
        in comparison.notes[0]
    )


def test_groups_are_the_same_users_for_every_row(compared):
    comparison = compared()
    parts = [part for part in comparison.groups if part.label == "HeLLM"]
    assert [part.name for part in parts] == ["5-9", "10-19", "20-49", "tail", "middle", "head"]
    for by in ("history", "popularity"):
        chosen = [part for part in parts if part.by == by]
        assert sum(part.n_users for part in chosen) == 300
        weighted = sum(part.n_users * part.mean for part in chosen) / 300
        assert weighted == pytest.approx(comparison.rows[0].mean["ndcg@10"], abs=1e-6)
        assert all(a.high < b.low for a, b in zip(chosen, chosen[1:], strict=False))
    for label in ("SASRec", "TransitionCounts"):
        others = [part for part in comparison.groups if part.label == label]
        assert [(p.name, p.n_users) for p in others] == [(p.name, p.n_users) for p in parts]
    assert all(part.interval[0] < part.mean < part.interval[1] for part in comparison.groups)


def test_groups_by_hand():
    import pandas as pd

    users = pd.DataFrame({"history": [4, 5, 9, 10, 50, 70], "popularity": [1, 1, 1, 2, 3, 9]})
    parts = list(groups("toys", "A", np.array([0.0, 1.0, 0.0, 1.0, 0.0, 1.0]), users))
    assert [(p.name, p.n_users, p.mean, p.low, p.high) for p in parts] == [
        ("0-4", 1, 0, 4, 4),
        ("5-9", 2, 0.5, 5, 9),
        ("10-19", 1, 1, 10, 10),
        ("50+", 2, 0.5, 50, 70),
        ("tail", 3, 1 / 3, 1, 1),
        ("middle", 1, 1, 2, 2),
        ("head", 2, 0.5, 3, 9),
    ]
    users["popularity"] = 7
    assert {p.by for p in groups("toys", "A", np.zeros(6), users)} == {"history"}


def test_unknown_ties_are_none_and_said(compared):
    comparison = compared(change=lambda line, arrays: arrays["tied"].fill(-1))
    assert {(row.untied, row.tied_share) for row in comparison.rows} == {(None, None)}
    assert comparison.notes == ("amazon-toys: it is not known which targets tie in time with the item before them.",)


def test_ablation_says_what_each_part_is_worth(compared):
    comparison = compared(ablation=True, n_users=400)
    assert [row.label for row in comparison.ablation_rows] == list(PARTS)
    assert all(row.group == "compare" for row in comparison.rows)
    results = {result.label: result for result in comparison.ablation["amazon-toys"]}
    assert list(results) == list(PARTS[1:])
    assert {result.other for result in results.values()} == {"full"}
    assert {result.alternative for result in results.values()} == {"two-sided"}
    assert results["no user hypergraph"].interval[1] < 0
    assert results["no user hypergraph"].significant
    assert not results["no LoRA"].significant
    assert len(comparison.curves) == 7


def test_ablation_alone_and_without_its_full_row(compared):
    def change(line, arrays):
        line["group"] = "ablation"

    comparison = compared(models=("full", "no LoRA"), change=change)
    assert comparison.rows == comparison.groups == ()
    assert len(comparison.ablation["amazon-toys"]) == 1
    comparison = compared(models=("no graph", "no LoRA"), change=change)
    assert comparison.ablation == {"amazon-toys": ()}
    assert "no row is labelled 'full'" in comparison.notes[-1]


def test_curves_are_the_first_seeds(compared):
    curve, other, _ = compared().curves
    assert (other.label, other.graph, other.sequence) == ("SASRec", (), ())
    assert (curve.label, curve.seed, curve.best_epoch) == ("HeLLM", 2020, 4)
    assert [point["epoch"] for point in curve.training] == [1, 2, 3, 4, 5, 6]
    assert (len(curve.graph), len(curve.sequence)) == (10, 8)


def test_labels_may_have_different_numbers_of_seeds(tmp_path):
    path = make_results(tmp_path)
    header, lines = read_results(path)
    lines = [line for line in lines if line["label"] != "TransitionCounts" or line["seed"] == 2020]
    comparison = compare(lines, header, tmp_path)
    results = {result.other: result for result in comparison.tests["amazon-toys", "ndcg@10"]}
    assert results["SASRec"].p_seeds is not None
    assert results["TransitionCounts"].p_seeds is None
    assert results["TransitionCounts"].p_wilcoxon < 0.05
    assert results["TransitionCounts"].seeds == (2020,)
    assert "(number of seeds: HeLLM 3, SASRec 3, TransitionCounts 1)" in comparison.notes[0]
    assert "left out for HeLLM and TransitionCounts 1" in comparison.notes[1]


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("history_masked", True, "history kept and history masked"),
        ("fitted_on", "train+valid", "fitted on train and fitted on train+valid"),
    ],
)
def test_models_under_other_protocols_are_shown_but_not_tested(compared, key, value, reason):
    def change(line, arrays):
        if line["label"] == "SASRec":
            line["protocol"][key] = value

    comparison = compared(change=change)
    assert comparison.rows[1].protocol[key] == value
    sasrec, counts = comparison.tests["amazon-toys", "ndcg@10"]
    assert sasrec.reason == reason
    assert np.isnan(sasrec.p_wilcoxon)
    assert not sasrec.significant
    assert counts.reason is None
    assert counts.holm_wilcoxon == counts.p_wilcoxon
    assert comparison.notes[0].startswith("amazon-toys: HeLLM against SASRec is not tested, as the protocols differ")


def test_other_loss_or_length_is_tested(compared):
    def change(line, arrays):
        if line["label"] == "SASRec":
            line["protocol"].update(loss="BPR", max_length=20)

    assert all(result.reason is None for result in compared(change=change).tests["amazon-toys", "ndcg@10"])


@pytest.mark.parametrize(("key", "word"), [("split", "different splits"), ("fingerprint", "different data")])
def test_other_data_is_refused_and_both_cells_named(compared, key, word):
    change = only("SASRec", 2021, lambda line, arrays: line["data"].update({key: "f" * 64}))
    message = refused(compared, word, change=change)
    assert "(HeLLM on amazon-toys, seed 2020)" in message
    assert "(SASRec on amazon-toys, seed 2021)" in message
    assert "ffffffffffff" in message


def test_test_selected_number_is_no_result(compared):
    change = only("SASRec", 2021, lambda line, arrays: line["protocol"].update(selected_on="test"))
    assert "(SASRec on amazon-toys, seed 2021)" in refused(compared, "selected on 'test'.*no result", change=change)


def test_one_label_under_two_protocols_is_refused(compared):
    change = only("SASRec", 2021, lambda line, arrays: line["protocol"].update(max_length=20, loss="BPR"))
    message = refused(compared, r"one label but different protocols \(loss, max_length\)", change=change)
    assert "SASRec on amazon-toys, seed 2020" in message
    assert "SASRec on amazon-toys, seed 2021" in message


def test_one_seed_twice_is_refused(compared):
    change = only("SASRec", 2021, lambda line, arrays: line.update(seed=2020))
    refused(compared, "one label and one seed", change=change)


def test_fewer_than_two_models_are_refused(compared, tmp_path):
    refused(compared, "at least 2 models with results on one data set, got HeLLM", models=("HeLLM",))
    header, _ = read_results(tmp_path / "results" / "toys-small.jsonl")
    with pytest.raises(ArtifactError, match="got none"):
        compare([], header, tmp_path)


def test_one_model_per_data_set_is_refused(compared):
    def change(line, arrays):
        if line["label"] == "SASRec":
            line["dataset"] = "amazon-beauty"

    refused(compared, "at least 2 models .* on one data set", models=("HeLLM", "SASRec"), change=change)


def test_missing_or_changed_users_file_is_refused(tmp_path):
    path = make_results(tmp_path)
    header, lines = read_results(path)
    users = tmp_path / lines[4]["users_file"]
    whole = users.read_bytes()
    users.write_bytes((tmp_path / lines[0]["users_file"]).read_bytes())
    with pytest.raises(ArtifactError, match=rf"{lines[4]['cell']} \(SASRec on amazon-toys, seed 2021\).*has digest"):
        compare(lines, header, tmp_path)
    users.unlink()
    with pytest.raises(ArtifactError, match=rf"{lines[4]['cell']}.*is missing or cannot be read"):
        compare(lines, header, tmp_path)
    users.write_bytes(whole[:100])
    lines[4]["users_sha256"] = stored.file_digest(users)
    with pytest.raises(ArtifactError, match=rf"{lines[4]['cell']}.*cannot be read"):
        compare(lines, header, tmp_path)


def test_other_users_are_refused(compared):
    def change(line, arrays):
        arrays["user"][7] = "somebody"
        arrays["user"].sort()

    message = refused(compared, "different test users", change=only("SASRec", 2022, change))
    assert "HeLLM on amazon-toys, seed 2020" in message
    assert "SASRec on amazon-toys, seed 2022" in message


def test_ranks_of_another_run_are_refused(compared):
    def change(line, arrays):
        arrays["rank"][:] = 1

    message = refused(compared, "of the kept ranks is 1.000000", change=only("SASRec", 2022, change))
    assert "SASRec on amazon-toys, seed 2022" in message


def test_several_targets_ranked_one_by_one_are_refused(compared):
    def change(line, arrays):
        arrays["user"][1::2] = arrays["user"][::2]
        arrays["rank"][:] = 1

    refused(compared, "several test targets.*leave-one-out", change=change)


def test_metric_that_a_cell_lacks_is_refused(compared):
    refused(
        compared, r"'ndgc@10' is not in every cell \(did you mean 'ndcg@10'\?\); all have: recall@5", metric="ndgc@10"
    )
    change = only("SASRec", 2022, lambda line, arrays: line["test"].pop("ndcg@10"))
    refused(compared, "'ndcg@10' is not in every cell", change=change)


def test_the_same_file_gives_the_same_comparison(tmp_path):
    header, lines = read_results(make_results(tmp_path, n_users=100))
    first, second = (compare(lines, header, tmp_path) for _ in range(2))
    assert first == second
    assert json.loads(json.dumps(lines)) == lines
