"""While users are ranked, what all of them share is made once; scores stay, and weights come back to the bit."""

import pytest
import torch
from peft.tuners.lora import LoraLayer
from recbole.data.interaction import Interaction
from torch import nn

from recbole_hellm.llm import merged_lora as merging
from recbole_hellm.llm.merged_lora import merged_lora
from recbole_hellm.models import hellm_core
from recbole_hellm.testing.building import build, scores


@pytest.fixture
def built(toy):
    """A HeLLM whose LoRA says something, on tiny data, at full precision."""
    made = build("HeLLM", toy(fusion="off", llm_precision="fp32"))
    torch.manual_seed(0)
    for name, parameter in made.model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.2)
    made.model.eval()
    return made


def lora_calls(model):
    """Count the products of LoRA's own matrices from now on."""
    calls = []
    for name, part in model.named_modules():
        if name.rpartition(".")[0].endswith(("lora_A", "lora_B")):
            part.register_forward_hook(lambda *_, name=name: calls.append(name))
    return calls


def weights(model):
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def test_a_merged_matrix_is_the_sum_and_makes_one_product(built):
    backbone = built.model.core.backbone
    layer = next(part for part in backbone.modules() if isinstance(part, LoraLayer))
    frozen, down, up = layer.base_layer.weight, layer.lora_A["default"].weight, layer.lora_B["default"].weight
    by_hand = frozen.detach() + layer.scaling["default"] * up.detach() @ down.detach()
    with merged_lora(backbone.model):
        torch.testing.assert_close(layer.base_layer.weight, by_hand)
    rows = built.test._dataset.inter_feat[:8]
    calls = lora_calls(built.model)
    apart = scores(built, rows)
    assert calls
    calls.clear()
    with built.model.ranking():
        torch.testing.assert_close(scores(built, rows), apart, rtol=1e-4, atol=1e-5)
        assert not calls


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_come_back_to_the_bit(built, dtype):
    model = built.model.core.backbone.model.to(dtype)
    before = weights(model)
    merged = merged_lora(model)
    merged.__enter__()
    assert any(not torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())
    assert not merged.__exit__(KeyError, KeyError(), None)
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())
    calls = lora_calls(model)
    model(inputs_embeds=torch.ones(1, 2, model.config.hidden_size, dtype=dtype))
    assert calls  # LoRA is back


def test_large_matrices_are_not_copied(built, monkeypatch):
    monkeypatch.setattr(merging, "MOST_BYTES", 1)
    before = weights(built.model)
    with built.model.ranking():
        assert all(torch.equal(parameter, before[name]) for name, parameter in built.model.named_parameters())


def test_an_update_of_a_shared_matrix_stays_apart(built):
    model = built.model.core.backbone.model
    mlp = built.model.core.backbone.adapter.layers(model)[0].mlp
    first, second = mlp.gate_proj, mlp.up_proj
    second.get_base_layer().weight = first.get_base_layer().weight
    with merged_lora(model):
        assert [part.merged for part in (first, second, mlp.down_proj)] == [False, False, True]


def test_where_memory_does_not_suffice_nothing_is_made_once(built, monkeypatch):
    rows = built.test._dataset.inter_feat[:8]
    apart, before, copied = scores(built, rows), weights(built.model), []
    clone = torch.Tensor.clone

    def few(self, *args, **kwargs):
        copied.append(self)
        if len(copied) > 3:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
        return clone(self, *args, **kwargs)

    made = built.model.core._slots
    wide = lambda items: made(items) if items.dim() == 2 else few(items)  # noqa: E731
    monkeypatch.setattr(torch.Tensor, "clone", few)
    monkeypatch.setattr(built.model.core, "_slots", wide)
    with built.model.ranking():
        monkeypatch.setattr(torch.Tensor, "clone", clone)
        assert len(copied) == 4
        assert torch.equal(scores(built, rows), apart)
    assert len(copied) == 5
    assert all(torch.equal(parameter, before[name]) for name, parameter in built.model.named_parameters())


def test_tokens_of_all_items_are_made_once(built, monkeypatch):
    made = []
    built.model.core.item_tokens.register_forward_hook(lambda _, args, out: made.append(args[0].shape[:-1].numel()))
    rows = built.test._dataset.inter_feat[:8]
    apart = scores(built, rows)
    monkeypatch.setattr(hellm_core, "ITEMS", 5)
    made.clear()
    with built.model.ranking():
        assert not made
        for _ in range(2):
            torch.testing.assert_close(scores(built, rows), apart, rtol=1e-4, atol=1e-5)
    assert sum(made) == built.model.n_items
    with torch.no_grad():
        built.model.core.graph_vectors.mul_(2)  # new vectors, new tokens
    assert not torch.allclose(scores(built, rows), apart)
    monkeypatch.setattr(hellm_core, "MOST_TOKEN_BYTES", 1)
    made.clear()
    with built.model.ranking():
        scores(built, rows)
    assert sum(made) == int(rows[built.model.ITEM_SEQ_LEN].max()) * len(rows)


def test_a_model_that_trains_inside_makes_its_tokens_anew(built):
    made = []
    built.model.core.item_tokens.register_forward_hook(lambda *_: made.append(1))
    rows: Interaction = built.test._dataset.inter_feat[:4]
    with built.model.ranking():
        scores(built, rows)
        made.clear()
        built.model.train()
        built.model._last_hidden(rows)
    assert made


def test_an_evaluation_ranks_with_the_weights_it_loads(built):
    built.trainer.fit(built.train, built.valid, saved=True)
    found = built.trainer.evaluate(built.test)
    ranks = built.trainer.ranks["rank"].copy()
    with torch.no_grad():
        for parameter in built.model.parameters():
            if parameter.requires_grad:
                parameter.normal_()
    built.trainer.evaluate(built.test, load_best_model=False)
    assert (built.trainer.ranks["rank"] != ranks).any()
    assert built.trainer.evaluate(built.test) == found
    assert (built.trainer.ranks["rank"] == ranks).all()


@pytest.mark.parametrize(("parts", "merges"), [(["llm", "transitions"], True), (["transitions"], False)])
def test_nothing_is_merged_for_a_language_model_that_has_no_say(parts, merges, toy):
    made = build("HeLLM", toy(fusion="learned", fusion_parts=parts))
    layer = next(part for part in made.model.core.backbone.modules() if isinstance(part, LoraLayer))
    nn.init.normal_(layer.lora_B["default"].weight, std=0.2)
    before = layer.base_layer.weight.detach().clone()
    with made.model.ranking():
        assert torch.equal(layer.base_layer.weight, before) is not merges


def test_a_language_model_at_weight_0_is_merged_since_weights_are_chosen_while_ranking(toy):
    made = build("HeLLM", toy(fusion="learned", fusion_parts=["llm", "transitions"]))
    layer = next(part for part in made.model.core.backbone.modules() if isinstance(part, LoraLayer))
    nn.init.normal_(layer.lora_B["default"].weight, std=0.2)
    before = layer.base_layer.weight.detach().clone()
    made.model.fusion.weights[0] = 0
    with made.model.ranking():
        assert not torch.equal(layer.base_layer.weight, before)
