"""What stands above a table of a report: its protocol, what its signs mean, what its numbers leave out."""

from dataclasses import dataclass, replace

import pytest
from benchmark_lines import make_results, read_results

from recbole_hellm.benchmark import wording
from recbole_hellm.benchmark.contents import ablation_tables, main_tables, significance_tables, tie_tables
from recbole_hellm.benchmark.records import cost_tables
from recbole_hellm.benchmark.summary import compare


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    folder = tmp_path_factory.mktemp("captions")
    header, lines = read_results(make_results(folder, n_users=60, ablation=True))
    return compare(lines, header, folder)


def with_means(comparison, means, **protocols):
    """Return the comparison with other means of its main metric, and protocols changed by label."""
    rows = []
    for row, mean in zip(comparison.rows, means, strict=True):
        protocol = {**row.protocol, **protocols.get(row.label, {})}
        rows.append(replace(row, mean={**row.mean, comparison.metric: mean}, protocol=protocol))
    return replace(comparison, rows=tuple(rows))


def test_stars_say_where_they_can_stand(comparison):
    (table,) = main_tables(comparison)
    assert "Only metrics at 10 are tested: no star elsewhere says nothing; each metric is corrected" in table.caption


def test_minutes_over_the_limit_have_a_dagger(comparison):
    def longer(row):
        stages = [{**stage, "computed_seconds": 999.0} for stage in row.cells[0]["stages"]]
        return replace(row, cells=({**row.cells[0], "stages": stages}, *row.cells[1:]))

    rows = tuple(longer(row) if row.label == "SASRec" else row for row in comparison.rows)
    (table,) = main_tables(replace(comparison, rows=rows))
    assert [row[-1].text for row in table.rows] == ["10", "10 †", "10"]
    assert "† over the limit, as an epoch that has begun" in table.caption
    assert table.caption.endswith("SASRec 16.6 minutes.")  # 999 s of training; reading and evaluation are not counted
    assert "†" not in "".join(entry.text for row in main_tables(comparison) for line in row.rows for entry in line)
    (ablation,) = ablation_tables(replace(comparison, ablation_rows=rows))
    assert "SASRec 16.6 minutes." in ablation.caption


def test_a_second_fit_is_not_counted():
    stages = [{"name": name, "computed_seconds": 400.0} for name in ("training", "training (refit)", "evaluation")]
    assert wording.over_limit(Timed({"minutes": 7.0}, [{"stages": stages}])) is None
    assert wording.over_limit(Timed({"minutes": 6.0}, [{"stages": stages}])) == pytest.approx(400 / 60)
    assert wording.over_limit(Timed({"minutes": None}, [{"stages": stages}])) is None


@dataclass
class Timed:
    """What of a row tells its minutes."""

    protocol: dict
    cells: list


def test_every_table_of_results_names_its_protocol(comparison):
    line = "History kept; fitted on train; loss CE; max length 50; minutes 10."
    for tables in (main_tables, significance_tables, tie_tables, ablation_tables):
        assert [table.protocol for table in tables(comparison)] == [line]
    changed = with_means(comparison, (0.3, 0.2, 0.1), SASRec={"loss": "BPR", "history_masked": True})
    (table,) = main_tables(changed)
    assert table.protocol.startswith("History kept / masked; fitted on train; loss CE / BPR; ")


def test_memory_says_whose_it_is(comparison):
    (table,) = cost_tables(comparison)
    assert "about 430 MB of it are Python and its packages" in table.caption
    assert "the memory of a GPU is not in it" in table.caption
