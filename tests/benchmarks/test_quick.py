"""Every measurement once, on tiny data: none of its numbers means anything, all of them have to be there."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.targets import MEASUREMENTS, keys_of

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_every_measurement_gives_its_numbers(tmp_path):
    results = tmp_path / "results.json"
    arguments = ["--quick", "--pairs", "1", "--scratch", str(tmp_path / "scratch"), "--results", str(results)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=CHECKOUT,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(results.read_text())
    assert set(found["measurements"]) == set(MEASUREMENTS)
    assert found["reasons"] == {}
    for name in MEASUREMENTS:
        assert all(found[key] > 0 for key in keys_of(name)), name
    details = {name: found["measurements"][name]["details"] for name in MEASUREMENTS}
    assert details["graphs"]["neighbours_alone"]["recall"] == 1.0
    assert details["ranking"]["equality_fp32"]["equal_ranks"] == 1.0
    assert details["ranking"]["equality_fp32"]["metrics"]["recall@20"] > 0
    assert details["ranking"]["equality_fp32"]["largest_difference_of_metrics"] == 0.0
    assert len(details["stage1"]["quality"]["curves"]["default"]["ndcg@20"]) == 2
    assert details["toys"]["run"]["test_result"]
