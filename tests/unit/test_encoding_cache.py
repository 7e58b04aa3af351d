import hashlib
import logging

import numpy as np
import pytest

from recbole_hellm.encoders import cache as module
from recbole_hellm.encoders.cache import EncodingCache, Things, encode_cached
from recbole_hellm.errors import ArtifactError, DataError

TEXTS = [f"text {i % 40}" for i in range(50)]


class Counting:
    """Encodes a text as three numbers, and notes what it was given; may stop after some batches."""

    name, dim = "counting / odd name", 3

    def __init__(self, stop_after=None, version=1):
        self.batches, self.stop_after, self.version = [], stop_after, version

    def encode(self, texts):
        if self.stop_after is not None and len(self.batches) >= self.stop_after:
            raise KeyboardInterrupt
        self.batches.append(list(texts))
        # what stands in the same batch enters, as rounding does
        company = 1e-3 * sum(map(len, texts))
        return np.array([[len(t), int(t.split()[1]), company] for t in texts], dtype=np.float32)

    def fingerprint(self):
        return hashlib.sha256(str(self.version).encode()).hexdigest()


def things(texts=TEXTS, broken=(), batch=8):
    digests = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
    return Things(digests, lambda places: [None if texts[p] in broken else texts[p] for p in places], batch, "texts")


def encoded(encoder, folder, **changes):
    return encode_cached(encoder, things(**changes), EncodingCache(folder, encoder))


def test_equal_things_are_encoded_once_and_kept(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    first, second = Counting(), Counting()
    vectors = encoded(first, tmp_path)
    assert [len(batch) for batch in first.batches] == [8] * 5
    assert vectors[:, 1].tolist() == [i % 40 for i in range(50)]
    np.testing.assert_array_equal(encoded(second, tmp_path), vectors)
    assert second.batches == []
    assert "40 of 40 distinct texts encoded" in caplog.text
    assert "40 were in" in caplog.text
    (chunk,) = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert (chunk.suffix, chunk.parent.name[:18]) == (".safetensors", "counting-odd-name-")


def test_another_catalogue_reuses_what_it_shares(tmp_path):
    encoded(Counting(), tmp_path)
    more = Counting()
    vectors = encoded(more, tmp_path, texts=["text 99", "text 3", "text 98"])
    assert more.batches == [["text 99", "text 98"]]
    assert vectors[:, 1].tolist() == [99, 3, 98]


def test_another_encoder_shares_nothing(tmp_path):
    encoded(Counting(), tmp_path)
    other = Counting(version=2)
    encoded(other, tmp_path)
    assert len(other.batches) == 5


@pytest.mark.parametrize("broken", [(), ("text 1", "text 9")])
def test_a_stopped_encoding_continues_with_the_same_bits(tmp_path, broken):
    whole = encoded(Counting(), tmp_path / "whole", broken=broken)
    stopped, resumed = Counting(stop_after=3), Counting()
    with pytest.raises(KeyboardInterrupt):
        encoded(stopped, tmp_path / "cut", broken=broken)
    np.testing.assert_array_equal(encoded(resumed, tmp_path / "cut", broken=broken), whole)
    assert [len(batch) for batch in resumed.batches] == [8, 8]
    assert not {text for batch in stopped.batches for text in batch} & {t for batch in resumed.batches for t in batch}


def test_a_killed_process_loses_at_most_what_was_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK_ROWS", 16)
    writer = module._Writer(EncodingCache(tmp_path, Counting()))
    for start in range(0, 40, 8):  # the process ends here without a word
        writer.add(things().digests[start : start + 8], np.ones((8, 3), dtype=np.float32))
    assert EncodingCache(tmp_path, Counting()).read(things().digests[:40])[1].sum() == 32
    monkeypatch.setattr(module, "_FLUSH_SECONDS", 0.0)
    writer.add(things().digests[:1], np.ones((1, 3), dtype=np.float32))
    assert EncodingCache(tmp_path, Counting()).read(things().digests[:40])[1].all()


def test_broken_things_are_zero_and_tried_again(tmp_path):
    vectors = encoded(Counting(), tmp_path, broken=("text 1",))
    assert not vectors[1].any()
    assert vectors.any(axis=1).sum() == 48
    again = Counting()
    assert encoded(again, tmp_path)[1].any()
    assert again.batches == [["text 1"]]


def test_a_damaged_chunk_is_encoded_again(tmp_path, caplog):
    whole = encoded(Counting(), tmp_path)
    chunk = next(tmp_path.rglob("chunk-*"))
    chunk.write_bytes(chunk.read_bytes()[:50])
    again = Counting()
    np.testing.assert_array_equal(encoded(again, tmp_path), whole)
    assert len(again.batches) == 5
    assert "left out, its content is encoded again" in caplog.text


def test_a_full_disk_and_bad_numbers(tmp_path, disk_full):
    with disk_full(100), pytest.raises(ArtifactError, match="cannot be written to .* set stage_cache_dir"):
        encoded(Counting(), tmp_path)
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []
    broken = Counting()
    broken.encode = lambda texts: np.full((len(texts), 3), np.nan, dtype=np.float32)
    with pytest.raises(DataError, match="gave NaN or infinity"):
        encoded(broken, tmp_path)
