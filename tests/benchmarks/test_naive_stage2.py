"""The plain side of stage 2 and of ranking gives what the product gives, with the same weights and prompt."""

import pytest
import torch

from benchmarks.models import CountedTargets, only_users, random_vectors, sequences
from benchmarks.naive.building import build_naive, copy_weights
from benchmarks.naive.ranking import metrics, rank_of, rank_users
from benchmarks.naive.stage2 import samples, train_step
from benchmarks.ranking import rows_of
from recbole_hellm.testing.building import build

PAPER = {
    "finetune_targets": "last",
    "finetune_slot_norm": False,
    "finetune_dropout": 0.0,
    "prefix_rank": 0,
    "prefix_gain": 1.0,
}


@pytest.fixture
def sides(toy):
    """Build both sides with one set of weights, LoRA and a prompt after the slots included."""

    def sides_of(**changes):
        built = build("HeLLM", toy(**{**PAPER, **changes}))
        core = built.model.core
        random_vectors(core, seed=4)
        core.before, core.after = torch.tensor([1, 7, 9]), torch.tensor([5, 6])
        torch.manual_seed(5)
        with torch.no_grad():
            for parameter in core.parameters():
                if parameter.requires_grad:  # LoRA starts at zero, the head almost: every part has to show
                    parameter.add_(torch.randn_like(parameter) * 0.1)
        naive = build_naive(built.config.final_config_dict, core.graph_vectors.size(0), core.before, core.after)
        copy_weights(core, naive)
        built.model.eval()
        naive.eval()
        return built, naive

    return sides_of


@pytest.mark.parametrize("changes", [{}, {"prefix_rank": 3, "finetune_slot_norm": True}])
def test_logits_are_equal_whatever_the_padding(sides, changes):
    built, naive = sides(**changes)
    core = built.model.core
    histories = [torch.tensor([3]), torch.tensor([4, 9, 1, 12, 7]), torch.tensor([2, 6])]
    right = torch.nn.utils.rnn.pad_sequence(histories, batch_first=True)
    left = torch.stack([torch.nn.functional.pad(row, (8 - len(row), 0)) for row in histories])
    with torch.no_grad():
        ours, theirs = core(right, right > 0), naive(left)
        alone = torch.cat([naive(row[None]) for row in histories])
    assert ours.std() > 0.1
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(alone, ours, atol=1e-5, rtol=1e-5)


def test_a_step_trains_what_the_product_trains(sides):
    built, naive = sides()
    trained = {name.partition("decoder.")[2] for name, p in naive.named_parameters() if p.requires_grad}
    wanted = {n.partition("model.")[2] for n, p in built.model.core.backbone.named_parameters() if p.requires_grad}
    assert {name for name in trained if name} == wanted != set()
    histories, targets = samples([torch.tensor([3, 5, 2, 9]), torch.tensor([4, 1])], max_len=6)
    assert histories.tolist() == [[0, 0, 0, 0, 0, 3], [0, 0, 0, 0, 3, 5], [0, 0, 0, 3, 5, 2], [0, 0, 0, 0, 0, 4]]
    assert targets.tolist() == [5, 2, 9, 1]
    optimizer = torch.optim.AdamW([p for p in naive.parameters() if p.requires_grad], lr=0.01)
    losses = [train_step(naive, optimizer, histories, targets) for _ in range(8)]
    assert losses[-1] < losses[0]


def test_ranks_and_metrics_are_those_of_the_evaluation(sides):
    built, naive = sides()
    result = built.trainer.evaluate(built.test, load_best_model=False)
    histories, targets = rows_of(built.test)
    ranks = rank_users(naive, histories, targets)
    assert len(set(ranks)) > 3
    assert ranks == built.trainer.ranks["rank"].tolist()
    for name, value in metrics(ranks, 5).items():
        assert value == pytest.approx(result[name], abs=1e-6)


def test_the_rank_leaves_padding_out():
    assert rank_of(torch.tensor([9.0, 1.0, 3.0, 2.0]), 3) == 2


def test_every_scored_target_is_counted(sides):
    built, _ = sides()
    with CountedTargets(built.model.core) as counted:
        built.trainer._train_epoch(built.train, 0)
    there = sum(len(sequence) - 1 for sequence in sequences(built.train))
    assert counted.count == there == 40 * 5
    with pytest.raises(RuntimeError, match="none was counted"), CountedTargets(built.model.core):
        pass


def test_fewer_users_keep_the_catalogue(sides):
    built, _ = sides()
    part = only_users(built.train, 7, seed=0)
    assert len(torch.unique(part._dataset.inter_feat["user_id"])) == 7
    assert part._dataset.item_num == built.train._dataset.item_num
    with CountedTargets(built.model.core) as counted:
        built.trainer._train_epoch(part, 0)
    assert counted.count == 7 * 5
