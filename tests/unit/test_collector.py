import pytest
import torch
from recbole.evaluator import Collector
from recbole.evaluator.evaluator import Evaluator

from recbole_hellm.testing.building import build
from recbole_hellm.trainer.collector import RankCollector


@pytest.fixture
def config(toy):
    metrics = ["Recall", "NDCG", "MRR", "Hit", "Precision", "MAP", "ItemCoverage", "GAUC"]
    return lambda names=metrics[:6]: build("MMHCL", toy(topk=[1, 3, 5], metrics=list(names))).config


def batches(seed, levels, several):
    """Give scores with ties, and one target a row or several."""
    draw = torch.Generator().manual_seed(seed)
    for size in (4, 1, 7):
        scores = torch.randint(levels, (size, 12), generator=draw).float()
        scores[:, 0] = -torch.inf
        per_row = torch.randint(1, 4, (size,), generator=draw) if several else torch.ones(size, dtype=torch.long)
        rows = torch.repeat_interleave(torch.arange(size), per_row)
        items = torch.cat([1 + torch.randperm(11, generator=draw)[:n] for n in per_row.tolist()])
        yield scores, {"user_id": torch.arange(size) + 1}, rows, items


@pytest.mark.parametrize("levels", [1, 3, 1000])
@pytest.mark.parametrize("several", [False, True])
def test_metrics_are_recboles_to_the_last_digit(levels, several, config):
    settings = config()
    ours, theirs = RankCollector(settings), Collector(settings)
    ours.start(ranks_all=True)
    for seed in range(5):
        for batch in batches(seed, levels, several):
            ours.eval_batch_collect(*batch)
            theirs.eval_batch_collect(*batch)
    found, want = ours.get_data_struct(), theirs.get_data_struct()
    assert torch.equal(found["rec.topk"], want["rec.topk"])
    assert Evaluator(settings).evaluate(found) == Evaluator(settings).evaluate(want)


def test_the_rank_behind_the_list_counts_better_items(config):
    collector = RankCollector(config())
    collector.start(ranks_all=True)
    scores = torch.arange(12.0, 0.0, -1.0).repeat(2, 1)
    scores[:, 0] = -torch.inf  # the order is 1, 2, ...
    collector.eval_batch_collect(scores, {"user_id": torch.tensor([8, 9])}, torch.tensor([0, 1]), torch.tensor([2, 11]))
    users, items, ranks = collector.rows[0]
    assert (users.tolist(), items.tolist(), ranks.tolist()) == ([8, 9], [2, 11], [2, 11])


def test_metrics_that_need_more_get_it(config):
    settings = config(["NDCG", "ItemCoverage"])
    ours, theirs = RankCollector(settings), Collector(settings)
    ours.start(ranks_all=True)
    for batch in batches(0, 50, several=False):
        ours.eval_batch_collect(*batch)
        theirs.eval_batch_collect(*batch)
    found, want = ours.get_data_struct(), theirs.get_data_struct()
    assert torch.equal(found["rec.items"], want["rec.items"])


def test_ranks_are_of_the_last_evaluation_only(config):
    collector = RankCollector(config())
    for _ in range(2):
        collector.start(ranks_all=True)
        for batch in batches(0, 50, several=False):
            collector.eval_batch_collect(*batch)
    assert sum(len(users) for users, _, _ in collector.rows) == 12
