"""Every registered stage keeps the stage contract."""

from typing import ClassVar

import pytest

from recbole_hellm import registry
from recbole_hellm.encoders.hashing import HashingTextEncoder
from recbole_hellm.testing.contracts import StageContract

LATER: dict[str, object] = {
    "stage_cache_dir": "elsewhere",
    "epochs": 3,
    "learning_rate": 0.5,
    "lora_r": 1,
    "prefix_len": 0,
    "finetune_dropout": 0.2,
}
FEATURES = {
    "item_features": ["image"],
    "feature_missing": "mean",
    "text_encoder": "shorter",
    "text_template": "about {title}",
}
# The toy data set has one column of text, an encoder without tokens to cut or pool, and a ready array of images.
UNUSED = {
    "text_columns": ["title"],
    "text_max_tokens": 64,
    "text_pooling": "cls",
    "text_normalise": "no",
    "image_encoder": "colours",
    "image_source": "pictures.zip",
    "image_download": True,
}


@pytest.fixture(autouse=True)
def _shorter():
    registry.text_encoders.add("shorter", lambda: HashingTextEncoder(dim=16))
    yield
    registry.text_encoders.remove("shorter")


class TestFeatures(StageContract):
    stage = "features"
    zero_rows = ("text", "image")
    variations: ClassVar = FEATURES
    without_effect: ClassVar = {**LATER, **UNUSED, "graph_temperature": 0.5, "sequence_dropout": 0.1, "seed": 1}


class TestGraph(StageContract):
    stage = "graph"
    zero_rows = ("user", "item")
    variations: ClassVar = {
        **FEATURES,
        "graph_embedding_size": 4,
        "graph_ui_layers": 2,
        "graph_user_layers": 2,
        "graph_item_layers": 2,
        "graph_user_hypergraph": False,
        "graph_item_hypergraph": False,
        "graph_neighbours": 4,
        "graph_temperature": 0.5,
        "graph_alpha_user": 0.5,
        "graph_alpha_item": 0.5,
        "graph_reg_weight": 0.5,
        "graph_loss": "bpr",
        "graph_softmax_temperature": 0.3,
        "graph_contrast": "all",
        "graph_contrast_nodes": 3,
        "pretrain_epochs": 3,
        "pretrain_max_steps": 1,
        "pretrain_schedule": "exponential",
        "pretrain_batch_size": 3,
        "pretrain_learning_rate": 0.5,
        "seed": 1,
    }
    without_effect: ClassVar = {**LATER, **UNUSED, "graph_backend": "torch", "sequence_dropout": 0.1}


class TestSequence(StageContract):
    stage = "sequence"
    variations: ClassVar = {
        "sequence_embedding_size": 4,
        "sequence_n_layers": 1,
        "sequence_n_heads": 1,
        "sequence_inner_size": 8,
        "sequence_dropout": 0.1,
        "sequence_epochs": 3,
        "sequence_batch_size": 3,
        "sequence_learning_rate": 0.5,
        "sequence_precision": "bf16",
        "sequence_vectors": False,  # read with the others; a run without them has no such stage
        "MAX_ITEM_LIST_LENGTH": 5,
        "seed": 1,
    }
    without_effect: ClassVar = {**LATER, "graph_temperature": 0.5, "item_features": []}


def test_every_registered_stage_keeps_the_contract():
    tested = {contract.stage for contract in StageContract.__subclasses__() if contract.__module__ == __name__}
    assert len(tested) == 3
    assert tested == set(registry.stages)
