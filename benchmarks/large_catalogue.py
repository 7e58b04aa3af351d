"""Training steps and ranking against a catalogue of millions of items, by one process or several.

``torchrun --nproc-per-node=2 -m benchmarks.large_catalogue --items 10000000 --width 32`` splits the items over the
processes; with ``--negatives 8192`` one process samples the softmax instead.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable

import torch
from torch import Tensor

from recbole_hellm import distributed
from recbole_hellm.nn.catalogue_loss import sampled_cross_entropy
from recbole_hellm.nn.sharded_catalogue import Shard, shard_of, sharded_cross_entropy, sharded_ranks, sharded_top_k
from recbole_hellm.results import hardware, peak_memory_mb, reset_peak_memory


def main() -> None:
    """Measure, and print one line of JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--items", type=int, default=10_000_000)
    parser.add_argument("--width", type=int, default=32, help="of the item vectors")
    parser.add_argument("--rows", type=int, default=256, help="targets of a step, users ranked at a time")
    parser.add_argument("--negatives", type=int, default=0, help="sampled softmax on one process; 0: the whole, split")
    parser.add_argument("--steps", type=int, default=3)
    options = parser.parse_args()
    with distributed.joined(torch.device("cpu")):
        found = _sampled(options) if options.negatives else _split(options)
        found["memory_gb_by_process"] = distributed.gather(round(peak_memory_mb() / 1024, 2))
        if distributed.is_main():
            about = {**vars(options), "processes": distributed.world_size(), "threads": torch.get_num_threads()}
            print(json.dumps({**about, **found, "hardware": hardware(), "load": os.getloadavg()[0]}))


def _inputs(options: argparse.Namespace, n_own: int) -> tuple[Tensor, Tensor, Tensor]:
    reset_peak_memory()
    torch.manual_seed(0)
    states, targets = torch.randn(options.rows, options.width), torch.randint(1, options.items, (options.rows,))
    weight = torch.empty(n_own, options.width).normal_(std=0.02)
    return states.requires_grad_(), weight.requires_grad_(), targets


def _steps(options: argparse.Namespace, weight: Tensor, loss: Callable[[], Tensor]) -> dict[str, object]:
    optimizer, seconds, losses = torch.optim.AdamW([weight], lr=1e-2, fused=True), [], []
    for _ in range(options.steps):
        distributed.wait()
        started = time.perf_counter()
        optimizer.zero_grad()
        value = loss()
        value.backward()
        optimizer.step()
        seconds.append(round(time.perf_counter() - started, 2))
        losses.append(round(value.item(), 4))
    return {"seconds_by_step": seconds, "losses": losses}


def _split(options: argparse.Namespace) -> dict[str, object]:
    shard: Shard = shard_of(options.items)
    states, weight, targets = _inputs(options, shard.stop - shard.start)
    found = _steps(options, weight, lambda: sharded_cross_entropy(states, weight, targets, shard))
    with torch.no_grad():
        started = time.perf_counter()
        best = sharded_top_k(states[:32], weight, 20, shard)
        ranks = sharded_ranks(states[:32], weight, targets[:32], shard)
        took = round(time.perf_counter() - started, 2)
    assert best[1].shape == (32, 20)
    return {**found, "seconds_to_rank_32": took, "mean_rank": float(ranks.double().mean())}


def _sampled(options: argparse.Namespace) -> dict[str, object]:
    states, weight, targets = _inputs(options, options.items)

    def loss() -> Tensor:
        drawn = 1 + torch.randint(options.items - 1, (2 * options.negatives,)).unique()[: options.negatives]
        return sampled_cross_entropy(states, weight, targets, drawn[torch.randperm(len(drawn))])

    return _steps(options, weight, loss)


if __name__ == "__main__":
    main()
