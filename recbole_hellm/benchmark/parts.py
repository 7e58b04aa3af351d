"""The parts of HeLLM that can be taken off, and the settings that do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from recbole_hellm.config.recbole_config import HellmConfig
from recbole_hellm.config.specs import FeatureSpec, FusionSpec

__all__ = ["MODEL", "PARTS", "SUMMANDS", "Part", "known_parts", "parts_of"]

MODEL = "HeLLM"


@dataclass(frozen=True)
class Part:
    """A part of HeLLM that can be taken off."""

    label: str
    """What the model is called without it."""
    what: str
    """What is missing then, in a sentence."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The run settings that take it off."""


PARTS: Mapping[str, Part] = MappingProxyType(
    {
        "user_hypergraph": Part(
            "without user hypergraph",
            "Stage 1 does not join users by the items they share.",
            {"graph_user_hypergraph": False},
        ),
        "item_hypergraph": Part(
            "without item hypergraph",
            "Stage 1 does not join items by any feature; the fusion still reads them.",
            {"graph_item_hypergraph": False},
        ),
        "contrast": Part(
            "without contrast",
            "Stage 1 is trained without its contrast; the hypergraphs stay.",
            {"graph_alpha_user": 0.0, "graph_alpha_item": 0.0},
        ),
        "sequence_vectors": Part(
            "without sequence vectors",
            "The item slots hold graph vectors only; no SASRec is trained.",
            {"sequence_vectors": False},
        ),
        "graph_vectors": Part(
            "without graph vectors",
            "The item slots hold sequence vectors only; the prefix keeps the graph context.",
            {"finetune_graph_vectors": False},
        ),
        "prefix_graph": Part(
            "without graph in the prefix",
            "The prefix holds learned vectors only, the same for every history.",
            {"prefix_graph": False},
        ),
        "prefix": Part("without prefix", "No keys and values before the input.", {"prefix_len": 0}),
        "lora": Part("without LoRA", "The language model stays as it was loaded.", {"lora_r": 0}),
        "pretrained": Part(
            "without pretrained weights",
            "A language model of the same shape with random weights, frozen as before.",
            {"llm_pretrained": False},
        ),
        "llm_layers": Part(
            "without layers",
            "The item head reads the mean of the item slots; prefix, LoRA and prompt go with the layers.",
            {
                "llm_layers": 0,
                "prefix_len": 0,
                "lora_r": 0,
                "prompt_template": "none",
                "llm_precision": "auto",
                "llm_gradient_checkpointing": False,
            },
        ),
        "residual": Part(
            "without residual training",
            "The language model is trained by itself, not on what counts and features leave.",
            {"finetune_residual": False},
        ),
        "fusion": Part("without fusion", "The scores are the language model's alone.", {"fusion": "off"}),
    }
)
"""The parts every data set has; :func:`parts_of` adds one for each item feature and each part of the sum of scores."""
SUMMANDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "llm": ("the model", "Counts, cosines and the weight of a repeat; the language model has no say."),
        "transitions": ("counts", "No transition counts in the sum of scores."),
        "neighbours": ("features", "No cosines of item features in the sum of scores; stage 1 still reads them."),
        "graph": ("graph vectors", "No cosines of stage-1 vectors in the sum of scores; the model still reads them."),
        "repeat": ("repeats", "Items of the history are scored like all others."),
    }
)
"""What the sum of scores is called without each of ``fusion_parts``, and what is missing then."""


def parts_of(dataset: str, settings: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Part]:
    """Return every part that can be taken off on a data set, its item features included.

    Args:
        dataset: Name of the data set, whose yaml says which item features there are.
        settings: Run settings.

    Raises:
        ConfigError: If a setting is wrong.
    """
    return known_parts(HellmConfig(MODEL, dataset, config_dict=settings).final_config_dict)


def known_parts(settings: Mapping[str, Any]) -> dict[str, Part]:
    """Return the same of the whole settings of a run."""
    entries = FeatureSpec.from_config(settings).item_features
    parts: dict[str, Part] = {}
    for name, part in PARTS.items():
        parts[name] = part
        if name == "item_hypergraph":  # before the features it is made of: without the last of them, it is gone
            for entry in entries:
                feature, others = entry.partition("=")[0], [other for other in entries if other != entry]
                what = f"Item hypergraph and fusion are built without the items' {feature}."
                parts[feature] = Part(f"without {feature}", what, {"item_features": others})
    return {**parts, **_summands(FusionSpec.from_config(settings))}


def _summands(fusion: FusionSpec) -> dict[str, Part]:
    parts: dict[str, Part] = {}
    for name, (words, what) in SUMMANDS.items():
        others = [other for other in fusion.fusion_parts if other != name]
        if fusion.has(name) and {*others} - {"repeat"}:  # something has to tell items apart
            # No training reaches the scores without the model, so one epoch gives what twenty would.
            settings = {"fusion_parts": others, **({"epochs": 1, "eval_step": 1} if name == "llm" else {})}
            parts[f"fusion_{name}"] = Part(f"fusion without {words}", what, settings)
    if fusion.has("llm"):
        what = "No part of the sum holds each item's mean logit of the language model."
        parts["fusion_llm_mean"] = Part("fusion without mean logits", what, {"fusion_llm_mean": False})
    return parts
