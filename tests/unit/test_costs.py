"""Memory and operations against values worked out by hand."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_hellm.costs.choose import Change, halves, largest_that_fits, what_helps
from recbole_hellm.costs.efficiency import (
    DECODER,
    DOUBLE,
    GATHERED,
    MOVED,
    PRODUCTS,
    ROWS,
    SCORES,
    STEP,
    Machine,
    seconds,
)
from recbole_hellm.costs.fusion import choice_memory, sum_work, table_memory
from recbole_hellm.costs.rows import DataShape, Lengths
from recbole_hellm.costs.run import candidates, changed, peak, run_costs
from recbole_hellm.costs.shapes import (
    DecoderShape,
    EvaluationShape,
    FeatureShape,
    FusionShape,
    GraphShape,
    RunShape,
    SequenceShape,
    TuneShape,
)
from recbole_hellm.costs.stages import (
    data_cost,
    features_cost,
    graph_memory,
    graph_step,
    neighbour_memory,
    sequence_cost,
)
from recbole_hellm.costs.tuning import decoder_flops, evaluation_cost, score_memory, step_memory, weights_memory
from recbole_hellm.costs.work import StageCost, Work, peaks

DATA = DataShape(n_users=5, n_items=11, events=Lengths.of([(3, 2), (8, 2)]), max_length=4)
"""Two users of 3 interactions, two of 8; the last two of each are held out."""


def test_lengths_add_up():
    lengths = Lengths.of([(3, 2), (1, 4), (3, 1), (0, 9), (7, 0)])
    assert lengths.pairs == ((1, 4), (3, 3))
    assert (lengths.rows, lengths.tokens, lengths.longest) == (7, 13, 3)
    assert Lengths(()).longest_batch(8) == (0, 0, 0)


def test_the_largest_batch_holds_the_longest_rows():
    lengths = Lengths.of([(10, 100), (2, 9900)])
    assert lengths.longest_batch(100, mixed=100) == (100, 1000, 10)
    assert lengths.longest_batch(100, mixed=50) == (100, 600, 10)  # half of the longest 200 are long
    assert lengths.longest_batch(20_000) == (10_000, 1000 + 2 * 9900, 10)


def test_rows_of_a_split_are_those_recbole_makes():
    assert DATA.n_rows == 2 * 2 + 2 * 7
    # 3 interactions: 2 rows, one must train, so one is held out. 8: 7 rows, 5 train.
    assert DATA.n_train == 2 * 2 + 2 * 6
    assert DATA.prefixes.pairs == ((1, 4), (2, 2), (3, 2), (4, 4))
    assert DATA.windows.pairs == ((1, 4), (4, 2))  # 6 items: targets 6..3 after 4 items, target 2 after one
    assert DATA.tested.pairs == ((2, 2), (4, 2))
    general = replace(DATA, sequential=False)
    assert (general.n_rows, general.n_train) == (22, 2 * 1 + 2 * 6)


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(1, 5)), min_size=1, max_size=8), st.integers(1, 20))
def test_every_training_item_but_the_first_is_a_target_once(pairs, max_length):
    data = DataShape(100, 50, Lengths.of(pairs), max_length)
    targets = data.n_train - data.events.rows
    assert data.prefixes.rows == targets
    assert sum(length * rows for length, rows in data.windows.pairs) == targets
    assert max(data.windows.longest, data.prefixes.longest) <= max_length


def test_data_memory_by_hand():
    cost = data_cost(DATA)
    table = 18 * (4 * 12 + 4 * 8)  # rows x (positions of item and time, four columns)
    assert cost.held == {"RecBole's rows [N, L], whole and split": 2 * table}
    assert cost.own == {"reading and sorting": table + 350 * 22}


def test_feature_memory_by_hand():
    cost = features_cost(
        DATA, (FeatureShape("text", 3, flops=10.0, encoder_bytes=99, bf16=True), FeatureShape("image", 5))
    )
    assert cost.held == {"item features": 11 * 8 * 4}
    assert cost.own == {"encoder": 99, "vectors being aligned": 2 * 11 * 8 * 4}
    assert (cost.work.decoder_flops, cost.work.flops) == (110, 0)


GRAPH = GraphShape(
    width=2, ui_layers=1, user_layers=1, item_layers=1, neighbours=3, user_hypergraph=True,
    modalities=(FeatureShape("image", 6),), contrast_users=True, contrast_items=False, all_nodes=False,
    epochs=1, batch_size=4,
)  # fmt: skip


def test_graph_memory_by_hand():
    built, step = graph_memory(DATA, GRAPH)
    assert built["graphs"] == 64 * (2 * 16 + 2 * 16 + 2 * 11 * 3)
    assert built["tables with Adam's moments"] == 4 * 4 * 2 * (5 + 11 + 5 + 11)
    assert step["contrast over users"] == 3 * 4 * 8 * 4  # copies x anchors x both views x fp32
    assert "contrast over items" not in step
    assert neighbour_memory(DATA, GRAPH) == 2 * 11 * 6 * 8 + 11 * 11 * 23
    assert built["kept of the search for neighbours"] == 11 * 11 * 92
    everyone = graph_memory(replace(DATA, n_users=10_001), replace(GRAPH, all_nodes=True))[1]
    assert everyone["contrast over users"] == 3 * 512 * 2 * 10_001 * 4


def test_graph_operations_by_hand():
    work = graph_step(DATA, GRAPH)
    assert work.gathered == 2 * (32 + 32 + 66) * 2 * 4  # there and back, pairs, width, fp32
    assert work.flops == 3 * 2 * 2 * 4 * 4 * 2


def test_sequence_memory_by_hand():
    cost = sequence_cost(DATA, SequenceShape(width=8, layers=1, heads=2, inner=16, epochs=2, batch_size=4))
    # the longest share of 6 rows: 4 of (4, 4, 1, 1)
    assert cost.own["scores of the largest batch"] == 3 * 10 * 11 * 4
    assert cost.work.flops == 2 * 3 * (12 * 2 * (4 * 64 + 2 * 128 + 2 * 8 * 4) + 2 * 12 * 11 * 8)


SMOL = DecoderShape(width=576, layers=4, heads=9, kv_heads=3, head_width=64, inner=1536, vocabulary=49152)
TUNE = TuneShape(
    decoder=SMOL, slot_width=128, graph_width=64, lora_weights=4 * 16 * 3 * (576 + 1536), prefix=10,
    prefix_context=256, prefix_rank=16, text_tokens=1, all_targets=True, bf16=True, epochs=20, batch_size=64,
)  # fmt: skip


def test_decoder_weights_are_those_of_smollm2():
    assert SMOL.layer_weights == 2 * 576 * 576 + 2 * 576 * 192 + 3 * 576 * 1536 == 3_538_944
    assert replace(SMOL, layers=30).weights == 134_479_872  # 134,515,008 with its 61 norms of 576
    assert 134_515_008 - 134_479_872 == 61 * 576


def test_decoder_operations_by_hand():
    tokens, length = 100, 20
    attention = 2 * 2 * 9 * 64 * (20 + 10)
    assert decoder_flops(TUNE, tokens, length) == 4 * 100 * (2 * 3_538_944 + attention)


def test_step_memory_by_hand():
    parts = step_memory(DATA, TUNE)
    # 6 rows in one batch, 12 real tokens, width 4 and the first token
    dense = 6 * 5 * (32 * 576 + 16 * 1536)
    attention = 6 * 9 * 5 * 15 * 12
    prefix = 2 * 6 * 10 * (576 + 192) * 4
    assert parts["activations of the largest batch"] == 1.5 * 5 * (dense + attention + prefix)  # and the slots
    assert parts["logits of the largest batch"] == 16 * 9 * 11  # half of 12 positions and of 6 rows
    assert step_memory(DATA, TUNE, rows_at_once=2)["logits of the largest batch"] < 16 * 9 * 11


def test_evaluation_memory_by_hand():
    assert score_memory(11, EvaluationShape(rows=4, validations=1)) == 4 * 11 * 9
    run = RunShape(DATA, (), None, None, None, EvaluationShape(rows=100, validations=3))
    cost = evaluation_cost(run)
    assert cost.own == {"scores [B, I] and their ranking": 4 * 11 * 9}  # there are only four users
    assert cost.work.scored == 2 * 4 * 11  # validation and test


def test_fusion_memory_by_hand():
    fusion = FusionShape(widths=(3, 5), gaps=2, parts=5, users=3)
    assert table_memory(fusion, DATA) == {
        "vectors of the fusion": 6 * 11 * 8,
        "transition counts": 8 * 2 * DATA.n_train,
    }
    assert table_memory(replace(fusion, gaps=100), DATA)["transition counts"] == 8 * 11**2
    assert choice_memory(fusion, DATA) == 2 * 4 * 5 * 3 * 11  # the whole catalogue competes
    assert sum_work(fusion, DATA, DATA.tested).flops == 2 * 4 * 11 * 8
    run = RunShape(DATA, (), None, None, TUNE, EvaluationShape(rows=100, validations=3))
    one, two = run_costs(run), run_costs(replace(run, fusion=fusion))
    more = sum(two[0].held.values()) - sum(one[0].held.values())
    assert more == sum(table_memory(fusion, DATA).values())
    assert sum(two[-1].own.values()) - sum(one[-1].own.values()) == choice_memory(fusion, DATA)
    assert two[-1].work.flops > one[-1].work.flops


def test_peaks_add_what_is_held():
    costs = [StageCost("a", held={"x": 10}, own={"y": 5}), StageCost("b", own={"z": 7}), StageCost("c", held={"w": 1})]
    assert peaks(costs, base=100) == [115, 117, 111]


def test_seconds_by_hand():
    machine = Machine(bf16=100.0, fp32=10.0, copied=5.0, threads=2)
    assert seconds(Work(decoder_flops=100, bf16=True), machine) == pytest.approx(1 / DECODER)
    assert seconds(Work(decoder_flops=100), machine) == pytest.approx(10 / DECODER)
    kinds = Work(flops=10, double_flops=10, moved=5, gathered=5, scored=2, read_rows=3, steps=4)
    wanted = 1 / PRODUCTS + 1 / DOUBLE + 1 / MOVED + 1 / GATHERED + 1 / SCORES + 3 / ROWS + 4 * STEP
    assert seconds(kinds, machine) == pytest.approx(wanted)
    assert seconds(kinds.times(2).plus(kinds), machine) == pytest.approx(3 * wanted)


RUN = RunShape(
    data=DataShape(200_001, 1_000_001, Lengths.of([(10, 200_000)]), 50),
    features=(FeatureShape("image", 512),),
    graph=replace(GRAPH, width=64, batch_size=2048),
    sequence=SequenceShape(64, 2, 2, 256, 40, 256),
    tune=TUNE,
    evaluation=EvaluationShape(4096, 3),
)


def test_a_run_has_its_parts_in_order():
    names = ["data and model", "features", "graph", "sequence", "training", "evaluation"]
    assert [cost.name for cost in run_costs(RUN)] == names
    assert weights_memory(TUNE, 1_000_001)["language model"] == 4 * SMOL.weights
    assert [cost.name for cost in run_costs(replace(RUN, only_stages=True))] == names[:4]
    alone = replace(RUN, graph_is_model=True, sequence=None, tune=None)
    assert [cost.name for cost in run_costs(alone)] == ["data and model", "features", "training", "evaluation"]


def test_training_counts_the_ranking_that_validates_it():
    training, evaluation = run_costs(RUN)[-2:]
    assert sum(evaluation.own.values()) > 4096 * 1_000_001 * 9
    assert training.own == evaluation.own


@pytest.mark.parametrize("values", candidates(RUN), ids=lambda values: values[0].setting)
def test_every_proposed_value_is_read_and_never_adds_memory(values):
    needs = [peak(changed(RUN, [change]), 0) for change in values]
    assert all(need <= peak(RUN, 0) for need in needs)
    assert needs == sorted(needs, reverse=True)
    assert all(changed(RUN, [change]) != RUN for change in values)


def test_the_setting_that_helps_is_the_mildest_value_that_fits():
    def need(changes):
        return 100 - sum({"a": 10, "b": 30}[change.setting] * int(str(change.value)) for change in changes)

    several = [[Change("a", 1), Change("a", 2)], [Change("b", 1), Change("b", 2)]]
    assert what_helps(several, need, 95) == ((Change("a", 1),), 90)
    assert what_helps(several, need, 70) == ((Change("b", 1),), 70)
    assert what_helps(several, need, 25) == ((Change("a", 2), Change("b", 2)), 20)
    assert what_helps(several, need, 5) == ((Change("a", 2), Change("b", 2)), 20)
    assert what_helps([[]], need, 5) == ((), 100)


def test_settings_that_only_help_together_are_each_as_mild_as_fits():
    """The largest of three parts counts, as in a run; each setting divides its own."""

    def need(changes):
        value = {"a": 64, "b": 64, "c": 64} | {change.setting: change.value for change in changes}
        return max(value["a"], value["b"], 2 * value["c"])

    three = [[Change(key, rows) for rows in halves(64)] for key in "abc"]
    assert what_helps(three, need, 40) == ((Change("a", 32), Change("b", 32), Change("c", 16)), 32)
    assert what_helps(three, need, 8) == ((Change("a", 8), Change("b", 8), Change("c", 4)), 8)
    assert what_helps(three, need, 100) == ((Change("c", 32),), 64)
    assert what_helps(three, need, 1) == ((Change("a", 2), Change("b", 2), Change("c", 1)), 2)  # all there is


def test_a_setting_that_the_others_make_needless_is_left_out():
    saved = {"a": 10, "b": 60, "c": 30}

    def need(changes):
        return 100 - sum(saved[change.setting] for change in changes)

    assert what_helps([[Change(key, 1)] for key in saved], need, 10) == ((Change("b", 1), Change("c", 1)), 10)


@given(st.integers(1, 5000), st.integers(0, 6000))
def test_the_largest_batch_that_fits(most, limit):
    found = largest_that_fits(most, lambda rows: rows <= limit)
    assert found == most if most <= limit else found < max(most, 2)
    if most > limit >= 1:
        assert found <= limit < 2 * found or found == 1 << ((most - 1).bit_length() - 1)
        assert math.log2(found).is_integer()


def test_halves_are_powers_of_two():
    assert halves(64, 8) == [32, 16, 8]
    assert halves(7) == [4, 2, 1]
    assert halves(1) == []


def test_validations_are_part_of_the_training():
    training, evaluation = run_costs(RUN)[-2:]
    none = run_costs(replace(RUN, evaluation=replace(RUN.evaluation, validations=0)))[-2]
    assert training.work.scored == pytest.approx(none.work.scored + 3 / 2 * evaluation.work.scored)
    assert none.work.scored == 0
