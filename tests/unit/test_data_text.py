import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_hellm.data.text import category_text, category_tokens, clean_text, item_texts


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        (None, ""),
        ("", ""),
        (" \t\n ", ""),
        ("None", ""),
        ("NaN", ""),
        ("Barbie &amp; Ken", "Barbie & Ken"),
        ("Barbie &amp;amp; Ken", "Barbie & Ken"),
        ("the Commander&#x2019;s", "the Commander’s"),
        ("<b>Fun</b><br/>for all", "Fun for all"),
        ("&lt;b&gt;Fun&lt;/b&gt;", "Fun"),
        ("ages 3 < 5 and 9 > 7", "ages 3 < 5 and 9 > 7"),
        ("one\ttwo\r\nthree\u00a0four", "one two three four"),
        ("zero\u200bwidth\x00", "zerowidth"),
        ('"Quoted" 12" doll', "''Quoted'' 12'' doll"),
        ("banana", "banana"),
        ("fits <b without end", "fits <b without end"),
        ("5<script>alert(1)</script> to <style>p {}</style>9", "5 to 9"),
        ("<!-- hidden -->seen", "seen"),
    ],
)
def test_clean_text_known_answers(raw, clean):
    assert clean_text(raw) == clean


@given(st.text())
def test_clean_text_fits_one_cell(raw):
    clean = clean_text(raw)
    assert not set(clean) & set('\t\n\r"')
    assert clean == " ".join(clean.split())
    assert not any(unicodedata.category(c) in ("Cc", "Cf") for c in clean)


def test_hostile_markup_ends_soon():
    for piece in ("<div>", "<", "<!--", "<a b='", "</", "&amp;"):
        started = time.perf_counter()
        assert len(clean_text(piece * 300_000)) <= 100_000
        assert time.perf_counter() - started < 20


def test_categories_keep_names_whole_and_distinct():
    nested = [["Toys & Games", "Dolls &amp; Accessories"], ["Toys & Games", "Games"]]
    assert category_tokens(nested) == "Toys_&_Games Dolls_&_Accessories Games"
    assert category_text(category_tokens(nested)) == "Toys & Games, Dolls & Accessories, Games"
    assert category_tokens("Toys") == "Toys"
    assert category_tokens(None) == category_tokens([]) == category_tokens([[None, ""]]) == ""


def test_item_texts_drop_what_says_nothing():
    row = {"id": 1, "title": None, "brand": "Unknown", "keywords": "a b", "description": ["x", None, "<p>y</p>"]}
    assert item_texts(row) == {"description": "x y", "keywords": "a b"}
    assert item_texts({"title": "Unknown", "brand": "OPI"}) == {"title": "Unknown", "brand": "OPI"}
