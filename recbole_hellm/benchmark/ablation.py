"""HeLLM with one part off at a time, as a plan like any other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from logging import getLogger
from types import MappingProxyType
from typing import Any

from recbole_hellm.benchmark.plan import FIRST_SEED, Entry, Plan, Protocol
from recbole_hellm.config.recbole_config import HellmConfig
from recbole_hellm.config.specs import (
    BackboneSpec,
    FeatureSpec,
    FinetuneSpec,
    FusionSpec,
    GraphSpec,
    LoraSpec,
    PrefixSpec,
    SequenceSpec,
    check_together,
)
from recbole_hellm.errors import ConfigError, nearest

__all__ = ["FULL", "PARTS", "Part", "parts_of", "plan"]

logger = getLogger(__name__)
MODEL = "HeLLM"
FULL = "full"
"""Label of the model with every part."""
GROUP = "ablation"


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
            "Stage 1 is trained by BPR alone; the hypergraphs stay.",
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
            "without language model",
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
    return _parts(HellmConfig(MODEL, dataset, config_dict=settings).final_config_dict)


def _parts(settings: Mapping[str, Any]) -> dict[str, Part]:
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
    return parts


def plan(
    dataset: str,
    parts: Sequence[str] | None = None,
    seeds: Sequence[int] = (FIRST_SEED,),
    protocol: Protocol | None = None,
    settings: Mapping[str, Any] = MappingProxyType({}),
) -> Plan:
    """Return the plan of HeLLM as it is, and without each part.

    A part that is off already, or whose absence makes a model that is in the plan under another name, is left out with
    a line in the log: no bar stands for nothing.

    Args:
        dataset: Name of the data set.
        parts: Names of :func:`parts_of`; ``None``: all.
        seeds: Seeds of every model.
        protocol: Default: that of a comparison.
        settings: Run settings of every model; the parts are taken off what they describe.

    Raises:
        ConfigError: If a part is unknown or named twice, a setting is wrong, or nothing is left to take off.
    """
    protocol = protocol or Protocol()
    asked = {**settings, **protocol.settings(takes_loss=True)}
    full = HellmConfig(MODEL, dataset, config_dict=asked).final_config_dict
    known = _parts(full)
    chosen = _chosen(parts, known)
    made = {FULL: _made_of(full)}
    left_out = []
    for name in chosen:
        part = known[name]
        reason = _reason_to_leave_out(full, part, made)
        if reason:
            left_out.append(f"{name!r} ({reason})")
            logger.info("ablation on %s: part %r is left out: %s", dataset, name, reason)
        else:
            made[part.label] = _made_of({**full, **part.settings})
    if len(made) == 1:
        raise ConfigError(f"nothing is left to take off HeLLM on {dataset}: {', '.join(left_out) or 'no part named'}")
    off = {part.label: part.settings for part in known.values()}
    entries = tuple(Entry(MODEL, label, off.get(label, {}), group=GROUP) for label in made)
    return Plan(f"ablation-{dataset}", entries, (dataset,), tuple(seeds), protocol, dict(settings))


def _chosen(parts: Sequence[str] | None, known: Mapping[str, Part]) -> list[str]:
    chosen = list(known if parts is None else parts)
    for name in chosen:
        if name not in known:
            raise ConfigError(f"unknown part {name!r} of HeLLM{nearest(name, known)}; known: {', '.join(known)}")
        if chosen.count(name) > 1:
            raise ConfigError(f"part {name!r} of HeLLM is named twice; name it once")
    return chosen


def _reason_to_leave_out(full: Mapping[str, Any], part: Part, made: Mapping[str, Any]) -> str:
    """Return why a part makes no bar of its own, or an empty string."""
    without = {**full, **part.settings}
    try:
        check_together(without)
    except ConfigError as error:
        return str(error)
    same = [label for label, described in made.items() if described == _made_of(without)]
    if not same:
        return ""
    return "it is off already" if same[0] == FULL else f"it makes the same model as {same[0]!r}"


def _made_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Describe what settings make of the model, by what reaches the scores: two that are equal make equal models."""
    fusion, features = FusionSpec.from_config(settings), FeatureSpec.from_config(settings)
    llm = not fusion.learned or fusion.has("llm")
    prefix = PrefixSpec.from_config(settings)
    in_slots = llm and FinetuneSpec.from_config(settings).graph_vectors
    in_prefix = llm and prefix.len > 0 and prefix.graph
    return {
        "fusion": {part for part in fusion.fusion_parts if part != "neighbours"} if fusion.learned else None,
        "neighbours": features.item_features if fusion.has("neighbours") else (),
        "graph vectors": (in_slots, in_prefix),
        **_stage_1_of(settings, used=in_slots or in_prefix or fusion.has("graph")),
        **(_language_model_of(settings) if llm else {}),
    }


def _stage_1_of(settings: Mapping[str, Any], used: bool) -> dict[str, Any]:
    graph, features = GraphSpec.from_config(settings), FeatureSpec.from_config(settings)
    users = used and graph.user_hypergraph
    modalities = features.item_features if used and graph.item_hypergraph else ()
    return {
        "user hypergraph": users,
        # what the features say reaches an item by propagation alone
        "item hypergraph": modalities if graph.item_layers else bool(modalities),
        "contrast": (graph.alpha_user if users else 0.0, graph.alpha_item if modalities else 0.0),
    }


def _language_model_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    llm = BackboneSpec.from_config(settings)
    return {
        "sequence vectors": SequenceSpec.from_config(settings).vectors,
        "prefix": PrefixSpec.from_config(settings).len,
        "LoRA": LoraSpec.from_config(settings).r,
        "language model": (llm.layers, llm.layers != 0 and llm.pretrained),
    }
