"""What goes wrong in one process ends all, with a reason."""

import os

import pytest
import torch
from processes import finish, start, together

from recbole_hellm import distributed
from recbole_hellm.errors import HellmError
from recbole_hellm.models.hellm import HeLLM
from recbole_hellm.pipeline import graph
from recbole_hellm.quick_start import run_recbole_hellm
from recbole_hellm.testing import CHECKERBOARD
from recbole_hellm.testing.building import build
from recbole_hellm.trainer.ranks import RanksMixin

SECONDS_TO_END = 30.0


def said(folder):
    return [(folder / f"{rank}.error").read_text() for rank in range(2)]


def spoiled(settings, value):
    """Run with a bad loss in the third batch of the second process."""
    plain, count = HeLLM.calculate_loss, []

    def calculate_loss(self, rows):
        count.append(1)
        bad = len(count) == 3 and os.environ["RANK"] == "1"
        return plain(self, rows) * (value if bad else 1.0)

    HeLLM.calculate_loss = calculate_loss
    result = run_recbole_hellm("HeLLM", CHECKERBOARD, config_dict=settings)
    weights = [p.detach().numpy() for p in result["trainer"].model.parameters() if p.requires_grad]
    return result["trainer"]._skipped, weights


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_bad_loss_in_one_process_ends_all(runs, value):
    folder = runs.root / "told" / f"bad-{value}"
    codes = finish(start(2, folder, spoiled, runs.settings(f"bad-{value}"), value), SECONDS_TO_END)
    assert codes == [2, 2]
    for line in said(folder):
        assert "training loss is NaN or infinite on 1 of 2 processes at batch 3 of epoch 1 (step 3)" in line
    assert not (runs.root / f"bad-{value}" / "result.json").exists()


def test_a_bad_batch_of_one_process_is_left_out_by_all(runs):
    made = runs.settings("left-out", skip_bad_batches=True)
    (skipped, weights), (others, same) = together(2, runs.root / "told" / "left-out", spoiled, made, float("nan"))
    assert skipped == others == 1
    assert all((one == two).all() for one, two in zip(weights, same, strict=True))


def failing_stage(settings):
    def run(stage, context, earlier):
        raise HellmError("the stage cannot be made")

    graph.GraphStage.run = run
    return run_recbole_hellm("HeLLM", CHECKERBOARD, config_dict=settings)


def test_a_failing_stage_ends_the_process_that_waits_for_it(runs):
    made = runs.settings("stage", stage_cache_dir=str(runs.root / "empty"))
    folder = runs.root / "told" / "stage"
    assert finish(start(2, folder, failing_stage, made), SECONDS_TO_END) == [2, distributed.PeerLost.exit_code]
    first, second = said(folder)
    assert "the stage cannot be made" in first
    assert "another process of this run ended" in second


def fresh_stages(settings):
    return {r["name"]: r["status"] for r in run_recbole_hellm("HeLLM", CHECKERBOARD, config_dict=settings)["stages"]}


def test_one_process_makes_the_stages_and_the_other_reads_them(runs):
    made = runs.settings("fresh", stage_cache_dir=str(runs.root / "fresh-stages"), epochs=1)
    one, two = together(2, runs.root / "told" / "fresh", fresh_stages, made)
    assert {one[name] for name in ("features", "graph", "sequence")} == {"ran"}
    assert {two[name] for name in ("features", "graph", "sequence")} == {"reused"}


def drifted(settings):
    """Run while the second process adds something to a weight of its own."""
    plain = RanksMixin.sum_gradients

    def sum_gradients(self):
        plain(self)
        if os.environ["RANK"] == "1":
            self._trained()[0].data.add_(1e-3)

    RanksMixin.sum_gradients = sum_gradients
    return run_recbole_hellm("HeLLM", CHECKERBOARD, config_dict=settings)


def test_weights_that_drift_apart_are_found_at_the_next_validation(runs):
    folder = runs.root / "told" / "drift"
    assert finish(start(2, folder, drifted, runs.settings("drift")), SECONDS_TO_END) == [2, 2]
    assert "trained tensors differ between the processes" in said(folder)[0]


def collectives():
    """What the functions give, inside and outside of a group."""
    outside = (distributed.world_size(), distributed.rank(), distributed.of_main(3), distributed.gather(4))
    with distributed.joined(torch.device("cpu")):
        me = distributed.rank()
        weights = [torch.nn.Parameter(torch.zeros(2, 3)) for _ in range(3)]
        weights[0].grad = torch.full((2, 3), 1.0 + me).t().contiguous().t()  # not contiguous
        if me == 1:
            weights[1].grad = torch.ones(2, 3)
        distributed.sum_gradients(weights)
        tensor = torch.full((3,), float(me), dtype=torch.float64)
        distributed.spread([tensor])
        inside = {
            "sums": distributed.sums([1.0, me]),
            "maxima": distributed.maxima([me, -me]),
            "of_main": distributed.of_main(f"from {me}"),
            "gather": distributed.gather({"rank": me}),
            "rows": [(r.start, r.stop) for r in map(distributed.own_rows, (0, 1, 4, 5))],
            "gradients": [None if w.grad is None else w.grad.unique().tolist() for w in weights],
            "spread": tensor.tolist(),
        }
    return outside, inside, distributed.world_size()


def test_what_processes_tell_each_other(tmp_path, one_thread):
    first, second = together(2, tmp_path, collectives)
    assert first[0] == second[0] == (1, 0, 3, [4])
    assert first[2] == second[2] == 1
    for _, inside, _ in (first, second):
        assert inside["sums"] == [2.0, 1.0]
        assert inside["maxima"] == [1.0, 0.0]
        assert inside["of_main"] == "from 0"
        assert inside["gradients"] == [[3.0], [1.0], None]
        assert inside["spread"] == [0.0, 0.0, 0.0]
    assert (first[1]["gather"], second[1]["gather"]) == ([{"rank": 0}, {"rank": 1}], [])
    assert first[1]["rows"] == [(0, 0), (0, 1), (0, 2), (0, 3)]
    assert second[1]["rows"] == [(0, 0), (1, 1), (2, 4), (3, 5)]


def draws():
    with distributed.joined(torch.device("cpu")):
        trainer = build("HeLLM", SETTINGS).trainer
        with trainer._own_random():
            inside = torch.rand(8)
        return inside.tolist(), torch.rand(8).tolist()


SETTINGS = {}


def test_dropout_draws_differ_by_process_and_all_other_draws_are_the_same(runs):
    SETTINGS.update(runs.settings("draws"))
    (inside, after), (inside_two, after_two) = together(2, runs.root / "told" / "draws", draws)
    assert after == after_two
    assert not set(inside) & set(inside_two)
