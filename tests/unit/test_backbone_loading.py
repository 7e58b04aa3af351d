import shutil

import pytest
import torch

from recbole_hellm import assets
from recbole_hellm.errors import ConfigError, MissingModelError
from recbole_hellm.llm.graph_prefix import PrefixStates
from recbole_hellm.llm.loading import load_backbone, resolve_path
from recbole_hellm.precision import use_bf16


def weights(path, pretrained=False, seed=1):
    return load_backbone(str(path), -1, pretrained, "eager", seed).state_dict()


def equal(one, two):
    assert one.keys() == two.keys()
    return all(torch.equal(one[name], two[name]) for name in one)


def test_random_weights_depend_on_the_seed_alone(llm):
    torch.manual_seed(5)
    one = weights(llm, seed=1)
    torch.manual_seed(6)
    state = torch.get_rng_state()
    two = weights(llm, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert equal(one, two)
    assert not equal(one, weights(llm, seed=2))


def test_pretrained_weights_are_those_of_the_file(llm):
    from safetensors.torch import load_file

    file = load_file(llm / "model.safetensors")
    loaded = weights(llm, pretrained=True)
    assert len(loaded) >= 20
    assert all(torch.equal(tensor, file[f"model.{name.removeprefix('model.')}"]) for name, tensor in loaded.items())
    assert equal(loaded, weights(llm, pretrained=True, seed=9))
    assert not equal(loaded, weights(llm))


def test_everything_loaded_is_frozen_and_in_full_precision(llm):
    model = load_backbone(str(llm), -1, True, "sdpa", 0)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_both_attention_kernels_agree(llm):
    vectors, mask = torch.randn(2, 4, 32), torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]).bool()
    states = tuple(PrefixStates(torch.randn(2, 3, 32), torch.randn(2, 32), torch.rand(2, 2, 3)) for _ in range(2))
    one, two = (
        load_backbone(str(llm), -1, True, kernel, 0)(vectors, mask, states)[mask] for kernel in ("eager", "sdpa")
    )
    torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)


def refused(path, pretrained=True):
    with pytest.raises(MissingModelError) as error:
        load_backbone(str(path), -1, pretrained, "eager", 0)
    message = str(error.value)
    assert message.startswith("setting 'llm_path': ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("path", ["gone", "./gone", "/gone/x", "~/gone-gone", "a/b/c"])
def test_a_path_that_is_no_folder(path):
    message = refused(path)
    assert "is no folder" in message
    assert message.endswith("a hub name such as 'owner/model', or a built-in one: smollm2-135m")


def test_a_misspelt_builtin_model_gives_the_nearest():
    assert "'smollm2-135' is no folder (did you mean 'smollm2-135m'?)" in refused("smollm2-135")


def test_a_folder_without_config(tmp_path):
    assert refused(tmp_path) == f"setting 'llm_path': folder {tmp_path} has no config.json; give a model's own folder"


def test_a_builtin_model_that_was_not_fetched(monkeypatch, tmp_path):
    monkeypatch.setenv(assets.MODELS_VARIABLE, str(tmp_path))
    with pytest.raises(MissingModelError, match="recbole-hellm models"):
        resolve_path("smollm2-135m")


def test_a_hub_name_is_left_to_the_hub():
    assert resolve_path("owner/model") == "owner/model"


@pytest.fixture
def copy(llm, tmp_path):
    return shutil.copytree(llm, tmp_path / "copy")


def test_a_folder_without_weights(copy):
    (copy / "model.safetensors").unlink()
    assert "cannot be loaded" in refused(copy)
    assert weights(copy)  # random ones need no file


@pytest.mark.parametrize("content", ['{"a":', "{}", '{"model_type": "no-such-model"}'])
def test_a_broken_config(copy, content):
    (copy / "config.json").write_text(content)
    assert "cannot be loaded" in refused(copy)


@pytest.mark.parametrize("n_bytes", [0, 1000])
def test_cut_off_weights(copy, n_bytes):
    file = copy / "model.safetensors"
    file.write_bytes(file.read_bytes()[:n_bytes])
    assert "cannot be loaded" in refused(copy)


def test_a_home_folder_is_expanded(copy, monkeypatch):
    monkeypatch.setenv("HOME", str(copy.parent))
    assert resolve_path("~/copy") == str(copy)


def test_transformers_is_as_talkative_as_before(llm, tmp_path):
    from transformers.utils import logging

    before = logging.get_verbosity()
    load_backbone(str(llm), 1, True, "eager", 0)
    with pytest.raises(MissingModelError):
        load_backbone(str(tmp_path), 1, True, "eager", 0)
    assert logging.get_verbosity() == before


def test_precision_can_be_chosen():
    cpu = torch.device("cpu")
    assert use_bf16("bf16", cpu)
    assert not use_bf16("fp32", cpu)


@pytest.mark.parametrize("fast", [True, False])
def test_auto_takes_bf16_where_the_processor_multiplies_it(monkeypatch, fast):
    for probe in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.setattr(torch.cpu, probe, lambda: fast, raising=False)
    assert use_bf16("auto", torch.device("cpu")) is fast


def test_layers_beyond_those_kept_are_cut_off(llm):
    assert load_backbone(str(llm), 1, True, "eager", 0).n_layers == 1
    whole, cut = (load_backbone(str(llm), n, True, "eager", 0) for n in (-1, 1))
    assert whole.n_layers == 2
    one, two = (model.state_dict()["model.layers.0.mlp.up_proj.weight"] for model in (whole, cut))
    assert torch.equal(one, two)


def test_more_layers_than_there_are_is_an_error(llm):
    with pytest.raises(ConfigError, match="setting 'llm_layers' must be at most 2, got 3"):
        load_backbone(str(llm), 3, True, "eager", 0)
