"""The first stage against numbers that the authors' own code printed for small random inputs."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from recbole_hellm.errors import DataError
from recbole_hellm.models.fidelity_stage1 import INPUTS, recompute_stage1

SHARED = Path(os.environ.get("RECBOLE_HELLM_SHARED", Path(__file__).resolve().parents[2].parent / "shared"))
GOLDEN = SHARED / "golden"
GRAPHS = ("ui_norm", "u2u_norm", "i2i_incidence", "i2i_norm")
VALUES = ("user_out", "item_out", "uu_out", "ii_out", "contrastive_user", "contrastive_item", "bpr", "reg")

pytestmark = pytest.mark.skipif(
    not (GOLDEN / "stage1.npz").is_file(), reason=f"no {GOLDEN / 'stage1.npz'}; set RECBOLE_HELLM_SHARED to its parent"
)


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "stage1.npz") as file:
        arrays = dict(file)
    return arrays, json.loads((GOLDEN / "config.json").read_text())


@pytest.fixture(scope="module", params=["torch", "dgl"])
def recomputed(request, golden):
    arrays, config = golden
    if request.param == "dgl":
        pytest.importorskip("dgl")
    # The outputs are withheld: nothing may be copied from them.
    return recompute_stage1({name: arrays[name] for name in INPUTS}, config, backend=request.param)


def test_every_array_of_the_file_is_an_input_or_recomputed(golden, recomputed):
    assert set(golden[0]) == set(INPUTS) | set(recomputed)
    assert set(recomputed) == {*GRAPHS, *VALUES}


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs(golden, recomputed, name):
    assert recomputed[name].shape == golden[0][name].shape
    np.testing.assert_allclose(recomputed[name], golden[0][name], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", VALUES)
def test_vectors_and_losses(golden, recomputed, name):
    assert recomputed[name].shape == golden[0][name].shape
    np.testing.assert_allclose(recomputed[name], golden[0][name], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "change", [("topk", 4), ("ui_layers", 1), ("user_layers", 2), ("item_layers", 1), ("temperature", 0.4)]
)
def test_each_setting_matters(golden, change):
    arrays, config = golden
    other = recompute_stage1(arrays, {**config, change[0]: change[1]})
    assert any(not np.allclose(other[name], arrays[name], rtol=0, atol=1e-4) for name in VALUES)


def test_missing_arrays_are_named(golden):
    arrays, config = golden
    with pytest.raises(DataError, match="text_feat, topk"):
        recompute_stage1(
            {k: v for k, v in arrays.items() if k != "text_feat"}, {k: v for k, v in config.items() if k != "topk"}
        )
