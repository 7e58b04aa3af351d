"""Every registered model keeps the model contract."""

from typing import ClassVar

from recbole_hellm import registry
from recbole_hellm.testing.contracts import ModelContract


class TestHeLLM(ModelContract):
    model = "HeLLM"
    trained_parts = ("core.prefix.", "core.item_tokens.", "core.head.", ".lora_A.", ".lora_B.")
    learning: ClassVar = {"epochs": 60, "eval_step": 20, "pretrain_epochs": 60, "sequence_epochs": 60}


class TestHeLLMFused(ModelContract):
    model = "HeLLM"
    trained_parts = TestHeLLM.trained_parts
    learning: ClassVar = {"epochs": 2}

    @classmethod
    def settings(cls, folder, **changes):
        return super().settings(folder, **{"fusion": "learned", **changes})


class TestE4SRec(ModelContract):
    model = "E4SRec"
    trained_parts = ("core.item_tokens.", "core.head.", ".lora_A.", ".lora_B.")
    learning: ClassVar = {"epochs": 60, "eval_step": 20, "sequence_epochs": 60}

    @classmethod
    def settings(cls, folder, **changes):
        settings = super().settings(folder, **changes)
        del settings["prefix_len"]  # the toy's settings would win over what makes it E4SRec
        return settings


class TestMMHCL(ModelContract):
    model = "MMHCL"
    trained_parts = ("encoder.",)
    learning: ClassVar = {"epochs": 4}

    @classmethod
    def checkpoint_keys(cls, model):
        return {"user_vectors", "item_vectors"}  # all that scoring needs


class TestTransitionCounts(ModelContract):
    model = "TransitionCounts"
    learning: ClassVar = {}

    @classmethod
    def checkpoint_keys(cls, model):
        return {"unused"}  # the counts follow from the training data


def test_every_registered_model_keeps_the_contract():
    tested = {contract.model for contract in ModelContract.__subclasses__() if contract.__module__ == __name__}
    assert len(tested) == 4
    assert tested == set(registry.models)
