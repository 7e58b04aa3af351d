import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_hellm.data.template import TextTemplate
from recbole_hellm.errors import ConfigError

ITEM = {"title": "A", "brand": "B", "categories": "C"}


def filled(template, *columns):
    return TextTemplate(template).fill({column: ITEM[column] for column in columns})


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        (("title", "brand", "categories"), "A. Brand: B. C"),
        (("brand", "categories"), "Brand: B. C"),
        (("title", "categories"), "A. C"),
        (("title", "brand"), "A. Brand: B"),
        (("title",), "A"),
        (("brand",), "Brand: B"),
        ((), ""),
    ],
)
def test_a_missing_field_takes_its_piece_with_it(columns, text):
    assert filled("{title}. Brand: {brand}. {categories}", *columns) == text


def test_brackets_labels_and_ends():
    assert filled("{title} ({brand}). {categories}", "title", "categories") == "A. C"
    assert filled("{title} ({brand}). {categories}", "title", "brand") == "A (B)"
    assert filled("Title: {title} by {brand}.", "title") == "Title: A."
    assert filled("Title: {title} by {brand}.", "brand") == "by B."
    assert filled("{title}|{brand}", "title", "brand") == "A|B"
    assert filled("{title}|{brand}", "brand") == "B"
    assert filled("{{x}} {title}{brand}", "title", "brand") == "{x} AB"


@given(st.sets(st.sampled_from(sorted(ITEM))), st.text(alphabet="ab .,:|()\n", max_size=6), st.text(alphabet=" .:x"))
def test_every_present_field_is_there_once_and_in_order(columns, first, second):
    text = TextTemplate(f"{{title}}{first}{{brand}}{second}{{categories}}").fill({c: ITEM[c] for c in columns})
    assert [c for c in text if c in "ABC"] == [ITEM[c] for c in ("title", "brand", "categories") if c in columns]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("no field", "must name a column"),
        ("", "must name a column"),
        ("{title", "open brace"),
        ("{title.__class__}", r"fields of the form \{column\}"),
        ("{title!r}", "fields of the form"),
        ("{title:>10}", "fields of the form"),
        ("{}", "fields of the form"),
    ],
)
def test_bad_templates(template, message):
    with pytest.raises(ConfigError, match=f"setting 'text_template' .*{message}"):
        TextTemplate(template)
