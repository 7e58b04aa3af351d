import pytest

from recbole_hellm.data.catalogue import (
    item_columns,
    number_columns,
    read_column,
    read_item_text,
    read_templated_text,
)
from recbole_hellm.data.template import TextTemplate
from recbole_hellm.errors import DataError

HEADER = "item_id:token\ttitle:token_seq\tcategories:token_seq\n"


@pytest.fixture
def item_file(tmp_path):
    path = tmp_path / "x.item"
    path.write_text(HEADER + "7\tA doll\tToys_&_Games Dolls\n8\t\tToys_&_Games\n9\t\t\n")
    return path


def test_columns_are_joined_in_the_order_asked_for(item_file):
    texts = read_item_text(item_file, ["categories", "title"])
    assert texts == {"7": "Toys & Games, Dolls. A doll", "8": "Toys & Games", "9": ""}
    assert read_item_text(item_file, ["title"])["7"] == "A doll"


def test_item_columns(item_file):
    assert item_columns(item_file) == ["title", "categories"]
    item_file.write_text("item_id:token\n7\n")
    with pytest.raises(DataError, match="no column of text beside item_id"):
        item_columns(item_file)


def test_numbers_and_pictures_are_no_text(item_file):
    header = "item_id:token\ttitle:token_seq\tprice:float\tsizes:float_seq\timage:token\n"
    item_file.write_text(header + "7\tA doll\t9.5\t1 2\t7.jpg\n8\tB\t\t\t\n")
    assert item_columns(item_file) == ["title"]
    assert number_columns(item_file) == ["price"]
    assert number_columns(item_file.with_name("none.item")) == []
    assert read_column(item_file, "price") == {"7": "9.5"}
    with pytest.raises(DataError, match=r"unknown column 'pric' \(did you mean 'price'"):
        read_column(item_file, "pric")


def test_a_template_writes_out_categories_and_drops_empty_columns(item_file):
    texts = read_templated_text(item_file, TextTemplate("{title}. Kinds: {categories}"))
    assert texts == {"7": "A doll. Kinds: Toys & Games, Dolls", "8": "Kinds: Toys & Games", "9": ""}
    with pytest.raises(DataError, match=r"unknown column 'brand'"):
        read_templated_text(item_file, TextTemplate("{brand}"))


def test_one_line_errors(item_file, tmp_path):
    with pytest.raises(DataError, match=r"unknown column 'titel' \(did you mean 'title'\?\); known: title, categories"):
        read_item_text(item_file, ["titel"])
    with pytest.raises(DataError, match=r"nothing\.item is missing"):
        read_item_text(tmp_path / "nothing.item", ["title"])
    with pytest.raises(ValueError, match="at least one text column"):
        read_item_text(item_file, [])
    for content, message in [
        (HEADER + "7\tA doll\n", ":2: expected 3 tab-separated cells, got 2"),
        (HEADER + "7\ta\tb\n7\tc\td\n", ":3: item '7' comes a second time"),
        (HEADER.replace("item_id", "id"), "must have 'item_id:token'"),
        ("", "the file is empty"),
    ]:
        item_file.write_text(content)
        with pytest.raises(DataError, match=message):
            read_item_text(item_file, ["title"])
