"""Which cells may stand in one table, and what a reader is told of them."""

import json

import pytest
from benchmark_lines import make_results, read_results

from recbole_hellm.benchmark.line_fields import FIELDS, damage
from recbole_hellm.benchmark.sentences import method
from recbole_hellm.benchmark.summary import compare
from recbole_hellm.benchmark.tables import markdown
from recbole_hellm.errors import ArtifactError

MISSING = {"label": "SASRec", "dataset": "amazon-toys", "seed": 2022}


@pytest.fixture
def compared(tmp_path):
    """Make a results file, change its header, and compare its cells."""

    def run(header=(), **changes):
        path = make_results(tmp_path / "results", **{"n_users": 60, "seeds": (2020, 2021), **changes})
        first, lines = read_results(path)
        return compare(lines, {**first, **dict(header)}, path.parent)

    return run


def refused(compared, **changes):
    with pytest.raises(ArtifactError) as caught:
        compared(**changes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def of(label, change):
    """Return a change of the cells of one label."""

    def apply(line, arrays):
        if line["label"] == label:
            change(line, arrays)

    return apply


@pytest.mark.parametrize("field", ["n_items", "items"])
def test_models_with_another_catalogue_are_refused(compared, field):
    def change(line, arrays):
        line["data"]["items"] = "a" * 64
        if line["label"] == "TransitionCounts":
            line["data"][field] = 20 if field == "n_items" else "b" * 64

    message = refused(compared, change=change)
    assert f"ranked different catalogues ({field} " in message
    assert "HeLLM on amazon-toys" in message
    assert "TransitionCounts on amazon-toys" in message
    assert "load_col" in message


def test_a_catalogue_is_compared_where_the_first_line_does_not_name_it(compared):
    digests = {"SASRec": "a" * 64, "TransitionCounts": "b" * 64}

    def change(line, arrays):
        if line["label"] in digests:
            line["data"]["items"] = digests[line["label"]]

    assert "SASRec on amazon-toys" in refused(compared, change=change)


def test_the_page_claims_of_the_catalogue_what_was_checked(compared):
    assert "same events, split and number of items; this was checked" in markdown(compared())
    known = compared(change=lambda line, arrays: line["data"].update(items="a" * 64))
    assert "same events, split and items; this was checked" in markdown(known)


@pytest.mark.parametrize(
    ("selected", "said"), [("last epoch", "nothing: the last epoch is kept"), ("nothing", "there are no epochs")]
)
def test_what_the_epoch_was_chosen_on_is_said(compared, selected, said):
    change = of("TransitionCounts", lambda line, arrays: line["protocol"].update(selected_on=selected))
    sentences = method(compared(change=change), "amazon-toys")
    (sentence,) = [text for text in sentences if text.startswith("Epoch chosen on")]
    assert sentence.startswith("Epoch chosen on: validation; test read once (all others); nothing: ")
    assert said in sentence
    assert sentence.endswith("(TransitionCounts).")


@pytest.mark.parametrize("selected", ["test", "anything"])
def test_every_other_choice_is_no_result(compared, selected):
    change = of("SASRec", lambda line, arrays: line["protocol"].update(selected_on=selected))
    assert f"selected on '{selected}', so its number is no result" in refused(compared, change=change)


def test_cells_that_are_missing_or_left_out_are_named(compared):
    others = [{**MISSING, "seed": seed} for seed in (7, 8)]
    notes = compared(header={"missing": [MISSING], "others": others}).notes
    assert notes[0] == "1 of 7 planned cells has no result yet: SASRec on amazon-toys, seed 2022."
    assert notes[1] == (
        "2 finished cells of this file are not in the plan and so not in this report: "
        "SASRec on amazon-toys, seeds 7, 8."
    )
    assert compared(header={"missing": ["abc"]}).notes[0].endswith("no result yet: cell abc.")
    assert not [note for note in compared().notes if "planned" in note or "not in the plan" in note]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"commit": "ffffffffffff"}, "2 commits of this package (number of cells): 0123456789ab (4), ffffffffffff (2)"),
        ({"commit": "0123456789ab+"}, "2 of 6 cells were measured with files that differ from their commit"),
        ({"versions": {"recbole": "1.2.0"}}, "different packages: recbole 1.2.0 and 1.2.1"),
        ({"hardware": {"processor": "Other"}}, "on 2 machines, so seconds and speeds do not compare the models"),
        ({"settings": {"preset": "toys"}}, "SASRec (toys) ran with a preset, which may be tuned for this data set"),
    ],
)
def test_cells_of_different_origin_are_noted(compared, change, said):
    notes = compared(change=of("SASRec", lambda line, arrays: line.update(change))).notes
    assert len([note for note in notes if said in note]) == 1, notes


def test_cells_of_one_origin_are_not_noted(compared):
    assert not [note for note in compared().notes if "measured" in note or "preset" in note]


def test_settings_of_one_data_set_are_noted(compared):
    def change(line, arrays):
        line["settings"] = {"n_layers": 3 if line["dataset"] == "b" else 2, "data_path": line["dataset"]}

    notes = compared(datasets=("a", "b"), change=of("SASRec", change)).notes
    assert "SASRec has other settings on each of its data sets: n_layers (see Provenance)." in notes


def test_other_minutes_are_not_tested_against_each_other(compared):
    comparison = compared(change=of("SASRec", lambda line, arrays: line["protocol"].update(minutes=None)))
    sasrec, counts = comparison.tests["amazon-toys", "ndcg@10"]
    assert (sasrec.reason, counts.reason) == ("10 minutes and no time limit", None)
    assert "Not ranked, as history, fitted events or minutes differ: SASRec." in markdown(comparison)


def test_no_rank_at_all_is_one_line(compared):
    def change(line, arrays):
        for name in arrays:
            arrays[name] = arrays[name][:0]

    assert "has no rank for every user; a comparison needs the whole catalogue" in refused(compared, change=change)


def test_other_splits_lead_to_the_length_of_users(compared):
    change = of("SASRec", lambda line, arrays: line["data"].update(split="f" * 64))
    assert "user_inter_num_interval: '[4,inf)'" in refused(compared, change=change)


def test_decimals_of_a_line_are_used(compared):
    def change(line, arrays):
        line["test"] = {name: round(value, 3) for name, value in line["test"].items()}
        line["decimals"] = 3

    assert compared(change=change).rows
    assert "the line says" in refused(compared, change=lambda *cell: (change(*cell), cell[0].pop("decimals")))


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("gone", [True, False])
def test_a_damaged_line_is_named(tmp_path, field, gone):
    path = make_results(tmp_path, n_users=20, seeds=(2020,))
    header, lines = read_results(path)
    owner, _, key = field.rpartition(".")
    place = lines[1][owner] if owner else lines[1]
    place[key] = "x" if FIELDS[field] is list else []
    if gone:
        del place[key]
    assert damage(lines[1]) == field
    if not gone:  # whoever reads a file from disk sees to the fields that name a cell
        with pytest.raises(ArtifactError, match=f"no proper '{field}'"):
            compare(lines, header, path.parent)


@pytest.mark.parametrize(
    ("field", "value"),
    [("stages", [{"name": "training"}]), ("test", {}), ("test", {"ndcg@10": "x"}), ("curves", {"training": [1]})],
)
def test_damage_inside_a_field_is_named(compared, field, value):
    message = refused(compared, change=of("SASRec", lambda line, arrays: line.update({field: value})))
    assert f"its line has no proper '{field}" in message


@pytest.mark.parametrize("entry", [{}, [], {**MISSING}, "x", {"model": "A", "metrics": {"ndcg@10": "x"}}])
def test_a_damaged_number_from_elsewhere_is_named(compared, entry):
    assert "'reported' has an entry without a proper '" in refused(compared, header={"reported": [entry]})


def test_all_cells_failed_is_said_with_the_first_error(tmp_path):
    path = make_results(tmp_path, n_users=20, seeds=(2020,))
    header, lines = read_results(path)
    failed = [
        {key: line[key] for key in ("kind", "cell", "label", "model", "dataset", "seed", "group")} for line in lines
    ]
    failed = [{**line, "status": "failed", "error": "MemoryError; its log is a.log"} for line in failed]
    with pytest.raises(ArtifactError, match=r"^all 3 cells failed.*HeLLM.*MemoryError; its log is a\.log$"):
        compare(json.loads(json.dumps(failed)), header, tmp_path)
    with pytest.raises(ArtifactError, match="^the only cell failed"):
        compare(failed[:1], header, tmp_path)
