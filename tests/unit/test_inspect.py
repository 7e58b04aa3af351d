import json
import re
import shutil

import numpy as np
import pytest
from inspect_shop import make_shop, page_of, rows_of

from recbole_hellm import cli
from recbole_hellm.data.inspect.warnings import percent
from recbole_hellm.data.manifest import read_manifest
from recbole_hellm.errors import DataError
from recbole_hellm.testing import CHECKERBOARD, write_checkerboard


@pytest.fixture
def prepared(tmp_path):
    return make_shop(tmp_path)


def test_the_page_says_what_is_there(prepared, tmp_path):
    text, _ = page_of(prepared, tmp_path)
    rows = rows_of(text)
    assert (rows["users"], rows["items"], rows["interactions"]) == ("3", "4", "9")
    assert rows["tied steps"] == "2 of 6 (33.3 %)"
    assert rows["tied test targets"] == "1 of 2 (50 %)"
    assert rows["test targets"] == "2 users with 3 or more"
    assert rows["users too short for it"] == "1 (33.3 %)"
    assert rows["rows without interactions"] == "1"
    assert rows["title (token_seq)"].startswith("3 items (75 %); words: all 1;")
    assert rows["image"].startswith("1 items (25 %); 2 rows of 2 numbers, float16; 0 zero rows, 1 rows unused")
    assert rows["pictures"] == "3 items (75 %)"
    assert rows["source layout"] == "s3rec"
    assert rows["source shop.txt"] == "sha256 abc"
    assert rows["option missing_text"] == "empty"
    assert rows["files"] == "as they were written"
    assert text.endswith("page: " + str(tmp_path / "page.html"))


def test_the_manifest_has_counts_and_fingerprint_at_the_top(prepared, tmp_path):
    manifest = read_manifest(prepared)
    assert [manifest[key] for key in ("n_users", "n_items", "n_interactions")] == [3, 4, 9]
    text, _ = page_of(prepared, tmp_path)
    rows = rows_of(text)
    assert rows["of the data set"] == manifest["fingerprint"]["dataset"]
    assert rows["of features image"] == manifest["fingerprint"]["features"]["image"]
    assert manifest["fingerprint"]["events"] in text
    assert "another fingerprint" not in text


def test_warnings_are_words_with_a_way_out(prepared, tmp_path):
    text, _ = page_of(prepared, tmp_path)
    said = " ".join(text[text.index("Worth knowing") :].split())
    for part in (
        "33.3 % of the steps tie in time: their order is that of the file. 50 % of the test targets tie",
        "1 of 3 users have fewer than 3 interactions: they are kept in training and not tested.",
        "Rows of shop.item without an interaction: 1. RecBole counts and ranks such items",
        "25 % of the items have no title",
        "3 items (75 %) have no vector in image: the setting feature_missing decides what follows.",
        "1 item (25 %) has no picture",
    ):
        assert part in said
    assert "manifest" not in said


@pytest.mark.parametrize("change", ["file", "manifest", "fingerprint"])
def test_a_manifest_that_does_not_fit_is_named(prepared, tmp_path, change):
    manifest = json.loads((prepared / "manifest.json").read_text())
    if change == "file":
        (prepared / "shop.inter").open("a").write("3\t50\t9\t1\n")
        expected = "File shop.inter was changed since the data set was prepared. Prepare it again unless"
    elif change == "manifest":
        (prepared / "manifest.json").write_text("{")
        expected = "broken manifest"
    else:
        manifest["fingerprint"]["events"] = "0" * 64
        (prepared / "manifest.json").write_text(json.dumps(manifest))
        expected = "The manifest has another fingerprint than the files"
    text, _ = page_of(prepared, tmp_path)
    assert expected in " ".join(text.split())


def test_a_manifest_of_an_earlier_version_is_read(prepared, tmp_path):
    manifest = json.loads((prepared / "manifest.json").read_text())
    for key in ("fingerprint", "n_users", "n_items", "n_interactions"):
        del manifest[key]
    (prepared / "manifest.json").write_text(json.dumps(manifest))
    text, _ = page_of(prepared, tmp_path)
    assert rows_of(text)["fingerprint in it"] == "no: of an earlier version"
    assert "another fingerprint" not in text


def test_any_recbole_data_set_will_do(tmp_path):
    folder = write_checkerboard(tmp_path / "data")
    (folder / f"{CHECKERBOARD}.user").write_text("user_id:token\tage:float\nu1\t3\n")
    text, page = page_of(folder, tmp_path)
    assert "No manifest.json: not prepared by this package, so its source and options are not known." in " ".join(
        text.split()
    )
    assert rows_of(text)["not looked at"] == f"{CHECKERBOARD}.user"
    assert "<h3>white square number 0</h3>" in page
    (folder / f"{CHECKERBOARD}.item").unlink()
    shutil.rmtree(folder / "features")
    (folder / f"{CHECKERBOARD}.inter").write_text("user_id:token\titem_id:token\n1\t2\n")
    text, page = page_of(folder, tmp_path)
    assert "There is no column timestamp:float" in text
    assert f"There is no {CHECKERBOARD}.item" in text
    assert "<h3>item 2</h3>" in page


def test_broken_features_are_said_and_do_not_stop_the_page(prepared, tmp_path):
    np.save(prepared / "features" / "audio.npy", np.ones((2, 2), dtype=np.float32))
    text, _ = page_of(prepared, tmp_path)
    assert re.search(r"Features audio cannot be used: file .*audio\.ids\.txt is missing", " ".join(text.split()))
    assert "a feature matrix is broken" in text


def test_mistaken_times_are_named(tmp_path):
    folder = tmp_path / "data" / "x"
    folder.mkdir(parents=True)
    rows = ["a\tx\t1700000000000", "a\ty\t1700000000001", "b\tx\t-3", "b\tx\t-3", "NA\tx\t1"]
    (folder / "x.inter").write_text("user_id:token\titem_id:token\ttimestamp:float\n" + "\n".join(rows) + "\n")
    (folder / "x.item").write_text("item_id:token\ttitle:token_seq\nx\tone\nx\ttwo\n")
    said = " ".join(page_of(folder, tmp_path)[0].split())
    for part in (
        "these look like milliseconds. Divide by 1000",
        "The smallest time is -3",
        "1 steps differ in time, but not as float32",
        "1 rows repeat the row before",
        "1 rows have an empty user or item",
        "50 % of the items have no row in x.item",
        "1 rows of x.item are of an item that has a row",
    ):
        assert part in said


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["shop2"], r"no data set 'shop2' in data \(did you mean 'shop'\?\): run recbole-hellm prepare"),
        (["data/shop"], "must be the name of a folder in data"),
        (["shop", "--data-path", "nowhere"], "folder of data sets nowhere does not exist"),
        (["shop", "--images", "nowhere"], "folder of images nowhere does not exist"),
        (["shop", "--output", "data"], "data is a folder: give --output the name of an .html file"),
        (["shop", "--output", "/proc/none/page.html"], "cannot write /proc/none/page.html"),
        (["empty"], r"file data/empty/empty.inter is missing; the folder has: a.csv"),
        (["shop", "extra"], "unknown argument 'extra' of inspect"),
    ],
)
def test_refusals_are_one_line_and_leave_nothing(prepared, tmp_path, monkeypatch, capsys, argv, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "empty").mkdir()
    (tmp_path / "data" / "empty" / "a.csv").write_text("x")
    before = sorted(tmp_path.rglob("*"))
    try:
        code = cli.main(["inspect", *(argv if "--data-path" in argv else [*argv, "--data-path", "data"])])
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert re.search(message, err)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_broken_item_file_is_named(prepared, tmp_path):
    (prepared / "shop.item").open("a").write("60\tone\n")
    with pytest.raises(DataError, match=r"shop\.item:7: expected 4 tab-separated cells, got 2"):
        page_of(prepared, tmp_path)
    (prepared / "shop.item").write_text("id:token\n1\n")
    with pytest.raises(DataError, match=r"shop\.item:1: the header must have 'item_id:token'"):
        page_of(prepared, tmp_path)


def test_the_command_prints_and_writes(prepared, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["inspect", "shop", "--data-path=data"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("shop\n====\n")
    assert out.endswith("page: shop-inspect.html\n")
    assert (tmp_path / "shop-inspect.html").read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [(0, 9, "0 %"), (9, 9, "100 %"), (1, 10**6, "< 0.01 %"), (10**6 - 1, 10**6, "> 99.99 %"), (1, 3, "33.3 %"),
     (995, 1000, "99.50 %"), (0, 0, "-")],
)  # fmt: skip
def test_shares_never_claim_nothing_or_all(part, whole, text):
    assert percent(part, whole) == text
