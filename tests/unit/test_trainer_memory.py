"""Batches that do not fit into memory: halved, with equal ranks and gradients."""

import logging

import numpy as np
import pytest
import torch

from recbole_hellm.errors import ArtifactError, HellmError
from recbole_hellm.out_of_memory import is_memory_error
from recbole_hellm.testing.building import build
from recbole_hellm.trainer.halving import Halving

STILL = {"finetune_dropout": 0.0, "prefix_dropout": 0.0, "lora_dropout": 0.0}


def really_too_much():
    """Raise what torch raises when the processor's memory does not suffice."""
    torch.empty(1 << 55, dtype=torch.uint8)


def only_up_to(most, method, sizes):
    """``method`` of a batch, which runs out of memory beyond ``most`` rows, after it has done its work."""

    def limited(rows, *args):
        sizes.append(len(rows))
        result = method(rows, *args)
        if len(rows) > most:
            really_too_much()
        return result

    return limited


def test_torch_itself_raises_what_is_recognised():
    with pytest.raises(RuntimeError) as error:
        really_too_much()
    assert is_memory_error(error.value)


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:75] DefaultCPUAllocator: not enough memory"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied (3x4 and 5x6)"), False),
        (ValueError("out of memory"), False),
        (ArtifactError("model file x cannot be written (out of memory)"), False),
    ],
)
def test_which_errors_are_of_memory(error, is_one):
    assert is_memory_error(error) is is_one


def test_halving_covers_every_row_once_and_remembers(caplog):
    halving, tried, done = Halving("ranking", "eval_batch_size"), [], []

    def work(part):
        tried.append((part.start, part.stop))
        if part.stop - part.start > 3:
            really_too_much()
        done.extend(range(part.start, part.stop))

    with caplog.at_level(logging.WARNING):
        halving.over(10, work)
        halving.over(4, work)
    assert done == [*range(10), *range(4)]
    assert tried[:3] == [(0, 10), (0, 5), (0, 2)]
    assert max(stop - start for start, stop in tried[2:]) == 2, "what did not fit is not tried again"
    assert [record.getMessage() for record in caplog.records] == [
        "ranking: 10 rows do not fit into memory, going on with 5 at a time (same result); "
        "eval_batch_size=5 avoids the attempt",
        "ranking: 5 rows do not fit into memory, going on with 2 at a time (same result); "
        "eval_batch_size=2 avoids the attempt",
    ]


def test_a_single_row_that_does_not_fit_ends_in_one_line():
    with pytest.raises(HellmError, match=r"^ranking: memory does not suffice for a single row \(.*more memory$"):
        Halving("ranking", "eval_batch_size").over(4, lambda part: really_too_much())


def test_another_error_is_not_swallowed():
    def work(part):
        raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        Halving("ranking", "eval_batch_size").over(4, work)


@pytest.mark.parametrize("masked", ["auto", "yes", "no"])
@pytest.mark.parametrize("model", ["HeLLM", "MMHCL"])
@pytest.mark.parametrize("where", ["model", "collector"])
def test_ranks_and_metrics_are_equal_in_parts(toy, monkeypatch, model, masked, where):
    metrics = {"metrics": ["Recall", "NDCG", "MRR", "GAUC", "ItemCoverage"], "topk": [3, 5]}
    rows = 16 if model == "HeLLM" else 16 * 21
    built = build(model, toy(eval_batch_size=rows, mask_history=masked, **metrics))
    built.trainer.eval_collector.data_collect(built.train)  # as fit does: the coverage counts items
    whole = built.trainer.evaluate(built.test, load_best_model=False)
    ranks, sizes = dict(built.trainer.ranks), []
    if where == "model":
        limited = only_up_to(3, built.model.full_sort_predict, sizes)
        monkeypatch.setattr(built.model, "full_sort_predict", limited)
    else:
        limited = only_up_to(3, built.trainer.eval_collector.eval_batch_collect, sizes)
        monkeypatch.setattr(built.trainer.eval_collector, "eval_batch_collect",
                            lambda scores, *rest: None if scores is None else limited(scores, *rest))  # fmt: skip
    parts = built.trainer.evaluate(built.test, load_best_model=False)
    assert sizes[:4] == [16, 8, 4, 2]
    assert max(sizes[3:]) == 2
    assert parts == whole
    assert len(ranks["rank"]) == 40
    for name, column in ranks.items():
        assert np.array_equal(built.trainer.ranks[name], column), name


@pytest.mark.parametrize("settings", [{}, {"finetune_targets": "last"},
                                      {"finetune_targets": "last", "loss_type": "BPR"}])  # fmt: skip
@pytest.mark.parametrize("steps", [1, 2])
def test_gradients_are_those_of_the_whole_batch(toy, monkeypatch, settings, steps):
    found = []
    for most in (10**6, 5):
        built, sizes = build("HeLLM", toy(train_batch_size=40, **STILL, **settings)), []
        built.model.train()
        batch = next(iter(built.train))
        assert len(batch) == 40
        limited = only_up_to(most, built.model.calculate_loss, sizes)
        monkeypatch.setattr(built.model, "calculate_loss", limited)
        torch.manual_seed(7)
        losses = [built.trainer.backward(batch, steps) for _ in range(steps)]
        gradients = {name: p.grad for name, p in built.model.named_parameters() if p.grad is not None}
        found.append((losses, gradients, sizes))
    (loss, whole, one), (loss_of_parts, parts, several) = found
    assert one == [40] * steps
    assert several == [40, 20, 10] + [5] * 8 * steps
    assert loss_of_parts == pytest.approx(loss, abs=1e-6)
    assert len(whole) > 5
    assert set(parts) == set(whole)
    assert max(float(gradient.abs().max()) for gradient in whole.values()) > 1e-3
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, atol=1e-6, rtol=1e-5, msg=name)


def test_rows_at_once_is_kept_to_from_the_start(toy, monkeypatch):
    built, sizes = build("HeLLM", toy(train_batch_size=16, train_rows_at_once=6)), []
    monkeypatch.setattr(built.model, "calculate_loss", only_up_to(6, built.model.calculate_loss, sizes))
    built.trainer._train_epoch(built.train, 0)
    assert max(sizes) == 6
    assert sum(sizes) == 40  # histories of the toy, each once


def test_a_model_that_cannot_be_halved_says_what_to_lower(toy, monkeypatch):
    built = build("MMHCL", toy(train_batch_size=16))
    monkeypatch.setattr(built.model, "calculate_loss", only_up_to(3, built.model.calculate_loss, []))
    with pytest.raises(
        HellmError, match=r"^training: memory does not suffice \(.*lower setting 'train_batch_size', now 16"
    ):
        built.trainer.fit(built.train, None, saved=False)
