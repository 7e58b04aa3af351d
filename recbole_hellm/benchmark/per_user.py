"""Each user's own metrics, made from the ranks of their targets by RecBole's metric classes."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence

import numpy as np
from recbole.evaluator.base_metric import TopkMetric
from recbole.evaluator.register import metrics_dict

from recbole_hellm.errors import ArtifactError, ConfigError, nearest

RANKING = ("recall", "mrr", "ndcg", "hit", "precision", "map")
"""RecBole's metrics that a target's rank decides alone."""


def metric_vectors(
    ranks: np.ndarray,
    users: np.ndarray,
    metrics: Sequence[str] = ("recall", "mrr", "ndcg", "hit", "precision"),
    topk: Sequence[int] = (5, 10, 20),
) -> dict[str, np.ndarray]:
    """Return the value of every metric for every ranked list.

    Args:
        ranks: Place of each target, 1 = first, shape ``[n_targets]``.
        users: Whose ranked list the target stands in, shape ``[n_targets]``; an entry that occurs several times has
            several targets in one list.
        metrics: RecBole's names.
        topk: Lengths of the recommendation list.

    Returns:
        By ``"ndcg@10"``: shape ``[n_lists]``, in the sorted order of ``users``.

    Raises:
        ConfigError: If a metric is none of :data:`RANKING`.
        ArtifactError: If a rank is below 1, or two targets of one list have the same place in it.
    """
    for name in metrics:
        if name.lower() not in RANKING:
            raise ConfigError(
                f"metric {name!r} cannot be made from ranks{nearest(name, RANKING)}; known: {', '.join(RANKING)}"
            )
    ranks, longest = np.asarray(ranks), max(topk)
    if len(ranks) and ranks.min() < 1:
        raise ArtifactError(f"a rank must be at least 1 (1 = first), got {ranks.min()}")
    lists, row, pos_len = np.unique(np.asarray(users), return_inverse=True, return_counts=True)
    shown = ranks <= longest
    places = np.stack([row[shown], ranks[shown] - 1])
    if places.shape[1] != np.unique(places, axis=1).shape[1]:
        raise ArtifactError("two targets of one user have the same rank, so they do not stand in one ranked list")
    pos_index = np.zeros((len(lists), longest), dtype=bool)
    pos_index[tuple(places)] = True
    settings = {"topk": list(topk), "metric_decimal_place": None}
    vectors = {}
    for name in metrics:
        metric: TopkMetric = metrics_dict[name.lower()](settings)
        wanted = inspect.signature(metric.metric_info).parameters
        values = metric.metric_info(pos_index, pos_len) if "pos_len" in wanted else metric.metric_info(pos_index)
        # A copy: a view would keep the whole [n_lists, longest] matrix alive.
        vectors.update({f"{name.lower()}@{k}": values[:, k - 1].astype(np.float64) for k in topk})
    return vectors


def check_mean(
    vectors: Mapping[str, np.ndarray], reported: Mapping[str, float], decimals: int = 6, cell: str = "?"
) -> None:
    """Check that the users' values average to the number RecBole reported, as RecBole rounds it.

    Args:
        vectors: What :func:`metric_vectors` gives.
        reported: RecBole's numbers under the same names; all of ``vectors`` must be there.
        decimals: RecBole's ``metric_decimal_place``.
        cell: What the numbers belong to, named by the error.

    Raises:
        ArtifactError: If a mean differs; it names cell and metric.
    """
    for name, values in vectors.items():
        mean, number = float(values.mean()), reported.get(name)
        # Half a unit of the last place is what rounding may change; the rest is the order of summation, in which
        # the last bit of a mean that lies between two roundings may differ.
        if number is None or not abs(mean - number) <= 0.5 * 10.0**-decimals + 1e-12:  # a NaN is refused too
            raise ArtifactError(
                f"cell {cell}: {name} of the kept ranks is {mean:.{decimals}f}, but the line says {number}; "
                "the ranks are of another run, run this cell again"
            )
