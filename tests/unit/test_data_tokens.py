import io

import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_hellm.data.event_table import safe_tokens
from recbole_hellm.data.tokens import _MISSING_WORDS, escaped, one_line, unescaped

IDS = st.text(min_size=1, max_size=8) | st.sampled_from(sorted({*_MISSING_WORDS, "[PAD]", "%", "a b", "\u2028"}))


@pytest.mark.parametrize(
    ("token", "cell"),
    [
        ("B000123", "B000123"),
        ("a b", "a%20b"),
        ("a\tb\nc", "a%09b%0Ac"),
        ('"x"', "%22x%22"),
        ("50%", "50%25"),
        ("naïve-Ж", "naïve-Ж"),
        ("NA", "%4EA"),
        ("[PAD]", "%5BPAD]"),
        ("\u00a0", "%C2%A0"),
    ],
)
def test_known_answers(token, cell):
    assert escaped(token) == cell
    assert unescaped(cell) == token


@given(st.lists(IDS, min_size=1, max_size=6, unique=True))
def test_ids_come_back_through_recboles_reader(ids):
    cells = [escaped(token) for token in ids]
    assert [unescaped(cell) for cell in cells] == ids
    text = "item_id:token\tx:float\n" + "".join(f"{cell}\t1\n" for cell in cells)
    read = pd.read_csv(io.StringIO(text), delimiter="\t", dtype={"item_id:token": str})
    assert read["item_id:token"].tolist() == cells
    assert read["x:float"].tolist() == [1] * len(cells)
    assert [line.split("\t")[0].strip() for line in text.split("\n")[1:-1]] == cells  # as features/*.ids.txt is read


@given(st.lists(IDS, max_size=6))
def test_the_quick_way_is_the_same(ids):
    assert safe_tokens(pl.Series(ids, dtype=pl.String)) == [escaped(token) for token in ids]


def test_every_missing_word_of_pandas_is_known():
    from pandas._libs.parsers import STR_NA_VALUES

    assert set(STR_NA_VALUES) - {""} <= _MISSING_WORDS


def test_one_line():
    assert one_line(' photos/a b\t"1".jpg\n') == "photos/a b%09%221%22.jpg"
