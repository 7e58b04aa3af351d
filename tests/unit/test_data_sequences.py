import gzip
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_hellm.data.sequences import find_source, read_catalogue, read_sequences, source_files
from recbole_hellm.errors import DataError

NAME = "Tiny"
SEQUENCES = "1 1 2 3\n2 2 3\n"
GAPS = "1 0 0 5\n2 0 7\n"
TEXTS = "".join(json.dumps({"id": i, "asin": f"A{i}", "title": f"title {i}"}) + "\n" for i in (1, 2, 3))
ASINS = "item_id\tasin\n1\tA1\n2\tA2\n3\tA3\n"


@pytest.fixture
def source(tmp_path):
    write(tmp_path)
    return tmp_path


def write(folder, sequences=SEQUENCES, gaps=GAPS, texts=TEXTS, asins=ASINS):
    (folder / f"{NAME}.txt").write_text(sequences)
    (folder / f"{NAME}_daygaps.txt.gz").write_bytes(gzip.compress(gaps.encode()))
    (folder / "item_text.jsonl.gz").write_bytes(gzip.compress(texts.encode()))
    (folder / "item2asin.tsv").write_text(asins)


def read_all(folder):
    return list(read_sequences(folder, NAME))


def test_known_answer(source):
    first, second = read_all(source)
    assert (first.user, first.items, first.day_gaps) == ("1", ("1", "2", "3"), (0.0, 0.0, 5.0))
    assert first.timestamps == (1, 2, 8)
    assert second.timestamps == (1, 9)
    items = list(read_catalogue(source))
    assert [item.token for item in items] == ["1", "2", "3"]
    assert items[2].texts == {"title": "title 3"}


@given(st.lists(st.integers(0, 6000), min_size=1, max_size=60))
def test_order_survives_float32(tmp_path_factory, gaps):
    folder = tmp_path_factory.mktemp("source")
    items = " ".join(str(i + 1) for i in range(len(gaps)))
    write(folder, f"1 {items}\n", f"1 {' '.join(map(str, gaps))}\n")
    (sequence,) = read_all(folder)
    times = np.array(sequence.timestamps, dtype=np.float32)
    assert (np.diff(times) > 0).all()
    assert times.astype(int).tolist() == list(sequence.timestamps)
    days = np.array(sequence.timestamps) - np.arange(1, len(gaps) + 1)
    assert np.diff(days).tolist() == gaps[1:]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"sequences": "1 1 2 x\n2 2 3\n"}, r"Tiny\.txt:1: expected an integer >= 1, got 'x'"),
        ({"sequences": "1 1 2 0\n2 2 3\n"}, r"Tiny\.txt:1: expected an integer >= 1, got '0'"),
        ({"sequences": "1 1 2 3\n2 2 1_0\n"}, r"Tiny\.txt:2: .* got '1_0'"),
        ({"sequences": "1 1 2 3\n\n"}, r"Tiny\.txt:2: the line is empty"),
        ({"sequences": "1 1 2 3\n2\n"}, r"Tiny\.txt:2: user 2 has no items"),
        ({"sequences": "1 1 2 3\n1 2 3\n", "gaps": "1 0 0 5\n1 0 7\n"}, r"Tiny\.txt:2: user 1 comes a second time"),
        ({"sequences": ""}, r"Tiny\.txt: the file is empty"),
        ({"gaps": "1 0 0\n2 0 7\n"}, r"daygaps\.txt\.gz:1: user 1 with 2 gaps does not align .* 3 items"),
        ({"gaps": "9 0 0 5\n2 0 7\n"}, r"daygaps\.txt\.gz:1: user 9 .* does not align with user 1"),
        ({"gaps": "1 0 0 5\n"}, r"daygaps\.txt\.gz: line 2 is missing"),
        ({"sequences": "1 1 2 3\n"}, r"Tiny\.txt: line 2 is missing"),
        ({"gaps": "1 0 -1 5\n2 0 7\n"}, r"daygaps\.txt\.gz:1: expected an integer >= 0, got '-1'"),
        ({"gaps": "1 0 0 99999999\n2 0 7\n"}, r"must be < 2\*\*24"),
    ],
)
def test_bad_sequences(source, changed, message):
    write(source, **changed)
    with pytest.raises(DataError, match=message) as caught:
        read_all(source)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"texts": TEXTS + "{broken\n"}, r"item_text\.jsonl\.gz:4: broken JSON"),
        ({"texts": "[1]\n"}, r"jsonl\.gz:1: expected an object with an integer 'id'"),
        ({"texts": '{"id": "1"}\n'}, r"jsonl\.gz:1: expected an object with an integer 'id'"),
        ({"texts": '{"id": true}\n'}, r"jsonl\.gz:1: expected an object with an integer 'id'"),
        ({"texts": TEXTS + TEXTS}, r"jsonl\.gz:4: item 1 comes a second time"),
        ({"asins": ASINS.replace("A2", "A9")}, r"jsonl\.gz:2: item 2 is 'A2' here and 'A9' in item2asin"),
        ({"asins": "item_id,asin\n"}, r"item2asin\.tsv:1: expected"),
    ],
)
def test_bad_catalogue(source, changed, message):
    write(source, **changed)
    with pytest.raises(DataError, match=message) as caught:
        list(read_catalogue(source))
    assert "\n" not in str(caught.value)


def test_broken_gzip_and_encoding(source):
    path = source / "item_text.jsonl.gz"
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(DataError, match="broken gzip"):
        list(read_catalogue(source))
    path.write_bytes(b"no gzip at all")
    with pytest.raises(DataError, match="broken gzip"):
        list(read_catalogue(source))
    (source / f"{NAME}.txt").write_bytes(b"1 \xff\xfe\n")
    with pytest.raises(DataError, match="not UTF-8"):
        read_all(source)


def test_source_is_the_folder_or_its_parent(tmp_path):
    own = tmp_path / NAME
    own.mkdir()
    write(own)
    assert find_source(own, NAME) == find_source(tmp_path, NAME) == own
    assert len(source_files(own, NAME)) == 4


def test_missing_sources(source, tmp_path_factory):
    empty = tmp_path_factory.mktemp("empty")
    for folder, message in [
        (empty / "nowhere", "does not exist: give --source"),
        (empty, "is empty"),
    ]:
        with pytest.raises(DataError, match=message):
            find_source(folder, NAME)
    with pytest.raises(DataError, match=r"file Other\.txt is missing"):
        find_source(source, "Other")
    for file in ("Tiny_daygaps.txt.gz", "item_text.jsonl.gz", "item2asin.tsv"):
        content = (source / file).read_bytes()
        (source / file).unlink()
        with pytest.raises(DataError, match=f"{file} is missing"):
            source_files(source, NAME)
        (source / file).write_bytes(content)
