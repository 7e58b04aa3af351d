import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_hellm.data.features import FeatureTable, align, load_features
from recbole_hellm.errors import DataError

PAD = "[PAD]"


def table(rows, tokens):
    return FeatureTable("t", np.array(rows, dtype=np.float32), tuple(tokens))


@given(st.permutations(list(range(8))), st.permutations(list(range(8))))
def test_rows_follow_their_tokens(rows, items):
    aligned = align(table([[r + 1, -r] for r in rows], map(str, rows)), [PAD, *map(str, items)], "error")
    assert aligned.vectors.tolist() == [[0, 0], *([i + 1, -i] for i in items)]
    assert aligned.present.tolist() == [False] + [True] * 8
    assert aligned.vectors.dtype == np.float32


def test_missing_rows_and_zero_rows(caplog):
    caplog.set_level(logging.INFO)
    features = table([[2, 4], [0, 0], [4, 0], [9, 9]], "abcx")
    items = [PAD, "a", "b", "c", "d"]
    mean = align(features, items, "mean")
    # x is not in the data set: it must not enter the mean
    assert mean.vectors.tolist() == [[0, 0], [2, 4], [3, 2], [4, 0], [3, 2]]
    assert mean.present.tolist() == [False, True, False, True, False]
    assert align(features, items, "zero").vectors.tolist() == [[0, 0], [2, 4], [0, 0], [4, 0], [0, 0]]
    coverage = mean.coverage
    assert (coverage.n_items, coverage.n_present, coverage.n_absent) == (4, 2, 1)
    assert (coverage.n_zero, coverage.n_unused, coverage.ratio) == (1, 1, 0.5)
    assert "2 of 4 items (50.00 %)" in caplog.text
    with pytest.raises(DataError, match="item 'b' has no vector"):
        align(features, items, "error")


@pytest.mark.parametrize("missing", ["mean", "zero", "error"])
def test_no_overlap_is_always_an_error(missing):
    with pytest.raises(DataError, match=r"no item of the data set has a vector: its ids \(a, ...\) must be"):
        align(table([[1.0]], "a"), [PAD, "1", "2"], missing)
    with pytest.raises(DataError, match="no item of the data set"):
        align(table([[0.0]], "1"), [PAD, "1", "2"], missing)


def test_bad_arguments_of_align():
    with pytest.raises(ValueError, match="did you mean 'mean'"):
        align(table([[1.0]], "a"), [PAD, "a"], "means")
    with pytest.raises(ValueError, match="at least one item"):
        align(table([[1.0]], "a"), [PAD], "mean")


@pytest.mark.parametrize(
    ("rows", "tokens", "message"),
    [
        ([[1], [2]], "abc", "2 rows but 3 ids"),
        ([[1], [2], [3]], "aba", "item id 'a' comes twice"),
        ([[1], [np.nan], [np.inf]], "abc", r"row 1 \(item 'b'\) has NaN or infinity"),
        ([1, 2], "ab", "shape must be"),
        (np.zeros((0, 3)), "", "shape must be"),
    ],
)
def test_bad_tables(rows, tokens, message):
    with pytest.raises(DataError, match=message):
        table(rows, tokens)


def save(folder, matrix, ids=None):
    np.save(folder / "f.npy", matrix)
    if ids is not None:
        (folder / "f.ids.txt").write_text("".join(f"{i}\n" for i in ids))
    return folder / "f.npy"


def test_load_maps_float32_and_converts_float16(tmp_path):
    matrix = np.array([[1.5, 2], [0, 4]], dtype=np.float32)
    loaded = load_features(save(tmp_path, matrix, [7, 9]))
    assert isinstance(loaded.vectors, np.memmap)
    assert loaded.tokens == ("7", "9")
    half = load_features(save(tmp_path, matrix.astype(np.float16), [7, 9]))
    assert half.vectors.dtype == np.float32
    assert half.vectors.tolist() == matrix.tolist()


def test_load_accepts_other_id_files(tmp_path):
    path = save(tmp_path, np.ones((2, 1)))
    (tmp_path / "ids.tsv").write_text("item_id\tasin\n4\tX\n5\tY\n")
    np.save(tmp_path / "ids.npy", np.array([4, 5]))
    for name in ("ids.tsv", "ids.npy"):
        assert load_features(path, tmp_path / name).tokens == ("4", "5")


def test_load_refuses_bad_files(tmp_path):
    with pytest.raises(DataError, match=r"f\.npy is missing"):
        load_features(tmp_path / "f.npy")
    path = save(tmp_path, np.ones((2, 1)))
    with pytest.raises(DataError, match=r"f\.ids\.txt is missing"):
        load_features(path)
    with pytest.raises(DataError, match="2 rows but 1 ids"):
        load_features(save(tmp_path, np.ones((2, 1)), [1]))
    with pytest.raises(DataError, match=r"f\.ids\.txt:2: the line has no item id"):
        load_features(save(tmp_path, np.ones((2, 1)), [1, ""]))
    with pytest.raises(DataError, match="type must be float16"):
        load_features(save(tmp_path, np.ones((2, 1), dtype=int), [1, 2]))
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="without objects"):
        load_features(path)
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(DataError, match=r"no readable \.npy"):
        load_features(path)


def test_float64_overflow_is_found(tmp_path):
    with pytest.raises(DataError, match=r"row 0 \(item '1'\) has NaN or infinity"):
        load_features(save(tmp_path, np.array([[1e300]]), [1]))
