"""The built-in pretrained models, which `recbole-hellm models` fetches (`make test` does)."""

import pytest

from recbole_hellm import assets
from recbole_hellm.errors import MissingModelError
from recbole_hellm.quick_start import run_recbole_hellm
from recbole_hellm.testing import CHECKERBOARD


@pytest.fixture(autouse=True)
def fetched():
    for name in assets.ASSETS:
        try:
            assets.asset_path(name)
        except MissingModelError as error:
            pytest.skip(str(error))


@pytest.mark.parametrize("preset", ["paper", "default", "demo"])
def test_a_preset_learns_with_the_built_in_models(toy, preset):
    settings = toy(preset=preset, llm_path="smollm2-135m", llm_layers=1, text_encoder="minilm", epochs=3)
    for key in ("lora_r", "prefix_len", "learning_rate"):
        del settings[key]  # the preset's own
    result = run_recbole_hellm("HeLLM", CHECKERBOARD, config_dict={**settings, "train_batch_size": 4})
    losses = [record for record in result["trainer"].train_loss_dict.values()]
    assert losses[-1] < losses[0] - 0.3
    template = {"paper": "alpaca", "default": "none", "demo": "none"}[preset]
    assert (result["config"]["prompt_template"], result["trainer"].model.core.backbone.n_layers) == (template, 1)
    names = [name for name, weight in result["trainer"].model.named_parameters() if weight.requires_grad]
    assert sum("lora_" in name for name in names) == 6  # a pair on each of gate, up and down
    assert any("prefix" in name for name in names)
