"""States somebody reads are the same whether the last layer computes the others or not."""

import pytest
import torch
from torch import nn

from recbole_hellm.llm.backbone import Backbone
from recbole_hellm.llm.some_positions import only_at

SIZES = {"vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}


class Counting(nn.Module):
    """Doubles its input and remembers how many positions it saw."""

    def forward(self, states):
        self.seen = states.shape[:-1].numel()
        return 2 * states


def test_a_module_computes_the_given_positions_and_no_others():
    module, states = Counting(), torch.arange(12.0).view(2, 3, 2)
    positions = torch.tensor([[True, False, True], [False, False, False]])
    with only_at([module], positions):
        out = module(states)
    assert module.seen == 2
    assert out.tolist() == [[[0, 2], [0, 0], [8, 10]], [[0, 0], [0, 0], [0, 0]]]
    assert torch.equal(module(states), 2 * states)  # as before, outside


def test_a_module_is_whole_again_after_an_error():
    module = Counting()
    with pytest.raises(KeyError), only_at([module], torch.zeros(1, 1, dtype=torch.bool)):
        raise KeyError
    assert torch.equal(module(torch.ones(1, 2, 3)), torch.full((1, 2, 3), 2.0))


@pytest.fixture
def backbone():
    from transformers import LlamaConfig, LlamaModel

    torch.manual_seed(0)
    config = LlamaConfig(**SIZES, intermediate_size=32, initializer_range=0.3, attn_implementation="eager")
    model = Backbone(LlamaModel(config)).eval()
    model.add_lora(2, 2, 0.0, ("q_proj", "o_proj", "gate_proj", "down_proj"))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter)
    return model


def read_of(backbone, inputs, read, asked):
    """Return the states at ``read`` and the gradients of what they sum to, asking for the states at ``asked``."""
    backbone.zero_grad()
    states = backbone(inputs, torch.ones(inputs.shape[:2], dtype=torch.bool), read=asked)[read]
    (states * torch.arange(states.numel()).view_as(states)).sum().backward()
    return states, {name: p.grad.clone() for name, p in backbone.named_parameters() if p.grad is not None}


def test_states_and_gradients_of_what_is_read_are_the_same(backbone):
    backbone.double()  # sums of other numbers of rows differ in float32
    inputs = torch.randn(3, 5, 16, dtype=torch.float64)
    read = torch.rand(3, 5) < 0.4
    read[:, -1] = True
    whole, whole_gradients = read_of(backbone, inputs, read, None)
    some, some_gradients = read_of(backbone, inputs, read, read)
    torch.testing.assert_close(some, whole)
    assert whole_gradients.keys() == some_gradients.keys()
    assert len(whole_gradients) == 16
    for name, gradient in whole_gradients.items():
        torch.testing.assert_close(some_gradients[name], gradient, msg=name)


def test_the_last_layer_makes_keys_and_values_of_all_and_the_rest_of_what_is_read(backbone):
    first, last = backbone.adapter.layers(backbone.model)
    seen = {}
    watched = {"first": first.mlp.down_proj, "first query": first.self_attn.q_proj, "last": last.mlp.down_proj,
               "query": last.self_attn.q_proj, "key": last.self_attn.k_proj, "out": last.self_attn.o_proj}  # fmt: skip
    for name, module in watched.items():
        linear = getattr(module, "base_layer", module)
        linear.register_forward_pre_hook(lambda _, args, name=name: seen.update({name: tuple(args[0].shape[:-1])}))
    read = torch.zeros(3, 5, dtype=torch.bool)
    read[:, -1] = True
    backbone(torch.randn(3, 5, 16), torch.ones(3, 5, dtype=torch.bool), read=read)
    assert seen == {"first": (3, 5), "first query": (3, 5), "key": (3, 5), "last": (3,), "query": (3,), "out": (3,)}


def test_a_decoder_without_such_a_part_computes_everything():
    from transformers import GPT2Config, GPT2Model

    torch.manual_seed(0)
    model = Backbone(GPT2Model(GPT2Config(vocab_size=20, n_embd=16, n_layer=2, n_head=4))).eval()
    inputs, mask = torch.randn(2, 3, 16), torch.ones(2, 3, dtype=torch.bool)
    read = torch.tensor([[False, False, True]] * 2)
    assert torch.equal(model(inputs, mask, read=read), model(inputs, mask))
