import logging

import polars as pl
import pytest
import yaml
from sources import (
    CSV_COLUMNS,
    DAY,
    NO_CORE,
    SOURCES,
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
    review_2014,
    sequences_source,
    write,
)

from recbole_hellm.data.features import load_features
from recbole_hellm.data.fingerprint import folder_digests
from recbole_hellm.data.manifest import is_prepared
from recbole_hellm.data.prepare import DATASETS, Counts, Recipe, prepare
from recbole_hellm.data.prepare_arguments import FORMATS
from recbole_hellm.data.sources.base import SourceOptions
from recbole_hellm.data.sources.detect import FORMATS as KNOWN
from recbole_hellm.data.sources.detect import find_format
from recbole_hellm.errors import DataError


def options(**given):
    return SourceOptions(**given)


def test_every_format_is_found_out_and_prepared(tmp_path):
    assert set(SOURCES) == set(KNOWN) == set(FORMATS)
    assert len(SOURCES) == 7
    for name, make in SOURCES.items():
        source = make(tmp_path / name)
        columns = options(columns=CSV_COLUMNS) if name == "csv" else None
        assert find_format(source, None).name == name
        if source.is_file():
            assert find_format(source.parent, None).name == name
        folder = prepare(name, source, tmp_path / "out", options=columns, filters=NO_CORE)
        assert is_prepared(folder)
        head = manifest(folder)
        assert (head["n_users"], head["source"]["layout"]) == (2, name)
        assert head["n_interactions"] == sum(map(len, events(folder).values()))
        assert head["fingerprint"] == folder_digests(folder, name)
        assert str(tmp_path) not in (folder / "manifest.json").read_text()
        settings = yaml.safe_load((folder / f"{name}.yaml").read_text())
        assert settings["load_col"] == {"inter": ["user_id", "item_id", "timestamp"]}
        # Again the same: nothing depends on the order of threads.
        again = prepare(name, source, tmp_path / "again", options=columns, filters=NO_CORE)
        assert {p.name: p.read_bytes() for p in again.rglob("*.*")} == {
            p.name: p.read_bytes() for p in folder.rglob("*.*")
        }


def test_csv(tmp_path):
    folder = prepared(tmp_path, csv_source(tmp_path), options=options(columns=CSV_COLUMNS))
    assert events(folder) == {"u1": ["A", "B"], "u2": ["A"]}
    assert gaps(folder) == {"u1": [0, 1], "u2": [0]}
    assert items(folder) == {"A": {"title": "Doll, red", "image": "p/a.jpg"}, "B": {"title": "Car", "image": "p/b.jpg"}}
    settings = yaml.safe_load((folder / "mine.yaml").read_text())
    assert (settings["item_features"], settings["text_columns"]) == (["text"], ["title"])


def test_csv_with_usual_names_needs_no_map(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    source = write(tmp_path / "r.csv", f"user_id;item_id;timestamp;title\n1;2;{START}000;Über\n")
    folder = prepared(tmp_path, source)
    assert (events(folder), items(folder)) == ({"1": ["2"]}, {"2": {"title": "Über"}})
    assert "column 'timestamp' is taken as the time" in caplog.text
    assert "are taken as ms" in caplog.text
    assert manifest(folder)["source_rows"]["time_unit"] == "ms"


def test_csv_without_header_and_without_times(tmp_path):
    source = write(tmp_path / "r.tsv.gz", "u\tb\nu\ta\n")
    given = options(columns={"user": "1", "item": "2"}, header=False, time_unit="row")
    folder = prepared(tmp_path, source, options=given)
    assert (events(folder), gaps(folder)) == ({"u": ["b", "a"]}, {"u": [0, 0]})
    assert yaml.safe_load((folder / "mine.yaml").read_text())["item_features"] == []
    assert items(folder) == {"a": {}, "b": {}}


def test_quoted_line_ends_blank_lines_and_windows_line_ends(tmp_path):
    text = f'\ufeffuser,item,time,title\r\nu,a,{START},"two\r\nlines"\r\n\r\nu,b,{START},"a ""q"""\r\nu,,1,x\r\n'
    source = write(tmp_path / "r.csv", text)
    with pytest.raises(DataError, match=r"r\.csv:6: the item id is missing"):
        prepared(tmp_path, source)
    write(source, text.replace("u,,1,x\r\n", ""))
    assert items(prepared(tmp_path, source)) == {"a": {"title": "two lines"}, "b": {"title": "a ''q''"}}


def test_items_beside_and_given(tmp_path):
    write(tmp_path / "d" / "interactions.csv", f"user,item,time\nu,a,{START}\nu,b,{START}\n")
    write(
        tmp_path / "d" / "items.jsonl",
        '{"item": "a", "title": "A", "tags": ["x", "y"]}\n{"item": "b"}\n{"item": "c"}\n',
    )
    folder = prepared(tmp_path, tmp_path / "d")
    assert items(folder) == {"a": {"title": "A", "keywords": "x y"}, "b": {}}
    other = write(tmp_path / "other.csv", "sku,price,name\na,3,AA\nb,4,\n")
    given = options(items=other, columns={"price": "price"})
    folder = prepared(tmp_path, tmp_path / "d", options=given, force=True)
    assert items(folder) == {"a": {"title": "AA", "price": "3"}, "b": {"price": "4"}}
    assert (folder / "mine.item").read_text().startswith("item_id:token\ttitle:token_seq\tprice:float\n")
    assert yaml.safe_load((folder / "mine.yaml").read_text())["text_columns"] == ["title"]
    assert set(manifest(folder)["source"]["sha256"]) == {"interactions.csv", "other.csv"}


def test_cold_items_are_kept_on_demand(tmp_path):
    source = amazon2014_source(tmp_path / "d")
    assert set(items(prepared(tmp_path, source))) == {"A1", "A2"}
    folder = prepared(tmp_path, source, keep_cold_items=True, force=True)
    assert items(folder)["A9"] == {"title": "Cold"}
    counts = manifest(folder)["counts"]
    assert (counts["n_items"], counts["n_items_without_interactions"]) == (2, 1)


def test_parquet_parts_in_folders_with_one_name(tmp_path):
    for year, user in ((2014, "u"), (2015, "v")):
        part = tmp_path / "d" / f"year={year}" / "part-0.parquet"
        part.parent.mkdir(parents=True)
        pl.DataFrame({"user": [user, user], "item": [1, 2], "time": [START, START + DAY]}).write_parquet(part)
    (tmp_path / "d" / "_SUCCESS").write_text("")
    folder = prepared(tmp_path, tmp_path / "d")
    assert events(folder) == {"u": ["1", "2"], "v": ["1", "2"]}
    assert set(manifest(folder)["source"]["sha256"]) == {"year=2014/part-0.parquet", "year=2015/part-0.parquet"}


def test_many_batches_keep_their_codes(tmp_path, monkeypatch):
    from recbole_hellm.data.sources import parquet_table

    monkeypatch.setattr(parquet_table, "_ROWS", 7)
    n = 200
    frame = pl.DataFrame(
        {"user": [f"u{i % 50}" for i in range(n)], "item": [f"i{i * 7 % 90}" for i in range(n)], "time": range(n)}
    )
    frame.write_parquet(tmp_path / "r.parquet", row_group_size=11)
    expected: dict[str, list[str]] = {}
    for user, item, _ in frame.iter_rows():
        expected.setdefault(user, []).append(item)
    assert events(prepared(tmp_path, tmp_path / "r.parquet")) == expected


def test_amazon2014(tmp_path):
    folder = prepared(tmp_path, amazon2014_source(tmp_path / "d"))
    assert (events(folder), gaps(folder)) == ({"U1": ["A1", "A2"], "U2": ["A1"]}, {"U1": [0, 0], "U2": [0]})
    assert items(folder) == {
        "A1": {
            "title": "It's ''5'' & more",
            "brand": "Acme",
            "categories": "Beauty Hair_Care",
            "image": "http://x/a.jpg",
        },
        "A2": {"title": "Soap", "categories": "Beauty", "description": "old soap"},
    }


def test_amazon2014_ratings_and_the_core_of_s3rec(tmp_path, monkeypatch):
    """5 users took each of 5 items (25 ratings); 4 more users and 4 more items hang on them by too few."""
    reviews = [(f"U{u}", f"A{i}") for u in range(5) for i in range(5)]
    reviews += [(f"V{v}", f"A{i}") for v in range(4) for i in range(4)] + [(f"U{u}", "B") for u in range(4)]
    rows = [review_2014(user, item, START + place, 1.0) for place, (user, item) in enumerate(reviews)]
    source = amazon2014_source(tmp_path / "d", rows)
    folder = prepare("mine", source, tmp_path / "out", format="amazon2014", missing_text="empty")
    assert manifest(folder)["counts"]["n_users"], manifest(folder)["n_items"] == (5, 5)
    assert manifest(folder)["n_interactions"] == 25
    assert manifest(folder)["source_rows"]["rows"] == {
        "read": 45, "bad_time": 0, "low_rating": 0, "duplicates": 0, "k_core": 20, "short_users": 0,
    }  # fmt: skip
    csv = "".join(f"{row['reviewerID']},{row['asin']},{row['overall']},{row['unixReviewTime']}\n" for row in rows)
    ratings = write(tmp_path / "c" / "ratings_Beauty.csv", csv)
    assert find_format(ratings, None).name == "amazon2014"
    (tmp_path / "d" / "meta_Beauty.json.gz").rename(tmp_path / "c" / "meta_Beauty.json.gz")
    same = prepare("mine", ratings.parent, tmp_path / "other", missing_text="empty")
    assert (same / "mine.inter").read_bytes() == (folder / "mine.inter").read_bytes()
    # A known name must come out in its known sizes.
    monkeypatch.setitem(DATASETS, "known", Recipe("s3rec", Counts(5, 5, 25), None, None, None))
    prepare("known", ratings, tmp_path / "out", format="amazon2014", missing_text="empty")
    with pytest.raises(DataError, match="data set known: expected Counts"):
        prepare("known", ratings, tmp_path / "x", format="amazon2014", missing_text="empty", filters=NO_CORE)


def test_amazon2018(tmp_path):
    folder = prepared(tmp_path, SOURCES["amazon2018"](tmp_path / "d"))
    assert events(folder) == {"U1": ["A1", "A2"], "U2": ["A1"]}
    assert items(folder) == {
        "A1": {"title": "Tea", "brand": "Acme", "categories": "Pantry Hot_Tea", "description": "a b",
               "features": "green", "image": "http://x/1.jpg"},
        "A2": {},
    }  # fmt: skip


def test_amazon2023(tmp_path):
    folder = prepared(
        tmp_path, SOURCES["amazon2023"](tmp_path / "d"), options=options(fields=("title", "brand", "categories"))
    )
    assert events(folder) == {"U1": ["P1", "P2"], "U2": ["P1"]}
    assert gaps(folder)["U1"] == [0, 1]
    assert items(folder) == {
        "P1": {"title": "Brush", "brand": "Acme", "categories": "All_Beauty", "image": "http://x/main.jpg"},
        "P2": {"title": "Comb", "brand": "Shop", "categories": "Hair", "image": "u"},
    }


def test_mmrec(tmp_path):
    folder = prepared(tmp_path, mmrec_source(tmp_path / "d"))
    assert events(folder) == {"AU": ["B00X", "B00Y"], "BU": ["B00X"]}
    image = load_features(folder / "features" / "image.npy")
    assert (image.tokens, image.vectors.tolist()) == (("B00X", "B00Y"), [[1, 2], [3, 4]])
    assert load_features(folder / "features" / "text.npy").tokens == ("B00X",)  # the other row is all zero
    assert yaml.safe_load((folder / "mine.yaml").read_text())["item_features"] == ["image", "text"]


def test_sequences(tmp_path):
    source = sequences_source(tmp_path / "d")
    folder = prepared(tmp_path, source)
    assert (events(folder), gaps(folder)) == ({"1": ["1", "2", "3"], "2": ["2", "3"]}, {"1": [0, 0, 5], "2": [0, 7]})
    assert items(folder)["2"] == {"title": "t 2"}
    (source / "Toys_daygaps.txt.gz").unlink()
    folder = prepared(tmp_path, source, force=True)
    assert (events(folder)["1"], gaps(folder)["1"]) == (["1", "2", "3"], [0, 0, 0])


def test_atomic(tmp_path):
    source = atomic_source(tmp_path / "d")
    folder = prepared(tmp_path, source)
    assert events(folder) == {"u1": ["b", "a"], "u2": ["a"]}
    assert items(folder) == {"a": {"title": "The ''A''", "categories": "Drama_Crime"}, "b": {"title": "B"}}
    folder = prepared(tmp_path, source, filters={"min_rating": 3.0}, force=True)
    assert events(folder) == {"u1": ["b", "a"]}


def test_what_was_prepared_can_be_a_source(tmp_path):
    first = prepared(tmp_path, csv_source(tmp_path), options=options(columns=CSV_COLUMNS))
    again = prepare("mine", first, tmp_path / "again")
    assert events(again) == events(first)
    assert items(again) == items(first)
