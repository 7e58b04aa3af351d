"""The second stage's trainer: schedule, accumulation, what is optimised, and the losses it drives."""

import math

import pytest
import torch

from recbole_hellm.errors import HellmError
from recbole_hellm.quick_start import run_recbole_hellm
from recbole_hellm.testing import CHECKERBOARD
from recbole_hellm.testing.building import build
from recbole_hellm.trainer.staged import TrainBatches

STILL = {"finetune_dropout": 0.0, "prefix_dropout": 0.0, "lora_dropout": 0.0}
ROWS = 40 * 5
"""Training rows of the toy: 40 users, 8 interactions, the last two held out, no row for the first."""
BPR = {"loss_type": "BPR", "finetune_targets": "last"}


def trainable(model):
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_schedule_has_the_known_values(toy):
    built = build(
        "HeLLM", toy(epochs=4, learning_rate=0.01, finetune_min_learning_rate=0.001, finetune_warmup_epochs=1.0)
    )
    scheduler, rates = built.trainer._schedule(steps=10), []
    for _ in range(41):
        rates.append(scheduler.get_last_lr()[0])
        built.trainer.optimizer.step()
        scheduler.step()
    assert rates[:10] == pytest.approx([0.01 * (step + 1) / 11 for step in range(10)])
    assert rates[10] == pytest.approx(0.01)
    assert rates[25] == pytest.approx(0.0055)  # half way down
    assert rates[40] == pytest.approx(0.001)
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_schedule_runs_by_step_over_all_epochs(toy):
    built = build("HeLLM", toy(epochs=3, finetune_targets="last", train_batch_size=50, finetune_warmup_epochs=1.0))
    rates, optimizer = [], built.trainer.optimizer
    optimizer.register_step_pre_hook(lambda *_: rates.append(optimizer.param_groups[0]["lr"]))
    built.trainer.fit(built.train, None, saved=False)
    assert len(rates) == 3 * ROWS / 50
    assert rates[:4] == pytest.approx([0.01 * (index + 1) / 5 for index in range(4)])
    assert rates[4] == pytest.approx(0.01)
    assert 0 < rates[-1] < rates[-2] < 0.01


@pytest.mark.parametrize("clip", [None, {"max_norm": 0.01}])
def test_two_half_batches_are_one_batch(toy, clip):
    gradients = []
    for size, parts in ((ROWS, 1), (ROWS // 2, 2)):
        settings = toy(finetune_targets="last", train_batch_size=size, finetune_accumulation_steps=parts,
                       clip_grad_norm=clip, **STILL)  # fmt: skip
        built = build("HeLLM", settings)
        loss = built.trainer._train_epoch(built.train, 0)
        assert built.trainer._scheduler.last_epoch == 1, "one step"
        gradients.append({name: p.grad for name, p in trainable(built.model).items()} | {"loss": torch.tensor(loss)})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-6, rtol=1e-4, msg=name)
    if clip:
        norm = math.sqrt(sum(float(g.square().sum()) for name, g in gradients[0].items() if name != "loss"))
        assert norm == pytest.approx(0.01, rel=1e-3)


def test_a_last_odd_batch_is_stepped_too(toy):
    built = build("HeLLM", toy(finetune_targets="last", train_batch_size=80, finetune_accumulation_steps=2))
    built.trainer._train_epoch(built.train, 0)
    assert built.trainer._scheduler.last_epoch == 2  # batches of 80, 80 | 40


def test_an_epoch_is_the_textbook_loop(toy):
    settings = toy(finetune_targets="last", train_batch_size=30, weight_decay=0.1, clip_grad_norm=None,
                   finetune_warmup_epochs=1.0, finetune_beta2=0.9, **STILL)  # fmt: skip
    built, plain = build("HeLLM", settings), build("HeLLM", settings)
    built.trainer._train_epoch(built.train, 0)

    parameters = trainable(plain.model)
    matrices, vectors = ([p for p in parameters.values() if (p.dim() > 1) == wide] for wide in (True, False))
    assert matrices
    assert vectors
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}], betas=(0.9, 0.9)
    )
    plain.model.train()
    batches = TrainBatches(plain.train, False, torch.Generator().manual_seed(plain.config["seed"]))
    for step, batch in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = 0.01 * (step + 1) / (len(batches) + 1)
        plain.model.zero_grad()
        plain.model.calculate_loss(batch).backward()
        optimizer.step()
    assert len(batches) == math.ceil(ROWS / 30)
    for name, parameter in trainable(built.model).items():
        torch.testing.assert_close(parameter, parameters[name], atol=1e-6, rtol=1e-5, msg=name)


@pytest.mark.parametrize("model", ["HeLLM", "MMHCL"])
def test_only_trained_parameters_have_optimiser_state(toy, model):
    built = build(model, toy())
    built.trainer._train_epoch(built.train, 0)
    wanted = {id(parameter) for parameter in trainable(built.model).values()}
    grouped = [id(p) for group in built.trainer.optimizer.param_groups for p in group["params"]]
    assert {id(parameter) for parameter in built.trainer.optimizer.state} == wanted
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == wanted
    frozen = [p for p in built.model.parameters() if not p.requires_grad]
    assert all(parameter.grad is None for parameter in frozen)
    assert (len(frozen) > 0) == (model == "HeLLM")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("model", ["HeLLM", "MMHCL"])
def test_a_loss_that_is_no_number_stops_naming_settings(toy, monkeypatch, model, value):
    built = build(model, toy())
    before = {name: p.detach().clone() for name, p in trainable(built.model).items()}
    first = next(iter(before))
    monkeypatch.setattr(built.model, "calculate_loss", lambda rows: trainable(built.model)[first].sum() * value)
    with pytest.raises(HellmError, match="training loss is (nan|inf|-inf).*learning_rate.*0.01.*llm_precision"):
        built.trainer.fit(built.train, built.valid, saved=False)
    assert all(torch.equal(p, before[name]) for name, p in trainable(built.model).items())


def test_every_row_is_in_an_epoch_once_and_epochs_differ(toy):
    built = build("HeLLM", toy(finetune_targets="last", train_batch_size=7))
    generator, epochs = torch.Generator().manual_seed(0), []
    for _ in range(2):
        batches = list(TrainBatches(built.train, False, generator))
        epochs.append(
            [(int(u), int(i)) for batch in batches for u, i in zip(batch["user_id"], batch["item_id"], strict=True)]
        )
    rows = built.train._dataset.inter_feat
    wanted = sorted(zip(rows["user_id"].tolist(), rows["item_id"].tolist(), strict=True))
    assert len(wanted) == ROWS
    assert sorted(epochs[0]) == sorted(epochs[1]) == wanted
    assert epochs[0] != epochs[1]


def test_all_targets_needs_one_row_a_user(toy):
    built = build("HeLLM", toy(finetune_targets="all"))
    batches = list(TrainBatches(built.train, True, torch.Generator().manual_seed(0)))
    users = torch.cat([batch["user_id"] for batch in batches])
    assert sorted(users.tolist()) == list(range(1, 41))
    assert torch.cat([batch["item_length"] for batch in batches]).unique().tolist() == [5]


def test_bpr_takes_recboles_negative(toy, monkeypatch):
    built = build("HeLLM", toy(**BPR, **STILL))
    batch = next(iter(TrainBatches(built.train, False, torch.Generator().manual_seed(0))))
    assert (batch["neg_item_id"] != batch["item_id"]).all()
    built.model.eval()
    with torch.no_grad():
        every = built.model.full_sort_predict(batch)
        rows = torch.arange(len(batch))
        apart = every[rows, batch["item_id"]] - every[rows, batch["neg_item_id"]]
        wanted = -torch.nn.functional.logsigmoid(apart).mean()
        torch.testing.assert_close(built.model.calculate_loss(batch), wanted, atol=1e-5, rtol=1e-5)


def test_a_sample_of_the_catalogue_learns(toy):
    settings = toy(**STILL, epochs=60, eval_step=60, finetune_negatives=10, pretrain_epochs=20, sequence_epochs=20)
    result = run_recbole_hellm("HeLLM", CHECKERBOARD, config_dict=settings)
    assert result["trainer"].model.core.negatives == 10
    assert result["test_result"]["recall@5"] == 1.0


def test_bpr_learns(toy):
    settings = toy(
        **BPR,
        **STILL,
        epochs=30,
        eval_step=30,
        learning_rate=0.003,
        train_batch_size=32,
        pretrain_epochs=20,
        sequence_epochs=20,
    )
    result = run_recbole_hellm("HeLLM", CHECKERBOARD, config_dict=settings)
    losses = list(result["trainer"].train_loss_dict.values())
    assert losses[-1] < losses[0] / 3
    assert result["test_result"]["recall@5"] == 1.0


@pytest.mark.parametrize(("loss", "share"), [("bpr", 0.5), ("softmax", 0.8)])  # softmax: log 4 of log 8 at best
def test_mmhcl_learns(loss, share, toy):
    built = build("MMHCL", toy(epochs=10, graph_loss=loss))
    built.trainer.fit(built.train, None, saved=False)
    losses = list(built.trainer.train_loss_dict.values())
    assert losses[-1] < losses[0] * share
