"""``llm_layers: 0``: HeLLM without a language model, the item head on the mean of the item slots."""

import shutil
from typing import ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from recbole_hellm.config.specs import check_together
from recbole_hellm.errors import ConfigError, MissingModelError
from recbole_hellm.llm.loading import load_width
from recbole_hellm.llm.prompt import Prompt
from recbole_hellm.models.hellm_core import HeLLMCore
from recbole_hellm.nn.heads import ItemScoreHead
from recbole_hellm.nn.pooling import running_mean
from recbole_hellm.testing.building import build, scores
from recbole_hellm.testing.contracts import ModelContract

NO_LAYERS = {"llm_layers": 0, "prefix_len": 0, "lora_r": 0}
VECTORS = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 4.0], [10.0, 2.0]])
"""Slots of items 0 (padding) to 3."""
HEAD = torch.tensor([[9.0, 9.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])


class TestPooledSlots(ModelContract):
    model = "HeLLM"
    trained_parts = ("core.item_tokens.", "core.head.")
    learning: ClassVar = {"epochs": 60, "eval_step": 20, "pretrain_epochs": 60, "sequence_epochs": 60,
                          "finetune_dropout": 0.1}  # fmt: skip

    @classmethod
    def settings(cls, folder, **changes):
        return super().settings(folder, **{**NO_LAYERS, **changes})


class TestPooledSlotsLast(TestPooledSlots):
    @classmethod
    def settings(cls, folder, **changes):
        return super().settings(folder, finetune_targets="last", **changes)


def by_hand(dropout=0.0):
    """A core whose slots are :data:`VECTORS` and whose head is :data:`HEAD`."""
    core = HeLLMCore(
        None,
        None,
        nn.Identity(),
        ItemScoreHead(2, 4),
        Prompt(before=()),
        n_items=4,
        graph_dim=2,
        sequence_dim=0,
        dropout=dropout,
    )
    core.graph_vectors.copy_(VECTORS)
    core.head.weight.data.copy_(HEAD)
    return core.eval()


def test_running_mean_on_either_side_of_the_padding():
    vectors = torch.tensor([[[2.0], [4.0], [9.0]], [[7.0], [2.0], [4.0]], [[5.0], [6.0], [7.0]]])
    mask = torch.tensor([[1, 1, 0], [0, 1, 1], [0, 0, 0]]).bool()
    want = torch.tensor([[[2.0], [3.0], [3.0]], [[0.0], [2.0], [3.0]], [[0.0], [0.0], [0.0]]])
    assert torch.equal(running_mean(vectors, mask), want)


def test_states_and_scores_by_hand():
    core, items = by_hand(), torch.tensor([[1, 2, 3], [3, 0, 0]])
    states = core.hidden(items, items > 0)
    assert states.tolist() == [[[2.0, 0.0], [1.0, 2.0], [4.0, 2.0]], [[10.0, 2.0]] * 3]
    assert core.last_hidden(items, items > 0).tolist() == [[4.0, 2.0], [10.0, 2.0]]
    assert core(items, items > 0)[1].tolist() == [108.0, 10.0, 2.0, 12.0]


def test_causal_loss_by_hand():
    """Both positions are scored: the mean of item 1 predicts item 2, the mean of 1 and 2 predicts item 3."""
    items, targets = torch.tensor([[1, 2]]), torch.tensor([[2, 3]])
    loss = by_hand().causal_loss(items, items > 0, targets, torch.tensor([1]), 0.0)
    logits = torch.tensor([[18.0, 2.0, 0.0, 2.0], [27.0, 1.0, 2.0, 3.0]])
    want = torch.stack([torch.logsumexp(logits[0], 0) - 0.0, torch.logsumexp(logits[1], 0) - 3.0]).mean()
    torch.testing.assert_close(loss, want)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 5), st.integers(0, 99))
def test_no_position_sees_a_later_item(position, seed):
    core = by_hand()
    items = torch.randint(1, 4, (3, 7), generator=torch.Generator().manual_seed(seed))
    changed = items.clone()
    changed[:, position + 1 :] = changed[:, position + 1 :] % 3 + 1
    one, two = core.hidden(items, items > 0), core.hidden(changed, items > 0)
    assert torch.equal(one[:, : position + 1], two[:, : position + 1])
    assert not torch.allclose(one[:, position + 1], two[:, position + 1])


def test_the_model_scores_the_mean_of_its_slots(toy):
    built = build("HeLLM", toy(**NO_LAYERS))
    rows = built.train._dataset.inter_feat[:9]
    core, model = built.model.core, built.model.eval()
    with torch.no_grad():
        slots = core.slots(torch.arange(model.n_items).unsqueeze(0))[0]
        assert slots.shape == (model.n_items, 32), "not as wide as the language model"
        torch.testing.assert_close(slots.square().mean(1), torch.ones(model.n_items), atol=1e-4, rtol=0)
        want = [
            core.head.weight @ slots[row[:length]].mean(0)
            for row, length in zip(rows[model.ITEM_SEQ], rows[model.ITEM_SEQ_LEN], strict=True)
        ]
    torch.testing.assert_close(scores(built, rows), torch.stack(want), atol=1e-6, rtol=1e-5)


def test_a_checkpoint_holds_slots_and_head_alone(toy):
    model = build("HeLLM", toy(**NO_LAYERS)).model
    projection = {f"core.item_tokens.projection.{layer}.{name}" for layer in (0, 2) for name in ("weight", "bias")}
    want = {"core.graph_vectors", "core.sequence_vectors", "core.head.weight", *projection}
    assert set(model.state_dict()) == want
    assert {name for name, _ in model.named_parameters()} == want - {"core.graph_vectors", "core.sequence_vectors"}


def test_no_weights_of_the_language_model_are_needed(toy, llm, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copy(llm / "config.json", bare)
    model = build("HeLLM", toy(**NO_LAYERS, llm_path=str(bare))).model
    assert model.core.backbone is None
    assert model.core.head.weight.shape[1] == load_width(str(bare)) == 32
    with pytest.raises(MissingModelError, match="'gone' is no folder"):
        load_width("gone")


def test_it_computes_in_full_precision(toy, monkeypatch):
    monkeypatch.setattr("recbole_hellm.models.hellm.use_bf16", lambda *_: True)
    assert build("HeLLM", toy()).model.core.autocast is True
    model = build("HeLLM", toy(**NO_LAYERS, llm_precision="auto")).model
    assert model.core.autocast is False


def test_slots_may_be_left_as_they_come(toy):
    model = build("HeLLM", toy(**NO_LAYERS, finetune_slot_norm=False)).model
    assert model.core.item_tokens.rms == 0.0
    assert build("HeLLM", toy(finetune_slot_norm=False)).model.core.item_tokens.rms == 0.0


CONTRADICTIONS = [
    ({"prefix_len": 3}, "'prefix_len' > 0, got 3", "prefix_len=0"),
    ({"lora_r": 16}, "'lora_r' > 0, got 16", "lora_r=0"),
    (
        {"prompt_template": "alpaca", "finetune_targets": "last"},
        "'prompt_template' = 'alpaca'",
        "prompt_template=none",
    ),
    ({"llm_precision": "bf16"}, "'llm_precision' = 'bf16'", "llm_precision=auto"),
    (
        {"llm_gradient_checkpointing": True},
        "'llm_gradient_checkpointing' = True",
        "llm_gradient_checkpointing=False",
    ),
]


@pytest.mark.parametrize(("more", "excluded", "way_out"), CONTRADICTIONS)
def test_what_needs_a_layer_is_refused(more, excluded, way_out):
    with pytest.raises(ConfigError) as error:
        check_together({**NO_LAYERS, **more})
    assert str(error.value) == (
        f"setting 'llm_layers' = 0 excludes {excluded}: there is no layer to act on; set {way_out}, or keep a layer"
    )
    check_together(NO_LAYERS)


def test_all_contradictions_stand_in_one_message():
    with pytest.raises(ConfigError) as error:
        check_together({"llm_layers": 0})
    assert "excludes 'prefix_len' > 0, got 10, 'lora_r' > 0, got 16: " in str(error.value)
    assert "set prefix_len=0 lora_r=0, or keep a layer" in str(error.value)


def test_the_start_of_the_log_says_so(toy):
    lines = build("HeLLM", toy(**NO_LAYERS, llm_pretrained=False)).model.departures()
    assert "llm_layers=0: the mean of the item slots instead of the language model" in lines
    assert "finetune_slot_norm=True: item slots scaled to 1" in lines
    assert not any(line.startswith("llm_pretrained") for line in lines), "there is no model that could be random"
