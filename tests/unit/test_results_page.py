"""docs/results.json and the tables of docs/results.md, from planted ranks."""

import json

import numpy as np
import pytest
from benchmark_lines import make_results

results_page = pytest.importorskip("benchmarks.results_page")
WITHOUT = results_page.WITHOUT
COUNTS = "TransitionCounts"


def ours(line, arrays):
    """HeLLM's two rows are of one model class."""
    if line["label"] == WITHOUT:
        line["model"] = "HeLLM"


def plan(folder, **changes):
    effect = {"HeLLM": 0.8, WITHOUT: 0.7}
    return make_results(
        folder, ("HeLLM", WITHOUT, COUNTS, "SASRec"), name="results-toys", effect=effect, change=ours, **changes
    )


@pytest.fixture
def written(tmp_path):
    path = plan(tmp_path)
    (tmp_path / "results.md").write_text("# Results\n\nby hand\n")
    results_page.main([str(path), "--docs", str(tmp_path)])
    return path, json.loads((tmp_path / "results.json").read_text()), (tmp_path / "results.md").read_text()


def test_the_numbers_are_those_of_the_cells(written):
    path, document, _ = written
    lines = [json.loads(line) for line in path.read_text().splitlines()[1:]]
    tests = [line["test"] for line in lines if line["label"] == "HeLLM"]
    entry = document["amazon-toys"]
    for metric in ("recall@10", "ndcg@10"):
        values = [test[metric] for test in tests]
        assert entry[metric] == pytest.approx(np.mean(values))
        assert entry[f"{metric}_sd"] == pytest.approx(np.std(values, ddof=1))
    assert entry["n_seeds"] == 3
    assert entry["command"] == "recbole-hellm compare --plan results-toys"
    assert entry["protocol"]["fitted_on"] == "train"
    assert 0 < entry["p_value"] < 0.01
    assert entry["without_language_model"]["ndcg@10"] < entry["ndcg@10"]


def test_the_best_baseline_is_the_best_on_validation_and_no_row_of_ours(written):
    path, document, _ = written
    lines = [json.loads(line) for line in path.read_text().splitlines()[1:]]
    means = {
        label: np.mean([line["valid"]["ndcg@10"] for line in lines if line["label"] == label])
        for label in (COUNTS, "SASRec")
    }
    assert document["amazon-toys"]["best_baseline"] == max(means, key=means.get)


def test_rare_targets_are_counted_by_hand(tmp_path):
    path = plan(tmp_path)
    lines = [json.loads(line) for line in path.read_text().splitlines()[1:]]
    hits = []
    for line in lines:
        if line["label"] == COUNTS:
            with np.load(tmp_path / line["users_file"]) as arrays:
                few = arrays["popularity"] < 5
                hits.append((arrays["rank"][few] <= 10).mean())
    n_users, value = results_page.load(path).rare[COUNTS]
    assert 0 < n_users == few.sum()
    assert value == pytest.approx(np.mean(hits))


def test_what_stands_around_the_table_is_kept(written):
    _, document, text = written
    assert text.startswith("# Results\n\nby hand\n")
    row = next(line for line in text.splitlines() if line.startswith("| amazon-toys | HeLLM |"))
    assert f"{document['amazon-toys']['ndcg@10']:.4f} ±" in row
    assert "<!-- history kept, fitted on train: generated" in text


def test_one_seed_has_no_deviation(tmp_path):
    path = plan(tmp_path, seeds=(2020,))
    results_page.main([str(path), "--docs", str(tmp_path)])
    document = json.loads((tmp_path / "results.json").read_text())
    assert document["amazon-toys"]["ndcg@10_sd"] is None
    assert "±" not in (tmp_path / "results.md").read_text()


def test_what_the_page_says_of_other_data_sets_stays(written, tmp_path):
    path, document, text = written
    page, machine = tmp_path / "results.md", tmp_path / "results.json"
    page.write_text(text.replace("amazon-toys", "amazon-sports"))
    machine.write_text(json.dumps({"amazon-sports": document["amazon-toys"]}))
    for _ in range(2):  # written again, a data set's rows are replaced
        results_page.main([str(path), "--docs", str(tmp_path)])
    entry = document["amazon-toys"]
    assert json.loads(machine.read_text()) == {"amazon-sports": entry, "amazon-toys": entry}
    told = [line for line in text.splitlines() if "amazon-toys" in line]
    both = [line for line in page.read_text().splitlines() if "amazon-" in line]
    sports = [line.replace("amazon-toys", "amazon-sports") for line in told]
    assert both == [*sports[:4], *told[:4], *sports[4:], *told[4:]]
    assert len(told) == 5
    assert page.read_text().startswith("# Results\n\nby hand\n")
