"""The kept ranks are RecBole's own metrics, one user at a time; the history is masked as asked."""

import math

import numpy as np
import pytest
import torch
from recbole.utils import get_trainer

from recbole_hellm.config.recbole_config import HellmConfig
from recbole_hellm.quick_start import run_recbole_hellm
from recbole_hellm.testing import CHECKERBOARD
from recbole_hellm.testing.building import build, ranked_scores
from recbole_hellm.trainer.evaluation import with_ranks

TOPK = [1, 3, 5, 12]
MODELS = ("HeLLM", "MMHCL", "TransitionCounts", "SASRec", "BPR")
SEQUENTIAL = ("HeLLM", "TransitionCounts", "SASRec")
RANDOM_SPLIT = {"split": {"RS": [0.4, 0.2, 0.4]}, "group_by": "user", "order": "RO", "mode": "full"}


def from_ranks(ranks):
    """Recompute RecBole's metrics by their definition from (user, rank of a target)."""
    of_user = {}
    for user, rank in zip(ranks["user"], ranks["rank"], strict=True):
        of_user.setdefault(user, []).append(int(rank))
    result = {}
    for k in TOPK:
        hits = [[rank for rank in sorted(found) if rank <= k] for found in of_user.values()]
        sizes = [len(found) for found in of_user.values()]
        result[f"recall@{k}"] = np.mean([len(hit) / n for hit, n in zip(hits, sizes, strict=True)])
        result[f"mrr@{k}"] = np.mean([1 / hit[0] if hit else 0 for hit in hits])
        gain = [sum(1 / math.log2(rank + 1) for rank in hit) for hit in hits]
        best = [sum(1 / math.log2(rank + 1) for rank in range(1, min(n, k) + 1)) for n in sizes]
        result[f"ndcg@{k}"] = np.mean([g / b for g, b in zip(gain, best, strict=True)])
    return result


@pytest.fixture
def evaluated(toy):
    """Train and evaluate one epoch at full precision."""

    def run(model, **changes):
        settings = toy(topk=TOPK, metric_decimal_place=12, valid_metric="NDCG@5", epochs=1, **changes)
        return run_recbole_hellm(model, CHECKERBOARD, config_dict=settings, saved=False)

    return run


@pytest.mark.parametrize("model", MODELS)
def test_ranks_give_recboles_metrics(model, evaluated):
    result = evaluated(model)
    assert set(result["trainer"].ranks["user"]) == {f"u{user}" for user in range(40)}
    assert "[PAD]" not in result["trainer"].ranks["item"]
    again = from_ranks(result["trainer"].ranks)
    assert set(again) == set(result["test_result"])
    assert 0 < again["recall@12"] <= 1
    for name, value in result["test_result"].items():
        assert again[name] == pytest.approx(value, abs=1e-11), name


@pytest.mark.parametrize("model", ["MMHCL", "BPR"])
def test_ranks_give_recboles_metrics_with_several_targets(model, evaluated):
    result = evaluated(model, eval_args=RANDOM_SPLIT)
    ranks = result["trainer"].ranks
    assert len(ranks["user"]) > 2 * 40
    for name, value in from_ranks(ranks).items():
        assert value == pytest.approx(result["test_result"][name], abs=1e-11), name


@pytest.mark.parametrize("levels", [1, 2, 5])
@pytest.mark.parametrize("model", ["HeLLM", "MMHCL"])
def test_ranks_give_recboles_metrics_when_scores_tie(model, levels, toy, monkeypatch):
    built = build(model, toy(topk=TOPK, metric_decimal_place=12, valid_metric="NDCG@5"))
    generator = torch.Generator().manual_seed(0)

    def tied(interaction):
        rows = len(interaction)
        return torch.randint(levels, (rows, 21), generator=generator).float().view(-1 if model == "MMHCL" else rows, 21)

    monkeypatch.setattr(built.model, "full_sort_predict", tied)
    result = built.trainer.evaluate(built.test, load_best_model=False)
    again = from_ranks(built.trainer.ranks)
    for name, value in result.items():
        assert again[name] == pytest.approx(value, abs=1e-11), name


def test_ranks_behind_the_list_count_better_items(toy, monkeypatch):
    built = build("HeLLM", toy(topk=[2], valid_metric="Recall@2"))
    monkeypatch.setattr(
        built.model, "full_sort_predict", lambda interaction: -torch.arange(21.0).repeat(len(interaction), 1)
    )
    built.trainer.evaluate(built.test, load_best_model=False)
    tokens = list(built.test._dataset.field2id_token["item_id"])
    ids = [tokens.index(item) for item in built.trainer.ranks["item"]]
    assert built.trainer.ranks["rank"].tolist() == ids  # item 1 is first; the padding column is in no place


def masked(model, settings):
    """Return scores after masking, and history and target of every test user."""
    config = HellmConfig(model, CHECKERBOARD, config_dict=settings)
    assert config["mask_history"] == settings.get("mask_history")
    built = build(model, settings)
    built.trainer.evaluate(built.test, load_best_model=False)
    for interaction, history, rows, items in built.test:
        seen = interaction["item_id_list"] if model in SEQUENTIAL else None
        scores = ranked_scores(built.trainer, (interaction, history, rows, items))
        for row, item in zip(rows.tolist(), items.tolist(), strict=True):
            past = set(seen[row].tolist()) - {0} if seen is not None else set(history[1][history[0] == row].tolist())
            yield torch.isneginf(scores[row]), past, item


@pytest.mark.parametrize(
    ("model", "setting", "hides"),
    [
        ("HeLLM", "auto", False),
        ("HeLLM", "no", False),
        ("HeLLM", "yes", True),
        ("TransitionCounts", "yes", True),
        ("MMHCL", "auto", True),
        ("MMHCL", "yes", True),
        ("MMHCL", "no", False),
    ],
)
def test_mask_history_does_what_it_says(model, setting, hides, toy):
    users = list(masked(model, toy(mask_history=setting)))
    assert len(users) == 40
    for hidden, past, target in users:
        assert hidden[0]
        assert len(past) == 7
        assert not hidden[target]
        assert set(torch.nonzero(hidden).flatten().tolist()) == ({0} | past if hides else {0})


def test_a_target_that_is_in_its_own_history_is_still_ranked(toy):
    built = build("HeLLM", toy(mask_history="yes"))
    built.trainer.evaluate(built.test, load_best_model=False)
    interaction, history, rows, items = next(iter(built.test))
    interaction["item_id_list"][rows, 0] = items
    scores = ranked_scores(built.trainer, (interaction, history, rows, items))
    assert torch.isfinite(scores[rows, items]).all()
    assert torch.isneginf(scores[rows, interaction["item_id_list"][rows, 1]]).all()


def test_recboles_own_trainers_get_ranks_once():
    plain = get_trainer(None, "S3Rec")
    assert with_ranks(plain) is not plain
    assert issubclass(with_ranks(plain), plain)
    assert with_ranks(with_ranks(plain)).__mro__.count(plain) == 1
    twice = with_ranks(plain)
    assert with_ranks(twice) is twice


@pytest.mark.parametrize("mask", ["auto", "yes", "no"])
def test_a_baseline_is_masked_as_ours_are(mask, evaluated):
    results = {model: evaluated(model, mask_history=mask)["config"]["mask_history"] for model in ("SASRec", "BPR")}
    assert set(results.values()) == {mask}


@pytest.mark.parametrize(("written", "hides"), [("yes", True), ("no", False)])
@pytest.mark.parametrize("model", ["HeLLM", "MMHCL"])
def test_mask_history_as_written_on_the_command_line(model, written, hides, toy):
    """yaml reads the bare words yes and no as true and false."""
    built = build(model, toy())
    value = HellmConfig(model, CHECKERBOARD, config_dict=toy(), argv=[f"--mask_history={written}"])["mask_history"]
    built.config["mask_history"] = value
    interaction, history, rows, items = next(iter(built.test))
    built.trainer.evaluate(built.test, load_best_model=False)
    scores = ranked_scores(built.trainer, (interaction, history, rows, items))
    assert bool(torch.isneginf(scores[:, 1:]).any()) == hides
