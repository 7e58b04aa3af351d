import pytest

from recbole_hellm.data.inter import check_inter_file
from recbole_hellm.errors import DataError

HEADER = "user_id:token\titem_id:token\ttimestamp:float\ttags:token_seq"
WANTED = ("user_id", "item_id", "timestamp")


def check(tmp_path, *rows, header=HEADER, columns=WANTED, separator="\t"):
    path = tmp_path / "x.inter"
    path.write_text("\n".join([header, *rows]) + "\n")
    check_inter_file(path, columns, separator)


def test_a_sound_file_passes(tmp_path):
    check(tmp_path, "u\ti\t1.5e9\ta b", "u\ti\t-2\t", "", "v\tj\t3\tc")


def test_only_wanted_floats_must_be_numbers(tmp_path):
    check(tmp_path, "u\ti\tnever\t", columns=("user_id", "item_id"))


def test_another_separator(tmp_path):
    check(tmp_path, "u,i,1", header="user_id:token,item_id:token,timestamp:float", separator=",")
    with pytest.raises(DataError, match=":2: expected 3 cells, got 1"):
        check(tmp_path, "u\ti\t1", header="user_id:token,item_id:token,timestamp:float", separator=",")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("u\ti\t1", ":3: expected 4 cells, got 3"),
        ("u\ti\t1\ta\tb", ":3: expected 4 cells, got 5"),
        ("u\ti\t\ta", ":3: timestamp must be a number, got ''"),
        ("u\ti\tnan\ta", ":3: timestamp must be a number, got 'nan'"),
    ],
)
def test_a_broken_row_is_named(tmp_path, row, message):
    with pytest.raises(DataError) as error:
        check(tmp_path, "u\ti\t1\ta", row)
    assert str(error.value) == f"{tmp_path / 'x.inter'}{message}"


@pytest.mark.parametrize("cell", ["item_id", "item_id:", "item_id:string", ""])
def test_a_broken_header_is_named(tmp_path, cell):
    with pytest.raises(DataError, match=f":1: header cell '{cell}' must be name:type, type one of token, float, "):
        check(tmp_path, "u\ti", header=f"user_id:token\t{cell}")


def test_a_missing_column_gives_the_nearest(tmp_path):
    with pytest.raises(
        DataError, match=r":1: no column 'item_id' \(did you mean 'item'\?\); the header has: user_id, i"
    ):
        check(tmp_path, "u\ti", header="user_id:token\titem:token")


@pytest.mark.parametrize("rows", [[], ["", ""]])
def test_a_file_without_rows_is_refused(tmp_path, rows):
    with pytest.raises(DataError, match="has no interaction"):
        check(tmp_path, *rows)
