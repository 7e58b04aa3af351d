"""Each user's metrics are RecBole's own, and their mean is the number RecBole reports."""

import numpy as np
import pytest

from recbole_hellm.benchmark.per_user import RANKING, check_mean, metric_vectors
from recbole_hellm.errors import ArtifactError, ConfigError
from recbole_hellm.quick_start import run_recbole_hellm
from recbole_hellm.testing import CHECKERBOARD

TOPK = [1, 3, 5, 12]
RANDOM_SPLIT = {"split": {"RS": [0.4, 0.2, 0.4]}, "group_by": "user", "order": "RO", "mode": "full"}
RUNS = (
    ("TransitionCounts", 6, {}),
    ("TransitionCounts", 12, {}),
    ("SASRec", 6, {}),
    ("SASRec", 12, {}),
    ("BPR", 12, {"eval_args": RANDOM_SPLIT}),
)
"""The last one has users with several targets in one list."""


@pytest.mark.parametrize(("model", "decimals", "changes"), RUNS)
def test_the_mean_over_users_is_what_recbole_reports(toy, model, decimals, changes):
    settings = toy(
        topk=TOPK, epochs=1, metrics=[*RANKING], valid_metric="NDCG@5", metric_decimal_place=decimals, **changes
    )
    result = run_recbole_hellm(model, CHECKERBOARD, config_dict=settings, saved=False)
    ranks, reported = result["trainer"].ranks, result["test_result"]
    assert (len(set(ranks["user"])) < len(ranks["user"])) == ("eval_args" in changes)
    vectors = metric_vectors(ranks["rank"], ranks["user"], RANKING, TOPK)
    assert set(vectors) == set(reported)
    assert len(vectors) == 24
    assert 0 < reported["ndcg@12"] < (1.01 if model == "TransitionCounts" else 1)  # the next square is certain
    check_mean(vectors, reported, decimals)
    for name, values in vectors.items():
        assert values.dtype == np.float64
        assert round(values.mean(), decimals) == pytest.approx(reported[name], abs=1e-15)


def test_known_values():
    vectors = metric_vectors(np.array([1, 3, 7, 1000]), np.array(["a", "b", "c", "d"]), RANKING, (2, 5))
    assert vectors["recall@5"].tolist() == vectors["hit@5"].tolist() == [1, 1, 0, 0]
    assert vectors["recall@2"].tolist() == [1, 0, 0, 0]
    assert vectors["mrr@5"].tolist() == pytest.approx([1, 1 / 3, 0, 0])
    assert vectors["ndcg@5"].tolist() == pytest.approx([1, 1 / np.log2(4), 0, 0])
    assert vectors["precision@5"].tolist() == pytest.approx([0.2, 0.2, 0, 0])
    assert vectors["map@5"].tolist() == pytest.approx([1, 1 / 3, 0, 0])


def test_targets_of_one_user_stand_in_one_list_and_users_come_sorted():
    ranks, users = np.array([5, 1, 2, 9]), np.array(["b", "c", "b", "a"])
    vectors = metric_vectors(ranks, users, ("recall", "ndcg"), (2, 5))
    assert vectors["recall@2"].tolist() == [0, 0.5, 1]
    assert vectors["recall@5"].tolist() == [0, 1, 1]
    best = 1 + 1 / np.log2(3)
    assert vectors["ndcg@5"].tolist() == pytest.approx([0, (1 / np.log2(3) + 1 / np.log2(6)) / best, 1])


def test_targets_behind_the_list_may_share_a_rank_but_not_those_in_it():
    users = np.array(["a", "a"])
    assert metric_vectors(np.array([21, 21]), users, ("recall",), (20,))["recall@20"].tolist() == [0]
    with pytest.raises(ArtifactError, match="two targets of one user have the same rank"):
        metric_vectors(np.array([4, 4]), users, ("recall",), (20,))


def test_wrong_mean_names_cell_and_metric():
    vectors = metric_vectors(np.array([1, 9]), np.array(["a", "b"]), ("recall", "mrr"), (5,))
    check_mean(vectors, {"recall@5": 0.5, "mrr@5": 0.5}, 6)
    with pytest.raises(ArtifactError, match=r"cell abc \(X\): mrr@5 .*0\.500000.*0\.500001"):
        check_mean(vectors, {"recall@5": 0.5, "mrr@5": 0.500001}, 6, "abc (X)")
    with pytest.raises(ArtifactError, match="recall@5"):
        check_mean(vectors, {"mrr@5": 0.5}, 6)
    with pytest.raises(ArtifactError, match="is nan"):
        check_mean({"mrr@5": vectors["mrr@5"] * np.nan}, {"mrr@5": 0.5}, 6)


def test_bad_metrics_and_ranks():
    one = np.array([1]), np.array(["a"])
    with pytest.raises(ConfigError, match=r"'gauc' cannot be made from ranks.*known: recall"):
        metric_vectors(*one, ("gauc",))
    with pytest.raises(ConfigError, match=r"did you mean 'ndcg'"):
        metric_vectors(*one, ("ndgc",))
    with pytest.raises(ArtifactError, match="at least 1"):
        metric_vectors(np.array([0]), np.array(["a"]))
