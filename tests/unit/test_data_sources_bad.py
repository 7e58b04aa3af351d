"""Bad input of every kind: one line that names file and record, and no part of a data set."""

import gzip
import json
from contextlib import suppress

import polars as pl
import pytest
from sources import (
    CSV_COLUMNS,
    START,
    amazon2014_source,
    amazon2023_source,
    atomic_source,
    csv_source,
    items,
    lines,
    prepared,
    review_2014,
    sequences_source,
    write,
)

from recbole_hellm.data import reading
from recbole_hellm.data.prepare import prepare
from recbole_hellm.data.sources import records
from recbole_hellm.data.sources.base import SourceOptions
from recbole_hellm.errors import ConfigError, DataError

HEAD = "user,item,time\n"


def test_truncated_gzip_says_after_which_record(tmp_path, refused):
    reviews = [review_2014(f"U{i}", f"A{i * 7919 % 1000}", START + i) for i in range(1000)]
    source = amazon2014_source(tmp_path / "d", reviews)
    path = source / "reviews_Beauty_5.json.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    reader, known = reading.read_lines(path), 0
    with suppress(DataError):
        while True:
            known, _ = next(reader)
    assert 100 < known < 1000
    refused(source, rf"reviews_Beauty_5\.json\.gz: broken gzip after line {known} \(.*\): copy the file again")
    path.write_bytes(whole[:-6])  # all lines, but not the checksum behind them
    refused(source, "broken gzip after line 1000")
    path.write_bytes(b"{}\n")
    refused(source, "broken gzip after line 0", format="amazon2014")


def test_truncated_csv_gzip(tmp_path, refused):
    text = HEAD + "".join(f"u{i * 7919 % 100000},i{i * 31 % 5000},{START + i}\n" for i in range(50_000))
    source = write(tmp_path / "r.csv.gz", text)
    source.write_bytes(source.read_bytes()[:-100_000])
    refused(source, r"r\.csv\.gz: broken gzip after line \d{4,5} ")


def test_mixed_encodings(tmp_path, refused):
    source = write(tmp_path / "r.csv", (HEAD + f"ü,a,{START}\n").encode() + f"ü,b,{START}\n".encode("latin-1"))
    refused(source, r"r\.csv: not UTF-8 after line 2 \(invalid start byte\): save the file as UTF-8")
    write(source, (HEAD + f"u,a,{START}\n").encode("utf-16"))
    refused(source, r"not UTF-8 after line 0 .* \(it seems to be UTF-16\)")
    source = amazon2023_source(tmp_path / "d")
    write(source / "meta_All_Beauty.jsonl.gz", b'{"parent_asin": "P1"}\n{"parent_asin": "P2", "title": "\xe9"}\n')
    refused(source, r"meta_All_Beauty\.jsonl\.gz: not UTF-8 after line 1")


def test_an_absurdly_long_line(tmp_path, refused, monkeypatch):
    monkeypatch.setattr(reading, "MAX_RECORD_BYTES", 1000)
    monkeypatch.setattr(reading, "BLOCK_BYTES", 300)
    source = write(tmp_path / "r.csv", HEAD + f"u,a,{START}\n" + "x" * 2000)
    refused(source, r"r\.csv:3: the record is longer than 1000 bytes, the limit")
    write(source, HEAD + f'u,"a,{START}\n' + f"u,b,{START}\n" * 200)  # a quote that is never closed
    refused(source, r"r\.csv:\d+: the record is longer than 1000 bytes.*a quote that is never closed")
    source = amazon2014_source(tmp_path / "d")
    with gzip.open(source / "meta_Beauty.json.gz", "at") as file:
        file.write("{'asin': '" + "A" * 10_000_000 + "'}\n")
    refused(source, r"meta_Beauty\.json\.gz:4: the record is longer than 1000 bytes")


@pytest.mark.parametrize(
    "bomb", ['{"asin": ' + "[" * 100_000, '{"a":' * 50_000 + "1" + "}" * 50_000, '{"asin": ' + "9" * 9999 + "}"]
)
def test_json_bombs(tmp_path, refused, bomb):
    source = amazon2023_source(tmp_path / "d")
    write(
        source / "All_Beauty.jsonl.gz", lines([{"user_id": "u", "parent_asin": "P1", "timestamp": START}]) + bomb + "\n"
    )
    refused(source, r"All_Beauty\.jsonl\.gz:2: (broken JSON|the )", missing_text="empty")


@pytest.mark.parametrize(
    "literal",
    [
        "{'asin': __import__('os').system('true')}",
        "{'asin': " + "[" * 1000 + "]" * 1000 + "}",
        "{'asin': " + "-" * 100_000 + "1}",
        "{'asin': 1" + "+1" * 100_000 + "}",
        "{'asin': " + "not " * 10_000 + "1}",
        "{'asin': 'A1'",
        "{'asin': 9" + "9" * 9999 + "}",
        "{['a']: 1}",
        "['A1']",
        "\x00",
    ],
)
def test_python_notation_is_never_run(tmp_path, refused, literal):
    source = amazon2014_source(tmp_path / "d")
    write(source / "meta_Beauty.json.gz", "{'asin': 'A1'}\n" + literal + "\n")
    refused(source, r"meta_Beauty\.json\.gz:2: (no dictionary in Python notation|expected a dictionary)")


def test_a_long_literal(tmp_path, refused, monkeypatch):
    monkeypatch.setattr(records, "MAX_LITERAL_LENGTH", 100)
    source = amazon2014_source(tmp_path / "d")
    write(source / "meta_Beauty.json.gz", "{'asin': 'A1', 'title': '" + "x" * 100 + "'}\n")
    refused(source, r"meta_Beauty\.json\.gz:1: the record is longer than 100 characters, the limit")


def test_an_item_that_comes_twice(tmp_path, refused, caplog):
    source = csv_source(tmp_path)
    given = {"options": SourceOptions(columns=CSV_COLUMNS)}
    text = source.read_text()
    write(source, text + f"u3,A,{START},5,Another doll,p/a.jpg\n")
    refused(
        source,
        r"csv:5: item 'A' comes a second time with other texts \(now title 'Another doll'\).*--conflicts first",
        **given,
    )
    folder = prepared(tmp_path, source, options=SourceOptions(columns=CSV_COLUMNS, conflicts="first"))
    assert items(folder)["A"]["title"] == "Doll, red"
    assert "1 with other texts" in caplog.text


def test_two_sources_that_disagree_on_an_item(tmp_path, refused):
    source = sequences_source(tmp_path / "d")
    write(source / "item2asin.tsv", "item_id\tasin\n1\tA1\n2\tOTHER\n3\tA3\n")
    refused(
        source,
        r"item_text\.jsonl\.gz:2: item 2 is 'A2' here and 'OTHER' in item2asin\.tsv: take both files from one source",
    )


@pytest.mark.parametrize("n_bytes", [0, 50, 400])
def test_a_full_disk(tmp_path, disk_full, n_bytes):
    rows = "".join(f"u{u},i{i},{START}\n" for u in range(9) for i in range(9))
    source = write(tmp_path / "r.csv", HEAD + rows)
    with (
        disk_full(n_bytes),
        pytest.raises(DataError, match="cannot write .*mine.*nothing was changed there: free space"),
    ):
        prepared(tmp_path, source)
    assert list((tmp_path / "out").iterdir()) == []


def test_empty_files_and_unknown_formats(tmp_path, refused):
    source = write(tmp_path / "d" / "r.csv", "")
    refused(source, r"r\.csv: the file is empty")
    write(source, HEAD)
    refused(source, "the source has no interaction")
    refused(tmp_path / "nowhere", "source .*nowhere does not exist")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "source folder .*empty is empty")
    refused(write(tmp_path / "x.bin", "?"), "x.bin: unknown format; say which with --format. sequences: ")
    refused(source, r"unknown format 'cvs' \(did you mean 'csv'\?\); known: sequences, amazon2014", format="cvs")
    refused(write(tmp_path / "y.xls", "?"), r"y\.xls: unknown ending '\.xls': a table is", format="csv")
    write(tmp_path / "p.parquet", "no")
    refused(tmp_path / "p.parquet", r"p\.parquet: no readable Parquet file")


def test_a_format_that_is_not_clear(tmp_path, refused):
    source = sequences_source(tmp_path / "d")
    atomic_source(tmp_path / "d")
    message = refused(source, "may be sequences .*; atomic .*: say which with --format")
    assert "Toys.txt has lines of numbers" in message
    review = review_2014("U1", "A1", START)
    del review["helpful"]
    refused(write(tmp_path / "r.json", json.dumps(review) + "\n"), "may be amazon2014 .*; amazon2018 ")
    atomic = atomic_source(tmp_path / "two")
    (atomic / "films.inter").rename(atomic / "a.inter")
    write(atomic / "b.inter", (atomic / "a.inter").read_text())
    refused(atomic, "one .inter file is needed, found: a.inter, b.inter; give --source the file itself")


def test_parts_of_two_schemas(tmp_path, refused):
    for name, frame in (
        ("a", {"user": ["u"], "item": [1], "time": [1]}),
        ("b", {"user": ["u"], "item": ["1"], "time": [1]}),
    ):
        (tmp_path / "d").mkdir(exist_ok=True)
        pl.DataFrame(frame).write_parquet(tmp_path / "d" / f"{name}.parquet")
    refused(tmp_path / "d", r"b\.parquet: column 'item' is another one than in a\.parquet: one schema is needed")


@pytest.mark.parametrize("name", ["../x", "", "a/b", ".x", "a b", "x" * 200])
def test_names(tmp_path, name):
    with pytest.raises(ConfigError, match="must be letters, digits"):
        prepare(name, csv_source(tmp_path), tmp_path / "out")
