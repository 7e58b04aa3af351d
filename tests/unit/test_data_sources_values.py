"""Ids, cells, times, ratings and vectors that must be refused, escaped or decided by rule."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from PIL import Image
from sources import (
    CSV_COLUMNS,
    DAY,
    NO_CORE,
    START,
    amazon2014_source,
    atomic_source,
    csv_source,
    events,
    gaps,
    items,
    manifest,
    mmrec_source,
    prepared,
    write,
)

from recbole_hellm.data.features import load_features
from recbole_hellm.data.prepare import prepare
from recbole_hellm.data.sources.base import SourceOptions
from recbole_hellm.errors import ConfigError

HEAD = "user,item,time\n"


def test_ids_with_tabs_blanks_line_ends_and_other_scripts(tmp_path):
    ids = ["a b", "a\tb", "a\nb", "ключ", '"q"', "NA", "[PAD]", "a%20b", "\u3000"]
    frame = pl.DataFrame(
        {"user": ids, "item": ids[::-1], "time": [START] * len(ids), "title": [f"t {i}" for i in ids[::-1]]}
    )
    frame.write_csv(tmp_path / "r.csv")
    folder = prepared(tmp_path, tmp_path / "r.csv")
    users = events(folder)
    assert len(users) == len(ids)
    assert list(users)[:4] == ["a%20b", "a%09b", "a%0Ab", "ключ"]
    assert set(items(folder)) == {item for of_user in users.values() for item in of_user}
    assert items(folder)["a%09b"] == {"title": "t a b"}


def test_missing_empty_and_long_ids(tmp_path, refused):
    source = write(tmp_path / "r.csv", HEAD + f"u,a,{START}\nu,,{START}\n")
    refused(source, r"r\.csv:3: the item id is missing: complete or delete the row")
    write(source, HEAD + f"u,a,{START}\nu\n")
    refused(source, r"r\.csv:3: the item id is missing")
    write(source, HEAD + f"u,{'x' * 600},{START}\n")
    refused(source, r"r\.csv:2: the item id 'x{40}'\.\.\. is longer than 512 bytes")
    pl.DataFrame({"user": [1.0], "item": [1], "time": [1]}).write_parquet(tmp_path / "r.parquet")
    refused(
        tmp_path / "r.parquet", r"r\.parquet: row 1: column 'user' \(user\) has type Float64; must be text or integers"
    )


def test_shifted_cells(tmp_path, refused):
    source = write(tmp_path / "r.csv", HEAD + f"u,a,{START}\nu,b,c,{START}\n")
    refused(
        source, r"r\.csv:3: 4 cells, but the first line has 3: put a cell with the separator ',' into double quotes"
    )
    write(source, HEAD + f'u,a,{START}\nu,"b"c,{START}\n')
    refused(source, r"r\.csv:3: broken csv record")
    source = atomic_source(tmp_path / "d")
    with (source / "films.inter").open("a") as file:
        file.write("u\ta\t1\t2\t3\n")
    refused(source, r"films\.inter:5: 5 cells, but the first line has 4")


def test_columns_that_are_missing_or_not_clear(tmp_path, refused):
    source = csv_source(tmp_path)
    columns = dict(CSV_COLUMNS, title="nme")
    refused(
        source,
        r"ratings\.csv: no column 'nme' for title \(did you mean 'name'\?\); there are: uid, asin",
        options=SourceOptions(columns=columns),
    )
    write(source, "uid,customer_id,asin,ts\na,b,c,1\n")
    refused(source, r"ratings\.csv: uid or customer_id may be the user: say --columns user=NAME")
    write(source, "uid,asin,when\na,b,1\n")
    refused(source, r"which column is the time\? Say --columns time=NAME; --time-unit row takes the order")
    write(source, "uid,uid,asin,ts\na,b,c,1\n")
    refused(source, r"name 'uid' of column 2 comes twice")
    refused(source, "unknown option 'min_usr' \\(did you mean 'min_user'\\?\\)", ConfigError, filters={"min_usr": 3})


@pytest.mark.parametrize("value", ["", "-5", "soon", "nan", "inf", "1969-12-31"])
def test_times_that_are_none(tmp_path, refused, value):
    source = write(tmp_path / "r.csv", HEAD + f"u,a,{START}\nu,b,{value}\n")
    refused(source, r"r\.csv:3: time is (None|'.*'): seconds or milliseconds since 1970 .*--bad-times drop")
    folder = prepared(tmp_path, source, options=SourceOptions(bad_times="drop"))
    assert events(folder) == {"u": ["a"]}
    assert manifest(folder)["source_rows"]["rows"]["bad_time"] == 1


def test_times_in_two_units(tmp_path, refused):
    source = write(tmp_path / "r.csv", HEAD + f"u,a,{START}\nu,b,{START}000\n")
    refused(source, r"r\.csv:2: time 1400000000 and .*r\.csv:3: time 1400000000000 cannot have one unit")
    assert gaps(prepared(tmp_path, source, options=SourceOptions(time_unit="s")))["u"][1] > 1e7


def test_equal_times_keep_the_order_of_the_source_and_stay_known(tmp_path):
    rows = "".join(f"u,{item},{START}.5\n" for item in "zab") + f"u,c,{START + DAY}.5\n"
    folder = prepared(tmp_path, write(tmp_path / "r.csv", HEAD + rows))
    assert (events(folder), gaps(folder)) == ({"u": ["z", "a", "b", "c"]}, {"u": [0, 0, 0, 1]})
    assert manifest(folder)["counts"]["n_steps_tied_in_time"] == 2


def test_ratings(tmp_path, refused):
    source = write(tmp_path / "r.csv", f"user,item,time,rating\nu,a,{START},5\nu,b,{START},good\nu,c,{START},1\n")
    refused(source, r"r\.csv:3: rating is 'good', a number is needed", filters={"min_rating": 2.0})
    write(source, source.read_text().replace("good", "2"))
    assert events(prepared(tmp_path, source, filters={**NO_CORE, "min_rating": 2.0})) == {"u": ["a", "b"]}


def test_nothing_left(tmp_path, refused):
    refused(
        csv_source(tmp_path),
        r"no interaction is left of 3 \(dropped: .*k core 3.*--min-user 0",
        filters={},
        options=SourceOptions(columns=CSV_COLUMNS),
    )


def test_a_catalogue_without_some_items(tmp_path, refused):
    source = amazon2014_source(tmp_path / "d")
    write(source / "meta_Beauty.json.gz", "{'asin': 'A1'}\n{'title': 'no id'}\n")
    refused(source, r"meta_Beauty\.json\.gz:2: the item id is missing")
    write(source / "meta_Beauty.json.gz", "{'asin': 'A1'}\n")
    refused(source, r"item 'A2' of the interactions has no row in the item texts \(1 such items\)")
    assert items(prepared(tmp_path, source, missing_text="empty")) == {"A1": {}, "A2": {}}


def test_features_without_ids_are_refused(tmp_path, refused):
    source = csv_source(tmp_path)
    given = {"columns": CSV_COLUMNS, "features": (f"image={tmp_path / 'v.npy'}",)}
    np.save(tmp_path / "v.npy", np.ones((2, 3)))
    refused(
        source,
        r"v\.npy: nothing says which item each of its 2 rows belongs to.*v\.ids\.txt",
        options=SourceOptions(**given),
    )
    write(tmp_path / "v.ids.txt", "B\n")
    refused(source, r"v\.npy: 2 rows, but 1 ids in v\.ids\.txt: one id a row", options=SourceOptions(**given))
    write(tmp_path / "v.ids.txt", "B\nB\n")
    refused(source, r"v\.npy: features image: item id 'B' comes twice", options=SourceOptions(**given))
    write(tmp_path / "v.ids.txt", "B\nA\n")
    table = load_features(prepared(tmp_path, source, options=SourceOptions(**given)) / "features" / "image.npy")
    assert table.tokens == ("B", "A")


def test_matrices_that_do_not_fit_their_map(tmp_path, refused):
    source = mmrec_source(tmp_path / "d")
    np.save(source / "image_feat.npy", np.ones((3, 2)))
    refused(source, r"image_feat\.npy: shape \[3, 2\] does not fit the 2 items of i_id_mapping\.csv.*other items")
    (source / "i_id_mapping.csv").unlink()
    refused(source, r"i_id_mapping\.csv is missing: without it nothing says which item a row of image_feat\.npy")


def test_a_data_set_with_arrays_and_no_text(tmp_path):
    """As TikTok's: acoustic, visual, and nothing to read."""
    source = write(tmp_path / "plays.csv", f"user,item,time\nu,A,{START}\nu,B,{START + DAY}\n")
    for name, width in (("acoustic", 3), ("visual", 5)):
        np.save(tmp_path / f"{name}.npy", np.ones((2, width), dtype=np.float32))
        (tmp_path / f"{name}.ids.txt").write_text("B\nA\n")
    given = tuple(f"{name}={tmp_path / name}.npy" for name in ("acoustic", "visual"))
    folder = prepared(tmp_path, source, options=SourceOptions(features=given))
    settings = yaml.safe_load((folder / "mine.yaml").read_text())
    assert settings["item_features"] == ["acoustic", "visual"]
    assert "text_columns" not in settings
    assert load_features(folder / "features" / "visual.npy").vectors.shape == (2, 5)


def test_pictures_beside_vectors_of_them(tmp_path, refused):
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "photos" / "A.jpg")
    given = SourceOptions(images=tmp_path / "photos")
    refused(mmrec_source(tmp_path / "m"), "has vectors 'image' already: leave out --images", options=given)
    csv = csv_source(tmp_path)
    given = SourceOptions(columns=CSV_COLUMNS, images=tmp_path / "fotos")
    refused(csv, r"folder of images .*fotos does not exist: correct --images", options=given)
    (tmp_path / "v.npy").write_bytes(b"")
    given = SourceOptions(images=tmp_path / "photos", features=(f"image={tmp_path / 'v.npy'}",))
    with pytest.raises(ConfigError, match="both say what 'image' is"):
        prepare("mine", csv, tmp_path / "out", options=given)


def test_mmrec_numbers_without_a_name(tmp_path, refused):
    source = mmrec_source(tmp_path / "d")
    write(source / "u_id_mapping.csv", "user_id\tuserID\nAU\t0\n")
    refused(source, r"baby\.inter:4: user '1' is not in u_id_mapping\.csv: take both from one source")
    write(source / "u_id_mapping.csv", "user_id\tuserID\nAU\t0\nAU\t1\n")
    refused(source, r"u_id_mapping\.csv:3: '1' or 'AU' comes a second time")


def test_tensors(tmp_path, refused):
    source = csv_source(tmp_path)

    def given(name):
        return SourceOptions(columns=CSV_COLUMNS, features=(f"emb={tmp_path / name}",))

    torch.save({"A": torch.ones(2), "B": torch.zeros(2) + 2}, tmp_path / "named.pt")
    table = load_features(prepared(tmp_path, source, options=given("named.pt")) / "features" / "emb.npy")
    assert (table.tokens, table.vectors.tolist()) == (("A", "B"), [[1, 1], [2, 2]])
    (tmp_path / "out" / "mine").rename(tmp_path / "old")
    torch.save(torch.ones(2, 2), tmp_path / "bare.pt")
    refused(source, r"bare\.pt: nothing says which item", options=given("bare.pt"))
    torch.save({"a": torch.ones(2, 2), "b": torch.ones(2, 2)}, tmp_path / "two.pt")
    refused(source, r"two\.pt: must hold one matrix .* got dict with 2 matrices", options=given("two.pt"))
    torch.save(Path("x"), tmp_path / "code.pt")
    refused(source, r"code\.pt: no readable \.pt file of plain tensors", options=given("code.pt"))
    refused(source, r"none\.pt is missing: correct --features", options=given("none.pt"))
    refused(
        source, r"'features': emb=x.txt|x.txt must end in", ConfigError, options=SourceOptions(features=("emb=x.txt",))
    )


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_column_names_are_no_patterns(tmp_path, suffix):
    frame = pl.DataFrame({"^u.*$": ["x"], "u2": ["y"], "*": ["a"], "time": [START], "my title": ["t"]})
    path = tmp_path / f"r{suffix}"
    {".csv": frame.write_csv, ".parquet": frame.write_parquet, ".jsonl": frame.write_ndjson}[suffix](path)
    folder = prepared(
        tmp_path, path, options=SourceOptions(columns={"user": "^u.*$", "item": "*", "title": "my title"})
    )
    assert (events(folder), items(folder)) == ({"x": ["a"]}, {"a": {"title": "t"}})
