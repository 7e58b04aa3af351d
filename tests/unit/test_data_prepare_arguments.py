import argparse
import logging

import pytest
from sources import amazon2014_source, csv_source, events, manifest, write

from recbole_hellm.cli import main
from recbole_hellm.data.filters import FILTER_NAMES
from recbole_hellm.data.prepare_arguments import add_prepare_arguments, column_map, prepare_settings
from recbole_hellm.data.sources.base import SourceOptions
from recbole_hellm.errors import ConfigError


def settings(*arguments):
    parser = argparse.ArgumentParser()
    add_prepare_arguments(parser)
    return prepare_settings(parser.parse_args(["mine", *arguments]))


def test_nothing_given_leaves_the_defaults():
    assert settings() == {
        "force": False,
        "missing_text": "error",
        "format": None,
        "options": None,
        "filters": {},
        "keep_cold_items": False,
    }


def test_everything_given(tmp_path):
    found = settings(
        *("--format", "csv", "--columns", "user=uid,item=asin", "--columns", "time=ts", "--items", "i.csv"),
        *("--features", "image=a.npy", "--features", "audio=b.npy,c.txt", "--fields", "title,brand"),
        *("--time-unit", "ms", "--bad-times", "drop", "--conflicts", "first", "--separator", "\\t", "--no-header"),
        *("--min-rating", "3", "--duplicates", "last", "--min-user", "2", "--min-item", "3", "--min-length", "4"),
        *("--keep-cold-items", "--force", "--missing-text", "empty"),
    )
    options = found["options"]
    assert options.columns == {"user": "uid", "item": "asin", "time": "ts"}
    assert (options.features, options.fields) == (("image=a.npy", "audio=b.npy,c.txt"), ("title", "brand"))
    assert (options.separator, options.header, options.conflicts) == ("\t", False, "first")
    assert found["filters"] == {"min_rating": 3, "duplicates": "last", "min_user": 2, "min_item": 3, "min_length": 4}
    assert set(found["filters"]) == set(FILTER_NAMES)
    assert found["keep_cold_items"]


@pytest.mark.parametrize("text", ["user", "=x", "user=", "user=a,user=b", ""])
def test_wrong_maps(text):
    with pytest.raises(ConfigError, match="option 'columns'"):
        column_map([text])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"time_unit": "sec"}, "'time_unit' must be one of auto, s, ms, us, ns, row, got 'sec'"),
        ({"bad_times": "no"}, "'bad_times' must be one of error, drop"),
        ({"conflicts": "last"}, "'conflicts' must be one of error, first"),
        ({"separator": ";;"}, "'separator' must be one ASCII character"),
        ({"columns": {"Title": "x"}}, "'columns': Title=x must be user, item"),
    ],
)
def test_wrong_options(given, message):
    with pytest.raises(ConfigError, match=message):
        SourceOptions(**given)


def test_the_command(tmp_path, capsys, caplog):
    caplog.set_level(logging.INFO)
    source = csv_source(tmp_path)
    columns = "user=uid,item=asin,time=ts,rating=stars,title=name,image=photo"
    command = ["prepare", "mine", "--source", str(source), "--columns", columns, "--output", str(tmp_path / "out")]
    assert main([*command, "--min-user", "0", "--min-item", "0"]) == 0
    assert capsys.readouterr().out == f"mine: {tmp_path / 'out' / 'mine'}\n"
    assert events(tmp_path / "out" / "mine") == {"u1": ["A", "B"], "u2": ["A"]}
    assert main([*command, "--min-user", "0", "--min-item", "0"]) == 0
    assert "reused" in caplog.text
    assert main(command) == 2
    assert "exists and differs (options was" in capsys.readouterr().err
    assert main([*command, "--force"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: no interaction is left of 3")
    assert error.count("\n") == 1
    assert manifest(tmp_path / "out" / "mine")["n_users"] == 2


def test_a_wrong_choice_is_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["prepare", "mine", "--duplicates", "none"])
    assert "argument --duplicates: invalid choice: 'none'" in capsys.readouterr().err
    source = amazon2014_source(tmp_path / "d")
    write(tmp_path / "d" / "meta_Toys.json.gz", "{'asin': 'A1'}\n")
    write(tmp_path / "d" / "meta_Books.json.gz", "{'asin': 'A1'}\n")
    (tmp_path / "d" / "meta_Beauty.json.gz").unlink()
    assert main(["prepare", "mine", "--source", str(source), "--output", str(tmp_path / "out")]) == 2
    assert "which metadata belongs to reviews_Beauty_5.json.gz? There are" in capsys.readouterr().err
