"""The reports shown in the docs are what their results files give, number by number."""

import csv
import json
from pathlib import Path

import pytest

from recbole_hellm.cli import main

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "docs" / "examples").iterdir())


def test_there_are_examples():
    assert "toys-small" in [folder.name for folder in EXAMPLES]


@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda folder: folder.name)
def test_an_example_is_made_again_from_its_results_file(folder, tmp_path, capsys):
    assert main(["report", str(folder / f"{folder.name}.jsonl"), "--output", str(tmp_path)]) == 0
    for name in ("report.md", "report.tex"):  # rounded; the csv has all digits, of which the last are the machine's
        assert (tmp_path / name).read_text() == (folder / "report" / name).read_text(), name
    assert (folder / "report" / "report.html").stat().st_size > 50_000


@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda folder: folder.name)
def test_every_number_of_an_example_is_that_of_its_line(folder):
    lines = [json.loads(line) for line in (folder / f"{folder.name}.jsonl").read_text().splitlines()]
    cells = {line["cell"]: line for line in lines if line["kind"] == "cell"}
    with (folder / "report" / "report.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) >= 4 * 9
    for row in rows:
        (key,) = row["cells"].split()
        line = cells[key]
        assert (line["label"], line["dataset"]) == (row["label"], row["dataset"])
        assert float(row["test"]) == pytest.approx(line["test"][row["metric"]], abs=1e-6)
