import subprocess
import sys

import pytest

from recbole_hellm import registry
from recbole_hellm.errors import ConfigError, nearest
from recbole_hellm.registry import Registry


@pytest.fixture
def table():
    return Registry("fruit", {"apple": "collections:Counter", "pear": "collections:OrderedDict"})


def test_a_builtin_is_imported_when_first_asked_for(table):
    from collections import Counter

    assert table._table["apple"] == "collections:Counter"
    assert table.get("apple") is Counter
    assert table.get("apple") is Counter


def test_an_added_class_is_found_listed_and_removed(table):
    assert table.add("fig", int) is int
    assert table.get("fig") is int
    assert list(table) == ["apple", "fig", "pear"]
    table.remove("fig")
    assert "fig" not in table
    assert "apple" in table


def test_a_taken_name_is_refused_and_keeps_what_it_was(table):
    before = table.get("apple")
    with pytest.raises(ConfigError, match="fruit 'apple' is already registered .*; choose another name"):
        table.add("apple", int)
    assert table.get("apple") is before


@pytest.mark.parametrize("method", ["get", "remove"])
def test_an_unknown_name_gives_the_nearest_and_all_known(table, method):
    with pytest.raises(ConfigError) as error:
        getattr(table, method)("aple")
    assert str(error.value) == "unknown fruit 'aple' (did you mean 'apple'?); known: apple, pear"


def test_tables_do_not_share_their_entries():
    one, two = Registry("a"), Registry("b")
    one.add("x", int)
    assert "x" not in two


def test_nearest_is_silent_when_nothing_is_near():
    assert nearest("zzz", ["apple"]) == ""
    assert nearest("aple", []) == ""


TABLES = (registry.models, registry.stages, registry.text_encoders, registry.image_encoders, registry.backbones)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.kind)
def test_every_builtin_entry_can_be_resolved(table):
    assert len(list(table)) >= 1
    for name in table:
        assert callable(table.get(name))


def test_all_builtin_entries_are_there():
    assert sum(len(list(table)) for table in TABLES) == 12
    assert list(registry.models) == ["E4SRec", "HeLLM", "MMHCL", "TransitionCounts"]


def test_importing_the_tables_loads_no_model_library():
    code = (
        "import sys, recbole_hellm.registry as r; r.models; "
        "print([m for m in ('dgl', 'transformers', 'peft') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_the_near_name_ignores_case():
    assert nearest("hellm", ["SASRec", "HeLLM"]) == " (did you mean 'HeLLM'?)"
    assert nearest("SASREC", ["SASRec", "BPR"]) == " (did you mean 'SASRec'?)"
    assert nearest("zzz", ["SASRec", "BPR"]) == ""
