"""Metrics and ranks by several processes are those of one, to the last digit."""

import numpy as np
import pytest

ALL_USERS_AT_ONCE, UNEVEN = 64, 7


@pytest.fixture(scope="module", params=["off", "learned"])
def trained(runs, request):
    """A trained model; the same command later only tests it."""
    changes = {"fusion": request.param, "epochs": 1}
    name = f"trained-{request.param}"
    return name, changes, runs.go(1, name, **changes)[0]


def measured_again(runs, trained, count, **changes):
    name, made, _ = trained
    return runs.go(count, name, **made, resume="yes", **changes)


@pytest.mark.parametrize(("count", "size"), [(2, 16), (2, UNEVEN), (3, ALL_USERS_AT_ONCE)])
def test_metrics_and_ranks_equal_those_of_one_process(runs, trained, count, size):
    (alone,) = measured_again(runs, trained, 1, eval_batch_size=size)
    first, *others = measured_again(runs, trained, count, eval_batch_size=size)
    assert first["test_result"] == alone["test_result"]
    assert len(first["test_result"]) == 5
    assert all(other["test_result"] == first["test_result"] for other in others)
    assert len(first["ranks"]["user"]) == 40
    for column in ("user", "item", "rank"):
        assert np.array_equal(first["ranks"][column], alone["ranks"][column]), column


def test_weights_of_the_fusion_are_the_same(runs, trained):
    if trained[1]["fusion"] == "off":
        pytest.skip("no fusion")
    name = "fused-by-two"
    both = runs.go(2, name, **trained[1])
    assert both[0]["best_valid_result"] == both[1]["best_valid_result"] == trained[2]["best_valid_result"]
    one, two = (runs.state(n)["fusion.weights"] for n in (trained[0], name))
    assert one.tolist() == two.tolist()


def test_sampled_evaluation(runs):
    """Candidates are drawn: every process draws the same, the metrics of the first count."""
    changes = {"epochs": 1, "metrics": ["Recall", "NDCG"], "eval_args": {"mode": "uni5"}}
    (alone,), both = runs.go(1, "sampled-1", **changes), runs.go(2, "sampled-2", **changes)
    assert both[0]["test_result"] == both[1]["test_result"] == alone["test_result"]
