"""TransitionCounts through the command reproduces the reference numbers: the whole data path is right.

If one of these is off, the split, the order or the ranking is wrong.
"""

import json

import pytest

from recbole_hellm.cli import main

REFERENCE = {  # test R@10, N@10: history not masked, fitted on train only, full ranking
    "amazon-toys": (0.0949, 0.0614),
    "amazon-beauty": (0.0849, 0.0520),
    "amazon-sports": (0.0528, 0.0312),
}


@pytest.mark.parametrize(
    "dataset",
    [
        "amazon-toys",
        pytest.param("amazon-beauty", marks=pytest.mark.long),
        pytest.param("amazon-sports", marks=pytest.mark.long),
    ],
)
def test_reference_numbers_come_out_of_the_command(dataset, shared, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = {
        "model": "TransitionCounts",
        "dataset": dataset,
        "preset": dataset.removeprefix("amazon-"),
        "source": str(shared / "data"),
        "result_file": "result.json",
        "show_progress": "False",
    }
    assert main(["train", *(f"--{key}={value}" for key, value in arguments.items())]) == 0
    result = json.loads((tmp_path / "result.json").read_text())
    recall, ndcg = REFERENCE[dataset]
    assert result["test_result"]["recall@10"] == pytest.approx(recall, abs=0.001)
    assert result["test_result"]["ndcg@10"] == pytest.approx(ndcg, abs=0.001)
    assert result["protocol"]["history_masked"] is False
