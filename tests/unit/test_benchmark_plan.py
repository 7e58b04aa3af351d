from dataclasses import replace

import pytest
import yaml

from recbole_hellm.benchmark.checks import check_plan
from recbole_hellm.benchmark.plan import Entry, Plan, Protocol
from recbole_hellm.benchmark.plan_files import Changes, find_plan, load_plan, plan_from_names
from recbole_hellm.config.resources import properties_dir
from recbole_hellm.errors import ConfigError, DataError

SHIPPED = sorted((properties_dir() / "benchmark").glob("*.yaml"))
PLAN = {"models": ["SASRec", "TransitionCounts"], "datasets": ["a"]}


def plan(**changes):
    given = {"name": "p", "entries": (Entry("SASRec"), Entry("TransitionCounts")), "datasets": ("a", "b")}
    return Plan(**{**given, "seeds": (1, 2), **changes})


@pytest.fixture
def load(tmp_path):
    def loaded(changes=None, **keys):
        path = tmp_path / "mine.yaml"
        path.write_text(yaml.safe_dump({**PLAN, **keys}))
        return load_plan(path, changes)

    return loaded


def refused(call, *texts):
    with pytest.raises(ConfigError) as error:
        call()
    message = str(error.value)
    assert "\n" not in message
    assert all(text in message for text in texts), message


def test_cells_come_by_data_set_then_seed_then_model():
    found = [(cell.dataset, cell.seed, cell.label) for cell in plan().cells()]
    labels = ("SASRec", "TransitionCounts")
    assert found == [(dataset, seed, label) for dataset in ("a", "b") for seed in (1, 2) for label in labels]


def test_settings_win_in_the_order_that_is_told():
    entry = Entry("SASRec", "S", {"epochs": 2, "n_layers": 2, "n_heads": 2}, {"a": {"epochs": 3, "n_layers": 3}})
    made = plan(
        entries=(entry, Entry("TransitionCounts")),
        settings={"epochs": 1, "stopping_step": 1, "n_heads": 1, "eval_args": {"order": "TO"}},
        overrides={"epochs": 4, "eval_args": {"mode": "full"}},
    )
    by = {cell.dataset: cell.settings for cell in made.cells() if cell.label == "S"}
    assert (by["a"]["epochs"], by["a"]["n_layers"], by["a"]["n_heads"], by["a"]["stopping_step"]) == (4, 3, 2, 1)
    assert by["b"]["n_layers"] == 2
    assert by["a"]["eval_args"] == {"order": "TO", "mode": "full"}


def test_the_protocol_becomes_settings_and_a_line():
    protocol = Protocol(history="masked", fitted_on="train+valid", max_length=20, loss="BPR", minutes=5)
    made = plan(protocol=protocol, entries=(Entry("SASRec"), Entry("LightGCN")))
    chosen, fixed = made.cells()[:2]
    want = {"mask_history": "yes", "fit_on": "train+valid", "train_minutes": 5, "MAX_ITEM_LIST_LENGTH": 20}
    want["metric_decimal_place"] = 6
    assert chosen.settings == {**want, "loss_type": "BPR"}
    assert fixed.settings == want  # LightGCN has one loss only
    line = {"history_masked": True, "fitted_on": "train+valid", "selected_on": "valid", "max_length": 20, "minutes": 5}
    assert chosen.protocol == {**line, "loss": "BPR"}
    assert fixed.protocol == {**line, "loss": None}
    assert plan().cells()[0].settings == {
        "mask_history": "no",
        "fit_on": "train",
        "train_minutes": 0.0,
        "metric_decimal_place": 6,
    }


def test_a_key_knows_what_decides_a_number_and_nothing_else():
    one = plan().cells()[0]
    same = [replace(one, label="other"), replace(one, settings={**one.settings, "data_path": "/x", "state": "ERROR"})]
    assert {cell.key for cell in same} == {one.key}
    others = [
        replace(one, model="GRU4Rec"),
        replace(one, dataset="c"),
        replace(one, seed=9),
        replace(one, settings={"epochs": 1}),
        replace(one, protocol={}),
    ]
    assert len({one.key, *(cell.key for cell in others)}) == 6
    assert len(one.key) == 16
    assert int(one.key, 16) >= 0
    assert one.line()["cell"] == one.key


def test_a_plan_that_grows_keeps_its_digest_and_another_one_does_not():
    first = plan().header()
    grown = plan(seeds=(1, 2, 3), datasets=("a", "b", "c"), entries=(Entry("SASRec"), Entry("GRU4Rec"))).header()
    assert grown["digest"] == first["digest"]
    assert len(grown["cells"]) == 18
    assert plan(name="q").header()["digest"] != first["digest"]
    assert plan(protocol=Protocol(minutes=1)).header()["digest"] != first["digest"]


@pytest.mark.parametrize(
    ("changes", "texts"),
    [
        ({"entries": (Entry("SASRec"),)}, ["at least 2 models, got SASRec"]),
        ({"entries": ()}, ["at least 2 models, got none"]),
        ({"seeds": (1, 2, 1)}, ["seed 1 stands twice"]),
        ({"seeds": ()}, ["must name at least one"]),
        ({"seeds": (-1,)}, ["[0, 2^32), got -1"]),
        ({"datasets": ("a", "a")}, ["data set 'a' stands twice"]),
        ({"entries": (Entry("SASRec"), Entry("SASRec"))}, ["label 'SASRec' stands twice", "'label:'"]),
        ({"name": "a/b"}, ["without '/'"]),
        ({"name": "compare-a/b", "datasets": ("a/b",)}, ["data set 'a/b' must be a name", "data_path"]),
        ({"settings": {"metric_decimal_place": 4}}, ["'metric_decimal_place' is 4, the protocol asks for 6"]),
        *(
            ({"entries": (Entry("SASRec", "", {key: 1}), Entry("MMHCL"))}, [f"'{key}' of SASRec must be the same"])
            for key in ("load_col", "unload_col", "threshold", "RATING_FIELD")
        ),
        ({"settings": {"mask_history": "yes"}}, ["'mask_history'", "protocol: {history: ...}"]),
        ({"overrides": {"seed": 3}}, ["'seed' is given by the plan; use seeds"]),
        (
            {"entries": (Entry("SASRec", "", {"topk": [3]}), Entry("MMHCL"))},
            ["'topk' of SASRec", "same for all models"],
        ),
        ({"entries": (Entry("SASRec", "", {}, {"a": {"eval_args": {}}}), Entry("MMHCL"))}, ["'eval_args' of SASRec"]),
        (
            {"protocol": Protocol(loss="CE"), "entries": (Entry("SASRec", "", {"loss_type": "BPR"}), Entry("MMHCL"))},
            ["'loss_type' of SASRec is 'BPR', the protocol asks for 'CE'"],
        ),
    ],
)
def test_a_wrong_plan_is_named(changes, texts):
    refused(lambda: plan(**changes), f"plan {changes.get('name', 'p')}: ", *texts)


def test_two_names_for_one_run_are_refused():
    made = plan(entries=(Entry("SASRec"), Entry("SASRec", "again", {})))
    refused(made.cells, "'SASRec' and 'again' are the same run on a")


def test_an_agreeing_setting_may_stand_beside_the_protocol():
    plan(protocol=Protocol(max_length=20), settings={"MAX_ITEM_LIST_LENGTH": 20})


@pytest.mark.parametrize(
    ("keys", "texts"),
    [
        ({"modles": []}, ["unknown key 'modles' (did you mean 'models'?)"]),
        ({"models": "SASRec"}, ["'models' must be a list", "got 'SASRec'"]),
        ({"models": ["SASRec", {"label": "x"}]}, ["must be a name or a mapping with 'model'"]),
        (
            {"models": ["SASRec", {"model": "GRU4Rec", "lable": "x"}]},
            ["GRU4Rec: unknown key 'lable' (did you mean 'label'"],
        ),
        ({"models": ["SASRec", {"model": "A", "datasets": {"aa": {}}}]}, ["unknown key 'aa' (did you mean 'a'?)"]),
        ({"models": ["SASRec", {"model": "A", "settings": [1]}]}, ["must hold 'key: value' lines, got [1]"]),
        ({"seeds": "three"}, ["'seeds' must be a number of seeds", "got 'three'"]),
        ({"seeds": 2020}, ["'seeds' must be a number of seeds (1 to 100)", "got 2020"]),
        ({"seeds": True}, ["'seeds' must be"]),
        ({"seeds": [1, 1]}, ["seed 1 stands twice"]),
        ({"datasets": 3}, ["'datasets' must be of type str, got 3"]),
        ({"protocol": {"histroy": "kept"}}, ["protocol: unknown key 'histroy' (did you mean 'history'?)"]),
        ({"protocol": {"history": "mask"}}, ["'history' must be one of 'kept', 'masked', got 'mask'"]),
        ({"protocol": {"minutes": 0}}, ["'minutes' must be positive"]),
        ({"protocol": 3}, ["'protocol' must hold"]),
        ({"protocol": {"history": False}}, ["'history' must be one of 'kept', 'masked'", "yaml reads it as False"]),
        ({"protocol": {"loss": True}}, ["'loss' must be one of 'CE', 'BPR'"]),
        ({"protocol": {"minutes": True}}, ["'minutes' must be a number or none"]),
        ({"models": ["SASRec", {"model": "MMHCL", "label": " "}]}, ["'label' of MMHCL must be one line of text"]),
        ({"models": ["SASRec", {"model": "MMHCL", "label": "a\nb"}]}, ["'label' of MMHCL", "got 'a\\nb'"]),
        ({"reported": [{"model": "X", "dataset": "a", "metrics": {"ndcg@10": 0.1}}]}, ["row 1 has no 'source'"]),
        (
            {"reported": [{"model": "X", "dataset": "a", "metrics": {"ndcg@10": 9.1}, "source": "s", "protocol": "p"}]},
            ["row 1", "shares of 1", "9.1"],
        ),
    ],
)
def test_a_wrong_file_is_named(load, tmp_path, keys, texts):
    refused(lambda: load(**keys), f"plan {tmp_path / 'mine.yaml'}: ", *texts)


def test_a_file_gives_what_it_says(load):
    row = {"model": "X", "dataset": "a", "metrics": {"ndcg@10": 0.1}, "source": "s", "protocol": "p"}
    made = load(
        models=["SASRec", {"model": "SASRec", "label": "wide", "settings": {"hidden_size": 128}}],
        seeds=3,
        protocol={"history": "masked", "loss": None},
        reported=[row],
    )
    assert (made.name, made.seeds, made.protocol.history) == ("mine", (2020, 2021, 2022), "masked")
    assert [entry.label for entry in made.entries] == ["SASRec", "wide"]
    assert made.header()["reported"] == [row]


def test_the_command_line_wins_over_the_file(load):
    entries = [{"model": "SASRec", "label": "S", "settings": {"epochs": 9}}, "GRU4Rec"]
    changes = Changes(("LightGCN", "SASRec"), ("b",), (7,), {"minutes": 2.0}, {"epochs": 1})
    made = load(changes, models=entries, protocol={"history": "masked"})
    assert [(entry.label, entry.model) for entry in made.entries] == [("LightGCN", "LightGCN"), ("S", "SASRec")]
    assert (made.datasets, made.seeds) == (("b",), (7,))
    assert (made.protocol.history, made.protocol.minutes) == ("masked", 2.0)
    assert [cell.settings["epochs"] for cell in made.cells()] == [1, 1]


def test_a_plan_of_names_is_called_by_its_data_sets():
    made = plan_from_names(Changes(("SASRec", "MMHCL"), ("a", "b")))
    assert (made.name, made.seeds) == ("compare-a-b", (2020,))
    refused(lambda: plan_from_names(Changes(("SASRec",))), "--datasets is required")
    refused(lambda: plan_from_names(Changes((), ("a",))), "--models is required")


def test_an_unknown_plan_gives_the_near_name():
    refused(lambda: find_plan("toy"), "unknown plan 'toy' (did you mean 'toys'?)", "known: beauty", "or a path")
    assert find_plan("toys") == properties_dir() / "benchmark" / "toys.yaml"
    refused(lambda: load_plan(find_plan("gone.yaml")), "gone.yaml does not exist")


def test_every_shipped_plan_is_one_the_settings_allow(tmp_path):
    assert {path.stem for path in SHIPPED} >= {"beauty", "quick", "sports", "toys"}
    for path in SHIPPED:
        made = load_plan(path, Changes(settings={"data_path": str(tmp_path)}))
        results = path.stem.startswith("results-")  # few rows, many seeds; docs/results.md has those of others
        assert len(made.entries) >= (3 if results else 4)
        assert {"TransitionCounts", "HeLLM"} <= {entry.label for entry in made.entries}
        if made.datasets != ("ml-100k",):  # that one comes with RecBole and would be prepared
            with pytest.raises(DataError, match=f"recbole-hellm prepare {made.datasets[0]}"):
                check_plan(made)
            assert results or len(made.header()["reported"]) >= 2


def test_a_key_that_stands_twice_is_refused(tmp_path):
    path = tmp_path / "twice.yaml"
    path.write_text("models: [SASRec, MMHCL]\ndatasets: [a]\nseeds: 1\nsettings:\n  epochs: 1\n  epochs: 2\n")
    refused(lambda: load_plan(path), "key 'epochs' stands twice", "twice.yaml")


def test_fewer_decimals_leave_the_key_as_it_was():
    one = plan().cells()[0]
    older = {key: value for key, value in one.settings.items() if key != "metric_decimal_place"}
    assert replace(one, settings=older).key == one.key


def test_a_header_says_what_its_cells_are():
    made = plan()
    planned = made.header()["planned"]
    assert list(planned) == made.header()["cells"]
    assert planned[made.cells()[0].key] == {"label": "SASRec", "dataset": "a", "seed": 1}
