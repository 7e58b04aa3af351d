import numpy as np
import pytest

from recbole_hellm.data.interactions import read_events
from recbole_hellm.errors import DataError

HEAD = "user_id:token\titem_id:token\ttimestamp:float"


def write(path, *rows, head=HEAD):
    path.write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
    return path


def test_rows_are_sorted_by_user_and_time_and_ties_keep_the_order_of_the_file(tmp_path):
    rows = ["b\tx\t2", "a\ty\t5", "b\ty\t1", "a\tx\t5", "10\tz\t1e3", "b\tw\t16777216", "b\tv\t16777217"]
    events = read_events(write(tmp_path / "a.inter", *rows))
    assert events.user_tokens.tolist() == ["10", "a", "b"]
    assert events.item_tokens.tolist() == ["v", "w", "x", "y", "z"]
    named = [(events.user_tokens[u], events.item_tokens[i]) for u, i in zip(events.user, events.item, strict=True)]
    # 16777216 and 16777217 are one float32, so the file decides
    assert named == [("10", "z"), ("a", "y"), ("a", "x"), ("b", "y"), ("b", "x"), ("b", "w"), ("b", "v")]
    assert events.lengths.tolist() == [1, 2, 4]
    assert events.counts.tolist() == [1, 1, 2, 2, 1]
    assert events.ends.tolist() == [1, 3, 7]
    np.testing.assert_array_equal(events.time, [1000, 5, 5, 1, 2, 16777216, 16777217])


def test_tokens_are_text_and_columns_may_stand_anywhere(tmp_path):
    head = "rating:float\titem_id:token\tnote:token_seq\tuser_id:token"
    events = read_events(write(tmp_path / "a.inter", "1\t007\tx y\t1.0", "2\t7\t\tété", head=head))
    assert events.item_tokens.tolist() == ["007", "7"]
    assert events.user_tokens.tolist() == ["1.0", "été"]
    assert (events.time, events.day_gap) == (None, None)
    assert events.columns == tuple(head.split("\t"))


def test_rows_without_a_name_are_left_out_as_recbole_does(tmp_path):
    events = read_events(write(tmp_path / "a.inter", "a\tx\t1", "NA\tx\t1", "a\t\t1", "b\tnull\t1"))
    assert (len(events.user), events.n_unnamed) == (1, 3)
    assert events.user_tokens.tolist() == ["a"]
    assert events.item_tokens.tolist() == ["x"]


@pytest.mark.parametrize(
    ("rows", "head", "message"),
    [
        ([], HEAD, "has no interaction"),
        (["NA\tx\t1"], HEAD, "no row has a user and an item"),
        (["a\tx\t1"], "user\titem_id:token\ttimestamp:float", "a.inter:1: no column user_id:token"),
        (["a\tx\t1"], "user_id:token\titem_id:token\ttimestamp:token", "a.inter:1: timestamp must be of type float"),
        (["a\tx\t1", "a\ty\tnoon"], HEAD, "a.inter:3: timestamp must be a number, got 'noon'"),
        (["a\tx\t1", "a\ty\t"], HEAD, "a.inter:3: timestamp must be a number, got ''"),
        (["a\tx\tinf"], HEAD, "timestamp must be a finite number"),
        (["a\tx\t1", "a\tx"], HEAD, "a.inter:3: expected 3 cells, got 2"),
        (["a\tx\t1", "a\tx\t1\t2\t3"], HEAD, "a.inter:3: expected 3 cells, got 5"),
        (["a\tx\t1", '"a\tx\t1'], HEAD, "cannot be read"),
    ],
)
def test_broken_files_are_named_in_one_line(tmp_path, rows, head, message):
    path = write(tmp_path / "a.inter", *rows, head=head)
    with pytest.raises(DataError) as caught:
        read_events(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_text_and_no_file(tmp_path):
    (tmp_path / "a.inter").write_bytes(f"{HEAD}\n".encode() + b"a\t\xff\t1\n")
    with pytest.raises(DataError, match="UTF-8|utf-8"):
        read_events(tmp_path / "a.inter")
    with pytest.raises(DataError, match="missing"):
        read_events(tmp_path / "b.inter")
