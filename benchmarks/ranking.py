"""Full ranking of all Toys users with metrics, against one user per forward pass with the full prompt."""

from __future__ import annotations

import time
from typing import Any

import torch
from recbole.trainer import Trainer
from torch import Tensor

from benchmarks.child import in_child, measured
from benchmarks.data import find_data, settings
from benchmarks.fragment import Fragment, fingerprint, run_alone
from benchmarks.models import Model, build_hellm, only_users
from benchmarks.naive.building import build_naive, copy_weights
from benchmarks.naive.ranking import metrics, rank_users
from benchmarks.options import Options
from benchmarks.pairs import Paired
from benchmarks.stage2 import plain_model
from benchmarks.targets import keys_of

TIE = 1e-5
"""Scores whose difference is a smaller share of the user's largest one may change places with the order of a sum."""


def measure(options: Options) -> Fragment:
    """Users per second in turns, equality of ranks and metrics, and memory at two numbers of users."""
    data = find_data("amazon-toys", options)
    arguments = {"dataset": data.name, "seed": options.seed}
    small = options.quick
    speed = in_child("benchmarks.ranking:speed", **arguments, settings=settings(data, options),
                     turns=options.pairs or (1 if small else 3), n_naive=10 if small else 150)  # fmt: skip
    exact = settings(data, options, llm_precision="fp32")
    equal = in_child("benchmarks.ranking:equality", **arguments, settings=exact,
                     n_users=200 if small else 5000, n_ranks=20 if small else 300)  # fmt: skip
    counts = (50, 200) if small else (4500, 18000)
    memory = {str(n): in_child("benchmarks.ranking:memory", **arguments, settings=settings(data, options), n_users=n)
              for n in counts}  # fmt: skip
    details = {
        "data": data.name,
        "data_sha256": fingerprint(data),
        **speed,
        "equality_fp32": equal,
        "memory_by_users": memory,
        "memory_growth": memory[str(counts[1])]["peak_mb"] / max(1e-9, memory[str(counts[0])]["peak_mb"]),
    }
    return Fragment({"ranking_users_ratio": speed["seconds_per_user"]["ratio"]}, details)


def speed(dataset: str, settings: dict[str, Any], seed: int, turns: int, n_naive: int) -> dict[str, Any]:
    """Return seconds per user of both sides, metrics included."""
    fast = build_hellm(dataset, settings, seed)
    naive = plain_model(fast.config.final_config_dict, fast.n_items)
    histories, targets = rows_of(fast.test)
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed)).tolist()
    n_users = len(targets)

    def fast_turn() -> float:
        started = time.perf_counter()
        fast.trainer.evaluate(fast.test, load_best_model=False)
        return (time.perf_counter() - started) / n_users

    def naive_turn(number: int) -> float:
        chosen = [order[(number * n_naive + place) % n_users] for place in range(n_naive)]
        started = time.perf_counter()
        ranks = rank_users(naive, [histories[row] for row in chosen], [targets[row] for row in chosen])
        metrics(ranks, 10)
        return (time.perf_counter() - started) / n_naive

    fast.trainer.evaluate(only_users(fast.test, 100, seed), load_best_model=False)  # warm-up
    naive_turn(turns)
    costs = [(fast_turn(), naive_turn(number)) for number in range(turns)]
    both = Paired(naive=tuple(cost for _, cost in costs), fast=tuple(cost for cost, _ in costs))
    return {
        "users": n_users,
        "naive_users_per_turn": n_naive,
        "seconds_per_user": both.as_dict(),
        "users_per_second": {side: 1 / both.as_dict()[f"{side}_median"] for side in ("fast", "naive")},
        "trainer_users_per_second": fast.trainer.users_per_second,
    }


def rows_of(loader: Any) -> tuple[list[Tensor], list[int]]:
    """Return the history and the target of every evaluated user."""
    dataset = loader._dataset
    feat, field = dataset.inter_feat, dataset.iid_field
    histories, lengths = feat[field + dataset.config["LIST_SUFFIX"]], feat[dataset.item_list_length_field]
    return [row[:length] for row, length in zip(histories, lengths.tolist(), strict=True)], feat[field].tolist()


def equality(dataset: str, settings: dict[str, Any], seed: int, n_users: int, n_ranks: int) -> dict[str, Any]:
    """Compare metrics of some users with RecBole's own trainer, and ranks of fewer with one forward pass each; in fp32.

    The plain side has the same weights and the prompt of the fast one. A short training comes first: metrics that are
    zero are equal for no reason.
    """
    fast = build_hellm(dataset, settings, seed)
    fast.trainer._train_epoch(only_users(fast.train, n_users // 2, seed), 0)
    test = only_users(fast.test, n_users, seed)
    ours = dict(fast.trainer.evaluate(test, load_best_model=False))
    recbole = dict(Trainer(fast.config, fast.model).evaluate(test, load_best_model=False))
    part = only_users(test, n_ranks, seed)
    fast.trainer.evaluate(part, load_best_model=False)
    tokens, users = (
        part._dataset.field2id_token[part._dataset.uid_field],
        part._dataset.inter_feat[part._dataset.uid_field],
    )
    ranked = dict(zip(fast.trainer.ranks["user"].tolist(), fast.trainer.ranks["rank"].tolist(), strict=True))
    mine = torch.tensor([ranked[str(tokens[user])] for user in users.tolist()])
    plain = torch.tensor(rank_users(same_model(fast), *rows_of(part)))
    return {
        "users": len(test._dataset.inter_feat),
        "metrics": ours,
        "recbole_metrics": recbole,
        "largest_difference_of_metrics": max(abs(ours[name] - recbole[name]) for name in recbole),
        "users_ranked_one_by_one": len(users),
        "equal_ranks": float((plain == mine).double().mean()),
        "largest_difference_of_ranks": int((plain - mine).abs().max()),
        "differences_explained_by_ties": bool(((plain - mine).abs() <= near_ties(fast, part)).all()),
    }


def near_ties(fast: Model, loader: Any) -> Tensor:
    """Return by user how many other items score as the target does, but for what float32 sums may differ by."""
    rows = loader._dataset.inter_feat
    with torch.no_grad():
        scores = fast.model.eval().full_sort_predict(rows)[:, 1:]
    target = scores.gather(1, rows[loader._dataset.iid_field].unsqueeze(1) - 1)
    return ((scores - target).abs() <= TIE * scores.abs().amax(1, keepdim=True)).sum(1) - 1


def same_model(fast: Model) -> Any:
    """Return a plain model with weights, item vectors and prompt of a fast one."""
    core = fast.model.core
    naive = build_naive(fast.config.final_config_dict, fast.n_items, core.before, core.after)
    copy_weights(core, naive)
    return naive


def memory(dataset: str, settings: dict[str, Any], seed: int, n_users: int) -> dict[str, Any]:
    """Return the peak memory of an evaluation above what data and model hold."""
    fast = build_hellm(dataset, settings, seed)
    test = only_users(fast.test, n_users, seed)
    fast.trainer.evaluate(only_users(fast.test, 50, seed), load_best_model=False)  # what is made once
    found: dict[str, Any] = measured(lambda: fast.trainer.evaluate(test, load_best_model=False))
    return {key: found[key] for key in ("seconds", "peak_mb")}


if __name__ == "__main__":
    run_alone(measure, keys_of("ranking"), str(__doc__))
