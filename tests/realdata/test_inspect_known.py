"""What ``inspect`` says of the known data sets, against what is known of them; skipped where they are not."""

import os
import re
from pathlib import Path

import pytest

from recbole_hellm.data.inspect.report import inspect_dataset
from recbole_hellm.data.manifest import read_manifest
from recbole_hellm.data.prepare import prepare

SHARED = Path(os.environ.get("RECBOLE_HELLM_SHARED") or Path(__file__).parents[2].parent / "shared")
FACTS = {
    "amazon-toys": ("19,412", "11,924", "167,597", "9,518 of 19,412", "Toys_and_Games.txt"),
    "amazon-beauty": ("22,363", "12,101", "198,502", "9,719 of 22,363", "Beauty.txt"),
    "amazon-sports": ("35,598", "18,357", "296,337", "16,049 of 35,598", "Sports_and_Outdoors.txt"),
    "ml-100k": ("943", "1,682", "100,000", "415 of 943", ""),
}


@pytest.mark.parametrize("name", FACTS)
def test_the_page_of_a_known_data_set(name, tmp_path):
    if name != "ml-100k" and not (SHARED / "data").is_dir():
        pytest.skip(f"no data in {SHARED / 'data'}; set RECBOLE_HELLM_SHARED to its parent")
    folder = prepare(name, None if name == "ml-100k" else SHARED / "data", tmp_path / "dataset")
    text = inspect_dataset(name, tmp_path / "dataset", tmp_path / "page.html")
    lines = [line for line in text.splitlines() if re.match(r"  \w.*  ", line)]
    rows = dict(re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in lines)
    n_users, n_items, n_interactions, tied, published = FACTS[name]
    assert (rows["users"], rows["items"], rows["interactions"]) == (n_users, n_items, n_interactions)
    assert rows["tied test targets"].startswith(tied)
    assert rows["test targets"].startswith(f"{n_users} users")
    assert rows["items without a row"] == "0 (0 %)"
    assert rows["files"] == "as they were written"
    compared = f"the same sequences as S3-Rec's {published}" if published else ""
    assert rows.get("compared with published", "") == compared
    manifest = read_manifest(folder)
    assert rows["of the data set"] == manifest["fingerprint"]["dataset"]
    assert f"{manifest['n_interactions']:,}" == n_interactions
    assert (tmp_path / "page.html").stat().st_size < 200_000
