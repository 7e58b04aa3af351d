from dataclasses import replace

import pytest
import torch

from recbole_hellm.errors import ConfigError
from recbole_hellm.llm.backbone import Backbone, adapter_for
from recbole_hellm.llm.graph_prefix import GraphPrefix, PrefixStates
from recbole_hellm.llm.loading import keep_layers
from recbole_hellm.llm.prompt import Prompt
from recbole_hellm.models.hellm_core import HeLLMCore
from recbole_hellm.nn.fusion import ItemTokens
from recbole_hellm.nn.heads import ItemScoreHead

WIDTH, LAYERS, P = 16, 2, 3
SIZES = {"vocab_size": 20, "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": 4}
GQA = {**SIZES, "intermediate_size": 32, "num_key_value_heads": 2, "initializer_range": 0.3}


def llama(**more):
    from transformers import LlamaConfig, LlamaModel

    return LlamaModel(LlamaConfig(**{**GQA, "attn_implementation": "eager", **more}))


def qwen3():
    from transformers import Qwen3Config, Qwen3Model

    return Qwen3Model(Qwen3Config(**GQA, head_dim=8))


def gpt2():
    from transformers import GPT2Config, GPT2Model

    return GPT2Model(GPT2Config(vocab_size=20, n_embd=WIDTH, n_layer=LAYERS, n_head=4, bos_token_id=1, eos_token_id=2))


def seeded(make, **more):
    torch.manual_seed(0)
    return Backbone(make(**more)).eval()


@pytest.fixture
def backbone():
    return seeded(llama)


@pytest.fixture
def inputs():
    """Vectors ``[3, 5, D]`` of which every token is real."""
    return torch.randn(3, 5, WIDTH, generator=torch.Generator().manual_seed(1)), torch.ones(3, 5, dtype=torch.bool)


@pytest.fixture
def prefix():
    draw = torch.Generator().manual_seed(2)

    def states():
        shared, own = torch.randn(LAYERS, P, WIDTH, generator=draw), torch.randn(3, WIDTH, generator=draw)
        return PrefixStates(shared, own, torch.rand(3, LAYERS, P, generator=draw) + 0.5)

    return states(), states()


def silent(states):
    return replace(states, scale=torch.zeros_like(states.scale))


def scatter(vectors, places, length):
    """Put the tokens of each row at ``places`` of a longer row of noise, and mask the noise."""
    padded = torch.randn(len(vectors), length, WIDTH)
    mask = torch.zeros(len(vectors), length, dtype=torch.bool)
    padded[:, places], mask[:, places] = vectors, True
    return padded, mask


@pytest.mark.parametrize("make", [llama, qwen3])
def test_the_prefix_reaches_every_token(make, inputs, prefix):
    model = seeded(make)
    with_, without = model(*inputs, prefix), model(*inputs)
    assert (with_ - without).abs().amax((0, 2)).min() > 1e-3
    keys_only = model(*inputs, (prefix[0], silent(prefix[1])))
    values_only = model(*inputs, (silent(prefix[0]), prefix[1]))
    for other in (keys_only, values_only):
        assert (with_ - other)[:, -1].abs().max() > 1e-3


def test_every_layer_and_position_of_the_prefix_is_used(backbone, inputs, prefix):
    whole = backbone(*inputs, prefix)[:, -1]
    for layer in range(LAYERS):
        for place in range(P):
            shared = prefix[1].shared.clone()
            shared[layer, place] += 1
            changed = replace(prefix[1], shared=shared)
            assert (backbone(*inputs, (prefix[0], changed))[:, -1] - whole).abs().max() > 1e-4, (layer, place)


def test_a_row_sees_its_own_prefix_only(backbone, inputs, prefix):
    own = prefix[1].own.clone()
    own[0] += 1
    changed = prefix[0], replace(prefix[1], own=own)
    one, two = backbone(*inputs, prefix), backbone(*inputs, changed)
    assert torch.equal(one[1:], two[1:])
    assert not torch.allclose(one[0], two[0], atol=1e-3)


@pytest.mark.parametrize("use_prefix", [False, True])
@pytest.mark.parametrize("places", [[0, 4, 5, 6, 7], [0, 1, 2, 3, 4], [0, 1, 4, 6, 7]], ids=["left", "right", "middle"])
def test_padding_changes_nothing_wherever_it_stands(backbone, inputs, prefix, places, use_prefix):
    states = prefix if use_prefix else None
    plain, padded = backbone(*inputs, states), backbone(*scatter(inputs[0], places, 9), states)
    torch.testing.assert_close(padded[:, places], plain, rtol=1e-4, atol=1e-5)


def test_a_token_does_not_see_later_ones(backbone, inputs, prefix):
    vectors = inputs[0].clone()
    vectors[:, 3:] += 1
    one, two = backbone(*inputs, prefix), backbone(vectors, inputs[1], prefix)
    assert torch.equal(one[:, :3], two[:, :3])
    assert not torch.allclose(one[:, 3:], two[:, 3:], atol=1e-3)


def test_a_second_pass_starts_from_a_fresh_cache(backbone, inputs, prefix):
    assert torch.equal(backbone(*inputs, prefix), backbone(*inputs, prefix))
    assert backbone.prefix_cache(*prefix).get_seq_length() == P
    assert backbone.prefix_cache(*prefix).get_seq_length() == P


def test_keys_of_the_prefix_are_projected_and_not_rotated(backbone, prefix):
    cache = backbone.prefix_cache(*prefix)
    for index, layer in enumerate(backbone.model.layers):
        keys = (prefix[0].dense()[:, index] @ layer.self_attn.k_proj.weight.T).view(3, P, 2, 4).transpose(1, 2)
        values = (prefix[1].dense()[:, index] @ layer.self_attn.v_proj.weight.T).view(3, P, 2, 4).transpose(1, 2)
        torch.testing.assert_close(cache.layers[index].keys, keys)
        torch.testing.assert_close(cache.layers[index].values, values)


def test_keys_of_the_prefix_are_normalised_where_the_family_does(prefix):
    model = seeded(qwen3)
    for layer in model.model.layers:
        torch.nn.init.uniform_(layer.self_attn.k_norm.weight, 1, 3)
    keys = model.prefix_cache(*prefix).layers[1].keys
    attention = model.model.layers[1].self_attn
    raw = attention.k_proj(prefix[0].dense()[:, 1]).view(3, P, 2, 8).transpose(1, 2)
    want = raw / (raw.square().mean(-1, keepdim=True) + 1e-6).sqrt() * attention.k_norm.weight
    torch.testing.assert_close(keys, want, rtol=1e-4, atol=1e-5)


def core(backbone):
    torch.manual_seed(3)
    graph_prefix = GraphPrefix(LAYERS, P, WIDTH, 4)
    whole = HeLLMCore(backbone, graph_prefix, ItemTokens(7, WIDTH), ItemScoreHead(WIDTH, 9), Prompt((1,)), 9, 4, 3)
    whole.graph_vectors.normal_()
    whole.sequence_vectors.normal_()
    return whole


def test_gradients_reach_all_that_is_trained_and_nothing_else(backbone):
    backbone.add_lora(2, 4, 0.0, ["gate_proj", "q_proj"])
    model = core(backbone)
    for _ in range(2):  # the second half of an update starts at zero and gives the first no gradient
        model.zero_grad()
        model(torch.tensor([[1, 2, 3], [4, 5, 0]]), torch.tensor([[1, 1, 1], [1, 1, 0]]).bool()).logsumexp(
            1
        ).sum().backward()
        torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1).step()
    trained = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    wanted = {name for name, _ in model.named_parameters() if "lora_" in name or not name.startswith("backbone.")}
    assert trained == wanted
    assert {name for name, p in model.named_parameters() if p.requires_grad} == wanted
    assert sum("lora_" in name for name in wanted) == LAYERS * 2 * 2


def test_lora_starts_without_effect_and_then_has_one(inputs):
    plain, tuned = seeded(llama), seeded(llama)
    tuned.add_lora(2, 4, 0.0, ["down_proj"])
    torch.testing.assert_close(tuned(*inputs), plain(*inputs))
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    assert (tuned(*inputs) - plain(*inputs)).abs().max() > 1e-2


def test_an_unknown_lora_target_gives_the_near_name_and_all_known(backbone):
    with pytest.raises(ConfigError, match=r"'q_prj', which matches .*\(did you mean 'q_proj'\?\); it has: down_proj, "):
        backbone.add_lora(2, 4, 0.0, ["v_proj", "q_prj"])


def test_a_model_without_linear_modules_takes_no_lora():
    with pytest.raises(ConfigError, match="it has none; set lora_r=0"):
        seeded(gpt2).add_lora(2, 4, 0.0, ["c_attn"])


def test_a_model_without_separate_keys_takes_no_prefix(inputs):
    model = seeded(gpt2)
    with pytest.raises(ConfigError, match="'prefix_len' must be 0 for a backbone of type 'gpt2'.*register an adapter"):
        model.check_prefix()
    assert model(*inputs).shape == (3, 5, WIDTH)


@pytest.mark.parametrize("make", [llama, qwen3])
def test_a_model_with_separate_keys_takes_a_prefix(make):
    seeded(make).check_prefix()


def test_gradient_checkpointing_gives_the_same_gradients_without_a_prefix(inputs):
    grads = []
    for recompute in (False, True):
        model = seeded(llama)
        if recompute:
            model.checkpoint_gradients()
        model.add_lora(2, 4, 0.0, ["down_proj"])
        torch.manual_seed(4)
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(parameter)
        model.train()
        model(*inputs).square().sum().backward()
        grads.append([p.grad for p in model.parameters() if p.requires_grad])
    assert len(grads[0]) == 2 * LAYERS
    for one, two in zip(*grads, strict=True):
        assert one.abs().sum() > 0
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize(("bos", "eos", "first"), [(3, 4, 3), (None, 4, 4), (None, None, 0), (None, [5, 6], 0)])
def test_the_first_token(bos, eos, first):
    model = seeded(llama, bos_token_id=bos, eos_token_id=eos, pad_token_id=0)
    assert model.first_token == first


def test_embeddings_and_their_scale(backbone):
    table = backbone.model.embed_tokens.weight
    assert torch.equal(backbone.embed(torch.tensor([[2, 5]])), table[[2, 5]].unsqueeze(0))
    assert backbone.embedding_rms() == pytest.approx(float(table.square().mean().sqrt()))
    backbone.add_lora(2, 4, 0.0, ["q_proj"])
    assert torch.equal(backbone.embed(torch.tensor([2])), table[[2]])
    assert (backbone.width, backbone.n_layers) == (WIDTH, LAYERS)


def test_an_adapter_can_be_registered_for_a_family(monkeypatch):
    from recbole_hellm import registry

    class Own:
        pass

    monkeypatch.setattr(registry.backbones, "_table", dict(registry.backbones._table))
    registry.backbones.add("gpt2", Own)
    assert isinstance(adapter_for("gpt2"), Own)
    assert not isinstance(adapter_for("llama"), Own)


def test_cutting_layers_keeps_the_kinds_of_the_first():
    config = qwen3().config
    keep_layers(config, 1)
    assert (config.num_hidden_layers, len(config.layer_types)) == (1, 1)
