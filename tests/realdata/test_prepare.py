"""The three Amazon data sets, for real; skipped where they are not."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recbole_hellm.data.atomic import Counts
from recbole_hellm.data.catalogue import read_item_text
from recbole_hellm.data.features import align, load_features
from recbole_hellm.data.prepare import prepare

SHARED = Path(os.environ.get("RECBOLE_HELLM_SHARED") or Path(__file__).parents[2].parent / "shared")
FACTS = {
    "amazon-toys": (Counts(19_412, 11_924, 167_597), {"title": 59, "description": 798}, 9_518),
    "amazon-beauty": (Counts(22_363, 12_101, 198_502), {"title": 7}, 9_719),
    "amazon-sports": (Counts(35_598, 18_357, 296_337), {}, 16_049),
}

pytestmark = pytest.mark.skipif(
    not (SHARED / "data").is_dir(), reason=f"no data in {SHARED / 'data'}; set RECBOLE_HELLM_SHARED to its parent"
)


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    return tmp_path_factory.mktemp("dataset")


@pytest.mark.parametrize("name", FACTS)
def test_counts_order_and_texts(name, output):
    expected, missing, n_tied = FACTS[name]
    folder = prepare(name, SHARED / "data", output)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert Counts(*(manifest["counts"][key] for key in ("n_users", "n_items", "n_interactions"))) == expected
    assert manifest["counts"]["n_items_without_interactions"] == 0
    assert manifest["counts"]["n_users_with_fewer_than_3_interactions"] == 0
    assert manifest["missing"]["catalogue_row"] == 0
    assert {column: manifest["missing"][column] for column in missing} == missing

    frame = pd.read_csv(folder / f"{name}.inter", sep="\t", dtype={"timestamp:float": np.float32})
    # as RecBole does it: float32 times, sorted by time only; the order of the source must come back
    shuffled = frame.sample(frac=1, random_state=0).sort_values(["user_id:token", "timestamp:float"])
    pd.testing.assert_frame_equal(shuffled, frame.sort_values("user_id:token", kind="stable"))
    assert not frame.duplicated(["user_id:token", "timestamp:float"]).any()
    assert int((frame.groupby("user_id:token")["day_gap:float"].last() == 0).sum()) == n_tied

    items = pd.read_csv(folder / f"{name}.item", delimiter="\t", engine="python", dtype=str, keep_default_na=False)
    assert len(items) == expected.n_items
    columns = [column.split(":")[0] for column in items.columns[1:]]
    assert ("title" in columns) == (name != "amazon-sports")
    texts = read_item_text(folder / f"{name}.item", columns)
    assert set(texts) == set(frame["item_id:token"].astype(str))
    assert all(texts.values())
    assert not any("&amp;" in text or "&#" in text or "<br" in text for text in texts.values())


def test_toys_features_follow_their_items(output):
    folder = prepare("amazon-toys", SHARED / "data", output)
    source = np.load(SHARED / "data" / "Toys_and_Games" / "clip_vitb32_image_f16.npy")
    tokens = np.random.default_rng(0).permutation(np.arange(1, 11_925)).astype(str)
    aligned = align(load_features(folder / "features" / "image.npy"), ["[PAD]", *tokens], "zero")
    assert (aligned.coverage.n_present, aligned.coverage.n_absent, aligned.coverage.n_zero) == (11_907, 17, 0)
    np.testing.assert_array_equal(aligned.vectors[1:], source[tokens.astype(int)].astype(np.float32))
    text = align(load_features(folder / "features" / "clip_text.npy"), ["[PAD]", *tokens], "error")
    both = aligned.present
    image_vectors, text_vectors = (
        v[both] / np.linalg.norm(v[both], axis=1, keepdims=True) for v in (aligned.vectors, text.vectors)
    )
    same = (image_vectors * text_vectors).sum(axis=1).mean()
    other = (image_vectors * np.roll(text_vectors, 1, axis=0)).sum(axis=1).mean()
    assert same == pytest.approx(0.321, abs=0.005)
    assert other == pytest.approx(0.172, abs=0.01)
