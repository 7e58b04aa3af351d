"""Tables of a report: what stands in them is what was measured, whatever a label looks like."""

import csv
import re
from dataclasses import replace

import pytest
from benchmark_lines import make_results, read_results

from recbole_hellm.benchmark import wording
from recbole_hellm.benchmark.contents import ablation_tables, main_tables, significance_tables, tie_tables
from recbole_hellm.benchmark.layout import trace_ids
from recbole_hellm.benchmark.plan import Reported
from recbole_hellm.benchmark.records import cost_tables, failed_table, provenance_table, reported_table
from recbole_hellm.benchmark.significance import PairedResult
from recbole_hellm.benchmark.summary import compare
from recbole_hellm.benchmark.tables import csv_text, latex, markdown

HOSTILE = r"A_b & 50% {x} $y$ #1 ~^ \input{/etc/passwd} | *bold* `c` [l](u) <script>alert(1)</script>"
DATASET = "amazon-toys"
MODELS = ("HeLLM", "SASRec", HOSTILE)


def load(folder, **settings):
    path = make_results(folder, **{"n_users": 60, "models": MODELS, **settings})
    header, lines = read_results(path)
    return compare(lines, header, folder), lines


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    return load(tmp_path_factory.mktemp("tables"), ablation=True, failed=True, reported=True)


@pytest.fixture(scope="module")
def comparison(measured):
    return measured[0]


@pytest.fixture(scope="module")
def one_seed(tmp_path_factory):
    return load(tmp_path_factory.mktemp("seed"), seeds=(7,))[0]


def with_means(comparison, means, **protocols):
    """Return the comparison with other means of its main metric, and protocols changed by label."""
    rows = []
    for row, mean in zip(comparison.rows, means, strict=True):
        protocol = {**row.protocol, **protocols.get(row.label, {})}
        rows.append(replace(row, mean={**row.mean, comparison.metric: mean}, protocol=protocol))
    return replace(comparison, rows=tuple(rows))


def column(table, name):
    place = [column.name for column in table.columns].index(name)
    return [row[place] for row in table.rows]


# --- the numbers


def test_every_number_of_the_csv_is_the_mean_of_the_lines_it_names(measured):
    comparison, lines = measured
    by_key = {line["cell"]: line for line in lines}
    rows = list(csv.DictReader(csv_text(comparison).splitlines()))
    assert len(rows) == (len(comparison.rows) + len(comparison.ablation_rows)) * len(comparison.metrics) == 105
    for row in rows:
        cells = [by_key[key] for key in row["cells"].split()]
        assert {(cell["label"], cell["dataset"], cell["group"]) for cell in cells} == {
            (row["label"], row["dataset"], row["group"])
        }
        assert [str(cell["seed"]) for cell in cells] == row["seeds"].split() == ["2020", "2021", "2022"]
        mean = sum(cell["test"][row["metric"]] for cell in cells) / len(cells)
        assert float(row["test"]) == pytest.approx(mean, abs=1e-12)
        assert (row["history_masked"], row["fitted_on"], row["minutes"]) == ("False", "train", "10.0")


def test_printed_numbers_lead_to_the_cells_they_are_made_of(measured):
    comparison, lines = measured
    ids, provenance = trace_ids(comparison), provenance_table(comparison)
    keys = dict.fromkeys(provenance.anchors, "")
    for anchor, entry in zip(provenance.anchors, column(provenance, "Cell"), strict=True):
        keys[anchor] += f" {entry.text}"
    for table in main_tables(comparison):
        for row in table.rows:
            own = " ".join(line["cell"] for line in lines if line["label"] == row[0].label and line["status"] == "ok")
            numbers = [entry for entry in row if re.fullmatch(r"\d\.\d{4}", entry.text)]
            assert len(numbers) == 10
            assert all(entry.target == ids["compare", DATASET, row[0].label] for entry in numbers)
            assert all(keys[entry.target].split() == own.split() for entry in numbers)
            assert all(key in numbers[0].note for key in own.split())
    assert len(set(ids.values())) == len(ids) == 7


def test_places_marks_and_spread_of_planted_numbers(comparison):
    base = {"dataset": DATASET, "metric": "ndcg@10", "label": "HeLLM", "alternative": "greater"}
    results = (
        PairedResult(other="SASRec", holm_wilcoxon=0.004, holm_permutation=0.02, **base),
        PairedResult(other=HOSTILE, holm_wilcoxon=0.2, holm_permutation=0.001, **base),
    )
    tests = {**comparison.tests, (DATASET, "ndcg@10"): results}
    planted = replace(with_means(comparison, (0.3, 0.1, 0.2)), tests=tests)
    (table,) = main_tables(planted)
    entries = column(table, "ndcg@10")
    assert [(entry.text, entry.place, entry.mark) for entry in entries] == [
        ("0.3000", 1, ""),
        ("0.1000", 0, "*"),  # the weaker of both tests decides
        ("0.2000", 2, ""),
    ]
    assert entries[0].spread == f"{planted.rows[0].std['ndcg@10']:.4f}"
    assert "**0.3000** ±" in markdown(planted)
    assert "<u>0.2000</u> ±" in markdown(planted)
    text = latex(planted)
    assert r"\textbf{0.3000}" in text
    assert r"\underline{0.2000}" in text
    assert "0.1000$^{*}$" in text
    assert "Wilcoxon" in table.caption
    assert "permutation" in table.caption
    assert "Holm" in table.caption


def test_numbers_that_print_alike_share_a_place(comparison):
    (table,) = main_tables(with_means(comparison, (0.30001, 0.30002, 0.1)))
    assert [entry.place for entry in column(table, "ndcg@10")] == [1, 1, 2]


def test_a_row_with_another_task_is_never_called_best(comparison):
    planted = with_means(comparison, (0.3, 0.9, 0.1), SASRec={"history_masked": True})
    (table,) = main_tables(planted)
    assert [entry.place for entry in column(table, "ndcg@10")] == [1, 0, 2]
    assert [entry.text for entry in column(table, "History")] == ["kept", "masked", "kept"]
    assert "Not ranked, as history, fitted events or minutes differ: SASRec." in table.caption
    assert "HeLLM has the highest ndcg@10, 0.3000" in markdown(planted)


def test_smaller_is_best_where_recbole_says_so(comparison):
    rows = tuple(
        replace(row, mean={**row.mean, "giniindex@10": v}, cells=tuple(_with(c, v) for c in row.cells))
        for row, v in zip(comparison.rows, (0.9, 0.2, 0.5), strict=True)
    )
    changed = replace(comparison, rows=rows, metrics=(*comparison.metrics, "giniindex@10"), ablation_rows=())
    (table,) = main_tables(changed)
    assert [entry.place for entry in column(table, "giniindex@10")] == [0, 1, 2]


def _with(cell, value):
    return {**cell, "test": {**cell["test"], "giniindex@10": value}}


def test_one_number_is_not_printed_under_three_names(comparison):
    (table,) = main_tables(comparison)
    names = [column.name for column in table.columns]
    assert names[1:10] == [f"{metric}@{k}" for metric in ("ndcg", "recall", "mrr") for k in (5, 10, 20)]
    assert "hit@k equals recall@k" in table.caption
    first = comparison.rows[0]
    other = replace(first, mean={**first.mean, "hit@10": first.mean["hit@10"] + 0.1})
    metrics, _ = wording.distinct_metrics(replace(comparison, rows=(other, *comparison.rows[1:])))
    assert "hit@10" in metrics
    assert "hit@5" not in metrics


# --- tests, ties, cost


def test_seeds_test_says_what_it_needs(comparison, one_seed):
    (table,) = significance_tables(one_seed)
    assert [entry.text for entry in column(table, "Seeds p")] == ["needs 3 seeds"] * 2
    (table,) = significance_tables(comparison)
    assert all(re.fullmatch(r"<?0\.\d{3}", entry.text) for entry in column(table, "Seeds p"))
    result = comparison.tests[DATASET, "ndcg@10"][0]
    assert column(table, "Difference")[0].text == f"{result.difference:+.4f}".replace("-", "−")


def test_an_untested_pair_is_named_with_its_reason(comparison):
    reason = "history differs"
    left = PairedResult(DATASET, "ndcg@10", "HeLLM", "SASRec", "greater", reason=reason)
    kept = comparison.tests[DATASET, "ndcg@10"][1]
    (table,) = significance_tables(replace(comparison, tests={(DATASET, "ndcg@10"): (left, kept)}))
    assert [row[0].text for row in table.rows] == [HOSTILE]
    assert f"Not tested: SASRec ({reason})." in table.caption


def test_one_seed_has_no_spread(one_seed):
    (table,) = main_tables(one_seed)
    assert all(not entry.spread for row in table.rows for entry in row)
    assert "Seed 7." in table.caption
    rows = list(csv.DictReader(csv_text(one_seed).splitlines()))
    assert {row["std"] for row in rows} == {""}


def test_ties_and_rows_without_them(comparison):
    (table,) = tie_tables(comparison)
    row = comparison.rows[0]
    assert column(table, "ndcg@10, untied")[0].text == f"{row.untied['ndcg@10']:.4f}"
    assert column(table, "Users that tie")[0].text == f"{100 * row.tied_share:.1f} %"
    unknown = tuple(replace(row, untied=None, tied_share=None) for row in comparison.rows)
    assert not list(tie_tables(replace(comparison, rows=unknown)))
    assert "Tie-aware" not in markdown(replace(comparison, rows=unknown))


def test_reused_stages_cost_what_they_cost_when_they_ran(comparison):
    (table,) = cost_tables(comparison)
    graph, sums = column(table, "Graph"), column(table, "Total")
    stages = comparison.rows[0].cost.seconds_by_stage
    assert graph[0].text == f"{stages['graph']:.0f} †"
    assert sums[0].text == f"{sum(stages.values()):,.0f}"
    assert graph[1].text == wording.NONE
    assert "†" not in column(table, "Training")[0].text
    assert column(table, "Trained weights")[0].note == f"{comparison.rows[0].cost.parameters_trained:,}"


def test_stages_come_in_the_order_they_run(comparison):
    (table,) = cost_tables(replace(comparison, rows=comparison.rows[::-1]))
    names = [column.name for column in table.columns][3:9]
    assert names == ["Data and model", "Features", "Graph", "Sequence", "Training", "Evaluation"]


def test_ablation_is_read_from_the_full_model(comparison):
    (table,) = ablation_tables(comparison)
    assert [row[0].text for row in table.rows][0] == "full"
    assert column(table, "Difference")[0].text == wording.NONE
    assert column(table, "Difference")[1].text.startswith("−")
    rows = [row for row in csv.DictReader(csv_text(comparison).splitlines()) if row["metric"] == "ndcg@10"]
    worse = next(row for row in rows if row["label"] == "no user hypergraph")
    full = next(row for row in rows if row["label"] == "full")
    assert worse["against"] == "full"
    assert float(worse["difference"]) == pytest.approx(float(full["test"]) - float(worse["test"]), abs=1e-5)
    assert float(worse["difference_low"]) < float(worse["difference"]) < float(worse["difference_high"])


# --- what is apart


def test_reported_numbers_stand_apart(comparison):
    text = markdown(comparison)
    measured, _, elsewhere = text.partition("## Reported elsewhere")
    assert "HeLLM-7B" not in measured
    assert "| HeLLM-7B | amazon-toys | 0.0747 | 0.0440 |" in elsewhere
    assert "not comparable line by line" in elsewhere
    assert "HeLLM-7B" not in csv_text(comparison)
    assert reported_table(replace(comparison, reported=())) is None
    odd = Reported("X", DATASET, {"recall@10": 0.1}, "", "")
    table = reported_table(replace(comparison, reported=(*comparison.reported, odd)))
    assert column(table, "ndcg@10")[1].text == wording.NONE


def test_failed_cells_are_listed_with_their_error(comparison):
    (row,) = failed_table(comparison).rows
    assert [entry.text for entry in row[:4]] == ["BERT4Rec", DATASET, "2020", "MemoryError: 3.2 GB wanted"]
    assert failed_table(replace(comparison, failed=())) is None
