import json

import numpy as np
import pandas as pd
import pytest

from recbole_hellm.data.movielens import packaged_folder, read_catalogue, read_sequences
from recbole_hellm.data.prepare import prepare
from recbole_hellm.errors import DataError

INTER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
ITEM = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"


def write(folder, inter, item=""):
    (folder / "ml-100k.inter").write_text(INTER + inter)
    (folder / "ml-100k.item").write_text(ITEM + item)
    return folder


def test_ties_keep_the_order_of_the_file(tmp_path):
    write(tmp_path, "2\t30\t5\t881250949\n1\t10\t3\t881250949\n1\t20\t1\t881250949\n2\t40\t4\t881164549\n")
    first, second = read_sequences(tmp_path)
    assert (first.user, first.items, first.timestamps, first.day_gaps) == ("1", ("10", "20"), (3, 4), (0.0, 0.0))
    assert (second.user, second.items, second.timestamps, second.day_gaps) == ("2", ("40", "30"), (1, 2), (0.0, 1.0))


def test_texts(tmp_path):
    write(tmp_path, "", "1\tToy Story\t1995\tAnimation Comedy\n2\tunknown\t\t\n")
    first, second = read_catalogue(tmp_path)
    assert first.texts == {"title": "Toy Story (1995)", "categories": "Animation Comedy"}
    assert second.texts == {"title": "unknown"}


@pytest.mark.parametrize(
    ("inter", "message"),
    [("1\t2\t3\n", ":2: expected 4 tab-separated cells, got 3"), ("1\t2\t3\tx\n", ":2: timestamp must be a number")],
)
def test_bad_rows(tmp_path, inter, message):
    with pytest.raises(DataError, match=message):
        list(read_sequences(write(tmp_path, inter)))


def test_other_header_is_refused(tmp_path):
    (tmp_path / "ml-100k.inter").write_text("user\titem\n")
    with pytest.raises(DataError, match=":1: expected the header"):
        list(read_sequences(tmp_path))


def test_the_packaged_data_set(tmp_path):
    folder = prepare("ml-100k", None, tmp_path)
    counts = json.loads((folder / "manifest.json").read_text())["counts"]
    assert (counts["n_users"], counts["n_items"], counts["n_interactions"]) == (943, 1682, 100_000)
    ours = pd.read_csv(folder / "ml-100k.inter", sep="\t")
    source = pd.read_csv(packaged_folder() / "ml-100k.inter", sep="\t")
    assert not ours.duplicated(["user_id:token", "item_id:token"]).any()
    assert ours["timestamp:float"].is_unique
    assert ours["timestamp:float"].astype(np.float32).astype(int).equals(ours["timestamp:float"])
    both = ours.merge(source, on=["user_id:token", "item_id:token"], suffixes=("", "_seconds"))
    assert len(both) == 100_000
    assert both.sort_values("timestamp:float")["timestamp:float_seconds"].is_monotonic_increasing
