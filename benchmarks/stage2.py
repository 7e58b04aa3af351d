"""Training of stage 2 on Toys: ours at its default settings against one full prompt per (history, next item)."""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.child import in_child
from benchmarks.data import find_data, settings
from benchmarks.fragment import Fragment, fingerprint, run_alone
from benchmarks.models import CountedTargets, Model, build_hellm, only_users, sequences
from benchmarks.naive.building import build_naive, prompt_ids
from benchmarks.naive.stage2 import NaiveHeLLM, samples, train_step
from benchmarks.options import Options
from benchmarks.pairs import Paired
from benchmarks.targets import keys_of

BATCH, MAX_LEN = 7, 50
"""The authors' batch and padded history."""


def measure(options: Options) -> Fragment:
    """Time the two sides in turns in one process, and the machine's matrix rate between them."""
    data = find_data("amazon-toys", options)
    sizes = {"n_users": 60, "turns": options.pairs or 2, "n_steps": 2, "side": 256} if options.quick else {
        "n_users": 1500, "turns": options.pairs or 5, "n_steps": 8, "side": 4096}  # fmt: skip
    found = in_child("benchmarks.stage2:work", dataset=data.name, settings=settings(data, options), seed=options.seed,
                     **sizes)  # fmt: skip
    keys: dict[str, float | None] = {
        "stage2_samples_ratio": found["seconds_per_sample"]["ratio"],
        "stage2_peak_share": statistics.median(found["peak_share"]),
    }
    return Fragment(keys, {"data": data.name, "data_sha256": fingerprint(data), **sizes, **found})


def work(dataset: str, settings: dict[str, Any], seed: int, n_users: int, turns: int, n_steps: int, side: int) -> Any:
    """Return costs per training target of both sides, operations of ours, and the matrix rate of each turn."""
    fast = build_hellm(dataset, settings, seed)
    train = only_users(fast.train, n_users, seed)
    naive = NaiveSide(fast, seed)
    fast.trainer._train_epoch(only_users(fast.train, max(40, n_users // 10), seed), 0)  # warm-up
    naive.seconds_per_sample(2)
    counter = FlopCounterMode(display=False)
    with counter, CountedTargets(fast.model.core) as counted:
        fast.trainer._train_epoch(train, 0)
    per_target = counter.get_total_flops() / counted.count
    by_turn: dict[str, list[float]] = {"fast": [], "naive": [], "rate": [], "targets": [], "share": []}
    for _ in range(turns):
        before = matrix_rate(side)
        started = time.perf_counter()
        with CountedTargets(fast.model.core) as counted:
            fast.trainer._train_epoch(train, 0)
        seconds = time.perf_counter() - started
        rate = max(before, matrix_rate(side))
        by_turn["fast"].append(seconds / counted.count)
        by_turn["targets"].append(counted.count)
        by_turn["rate"].append(rate)
        by_turn["share"].append(per_target * counted.count / seconds / rate)
        by_turn["naive"].append(naive.seconds_per_sample(n_steps))
    costs = Paired(tuple(by_turn["naive"]), tuple(by_turn["fast"]))
    return {
        "seconds_per_sample": costs.as_dict(),
        "samples_per_second": {side: 1 / costs.as_dict()[f"{side}_median"] for side in ("fast", "naive")},
        "targets_scored": by_turn["targets"],
        "targets_there": sum(len(sequence) - 1 for sequence in sequences(train)),
        "flops_per_target": per_target,
        "bf16_matrix_flops_per_second": by_turn["rate"],
        "peak_share": by_turn["share"],
        "fast_settings": {key: fast.config[key] for key in REPORTED},
        "naive_tokens": naive.tokens,
    }


REPORTED = ("llm_path", "llm_layers", "llm_precision", "finetune_targets", "prompt_template", "prefix_len",
            "prefix_graph", "train_batch_size", "lora_r")  # fmt: skip


class NaiveSide:
    """The plain side for the settings of a fast one, and its samples in random order."""

    def __init__(self, fast: Model, seed: int) -> None:
        found = fast.config.final_config_dict
        self.model = plain_model(found, fast.n_items)
        self.tokens = len(self.model.before) + MAX_LEN + len(self.model.after)
        self.histories, self.targets = samples(sequences(fast.train), MAX_LEN)
        self.generator = torch.Generator().manual_seed(seed)
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1)

    def seconds_per_sample(self, n_steps: int) -> float:
        """Take some steps and return their cost per sample."""
        self.model.train()
        rows = torch.randint(len(self.targets), (n_steps, BATCH), generator=self.generator)
        started = time.perf_counter()
        for batch in rows:
            train_step(self.model, self.optimizer, self.histories[batch], self.targets[batch])
        return (time.perf_counter() - started) / rows.numel()


def plain_model(found: dict[str, Any], n_items: int) -> NaiveHeLLM:
    """Return the plain model of a fast one's settings with the Alpaca prompt of the paper."""
    from recbole_hellm.config.specs import BackboneSpec, PromptSpec

    llm = BackboneSpec.from_config(found)
    try:
        before, after = prompt_ids(llm, PromptSpec.from_config(found).instruction)
    except (OSError, ValueError):  # the tiny model of a quick run has no tokenizer
        before, after = torch.arange(1, 61) % 64, torch.arange(5)
    return build_naive(found, n_items, before, after)


def matrix_rate(side: int, repeats: int = 3) -> float:
    """Return the best of some bf16 products of square matrices, in operations per second."""
    one, two = (torch.randn(side, side).bfloat16() for _ in range(2))

    def once() -> float:
        started = time.perf_counter()
        _keep(one @ two)
        return 2 * side**3 / (time.perf_counter() - started)

    once()
    return max(once() for _ in range(repeats))


def _keep(product: Tensor) -> None:
    assert product.dim() == 2


if __name__ == "__main__":
    run_alone(measure, keys_of("stage2"), str(__doc__))
