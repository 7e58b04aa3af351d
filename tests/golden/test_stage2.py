"""The second stage against the authors' own numbers, and against a dense oracle of other sizes."""

import json

import numpy as np
import oracle
import pytest
import torch
from made import SIZES, read, stage2_inputs, write_golden

from recbole_hellm.errors import DataError
from recbole_hellm.models.fidelity_stage2 import recompute_stage2

OUTPUTS = ("io.prefix_key", "io.prefix_value", "io.last_hidden", "io.logits", "io.loss")
SHAPES = [
    {},
    {"seed": 1, "kv_heads": 1, "prefix_len": 1},
    {"seed": 2, "kv_heads": 3, "prefix_len": 7, "num_hidden_layers": 1},
    {"seed": 3, "kv_heads": 6, "lora_r": 3, "lora_alpha": 1, "rope_theta": 10000.0},
]


@pytest.fixture(scope="module")
def golden(shared):
    folder = shared / "golden"
    if not (folder / "stage2.npz").is_file():
        pytest.skip(f"no {folder / 'stage2.npz'}")
    return read(folder / "stage2.npz"), json.loads((folder / "config.json").read_text())


def without_outputs(arrays):
    """Nothing may be copied from what it is compared with."""
    return {name: array for name, array in arrays.items() if name not in OUTPUTS}


@pytest.fixture(scope="module")
def recomputed(golden):
    return recompute_stage2(without_outputs(golden[0]), golden[1])


@pytest.mark.parametrize("name", OUTPUTS)
def test_the_authors_numbers(golden, recomputed, name):
    assert recomputed[name].shape == golden[0][name].shape
    np.testing.assert_allclose(recomputed[name], golden[0][name], rtol=0, atol=1e-5)


def test_every_output_of_the_file_is_recomputed(golden, recomputed):
    inputs = {"io.input_ids", "io.input_mask", "io.labels", "io.instruct_ids", "io.response_ids"}
    assert {name for name in golden[0] if name.startswith("io.")} == set(recomputed) | inputs


def test_the_oracle_itself_gives_the_authors_numbers(golden):
    weights = {name: torch.from_numpy(array) for name, array in without_outputs(golden[0]).items()}
    found = oracle.stage2(weights, golden[1])
    for name in OUTPUTS:
        np.testing.assert_allclose(found[name].numpy(), golden[0][name], rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_oracle_in_other_sizes(tmp_path, shape):
    folder = write_golden(tmp_path / "made", **shape)
    arrays, config = read(folder / "stage2.npz"), json.loads((folder / "config.json").read_text())
    found = recompute_stage2(without_outputs(arrays), config)
    for name in OUTPUTS:
        np.testing.assert_allclose(found[name], arrays[name], rtol=0, atol=1e-5, err_msg=name)


@pytest.fixture(scope="module")
def small():
    weights = stage2_inputs(SIZES, kv_heads=2, graph_dim=3, sequence_dim=5, n_items=12, seed=5)
    return {name: tensor.numpy() for name, tensor in weights.items()}


@pytest.mark.parametrize(
    "name",
    [
        "io.input_ids", "io.input_mask", "io.instruct_ids", "io.response_ids", "item_embedding.graph",
        "item_embedding.sequential", "prefix.learned_keys", "prefix.learned_values", "prefix.key_mlp.0.bias",
        "prefix.value_mlp.3.weight", "prefix.value_graph_norm.weight", "prefix.key_norm.weight",
        "model.layers.1.self_attn.k_proj.weight", "model.layers.0.mlp.up_proj.lora_B.weight", "item_projection.2.bias",
    ],
)  # fmt: skip
def test_every_input_reaches_the_logits(small, name):
    changed = np.roll(small[name], 1, axis=-1) if name.startswith("io.") else small[name] * 1.5
    assert not np.array_equal(changed, small[name])
    before, after = (recompute_stage2(arrays, SIZES)["io.logits"] for arrays in (small, {**small, name: changed}))
    assert np.abs(before - after).max() > 1e-4


def test_what_stands_behind_the_padding_is_not_read(small):
    ids = np.where(small["io.input_mask"] > 0, small["io.input_ids"], 7)
    assert not np.array_equal(ids, small["io.input_ids"])
    before, after = (recompute_stage2(arrays, SIZES) for arrays in (small, {**small, "io.input_ids": ids}))
    for name in OUTPUTS:
        np.testing.assert_array_equal(before[name], after[name])


def test_a_weight_without_a_place_is_named(small):
    with pytest.raises(DataError, match=r"unknown \['.*extra.weight'\]"):
        recompute_stage2({**small, "prefix.extra.weight": small["score.weight"]}, SIZES)


def test_a_missing_weight_is_named(small):
    rest = {name: array for name, array in small.items() if name != "prefix.key_norm.weight"}
    with pytest.raises(DataError, match=r"missing \['prefix.key_norm.weight'\]"):
        recompute_stage2(rest, SIZES)
