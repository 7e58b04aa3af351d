"""HeLLM with one part off at a time, as a plan like any other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from logging import getLogger
from types import MappingProxyType
from typing import Any

from recbole_hellm.benchmark.parts import MODEL, PARTS, Part, known_parts, parts_of
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
FULL = "full"
"""Label of the model with every part."""
GROUP = "ablation"


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
    known = known_parts(full)
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
    llm = fusion.uses_llm
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
        "residual": _trained_on_the_rest(settings),
        "mean logits": _trained_on_the_rest(settings) and FusionSpec.from_config(settings).fusion_llm_mean,
    }


def _trained_on_the_rest(settings: Mapping[str, Any]) -> bool:
    fusion, features = FusionSpec.from_config(settings), FeatureSpec.from_config(settings)
    features_say = fusion.has("neighbours") and bool(features.item_features)
    something = features_say or fusion.has("transitions") or fusion.has("repeat")
    return FinetuneSpec.from_config(settings).residual and something
