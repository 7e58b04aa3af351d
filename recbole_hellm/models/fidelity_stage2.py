"""Recompute the stage-2 outputs of a golden folder through this package's own modules (preset ``paper``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recbole_hellm.errors import DataError
from recbole_hellm.llm.backbone import Backbone
from recbole_hellm.llm.graph_prefix import GraphPrefix
from recbole_hellm.llm.prompt import Prompt
from recbole_hellm.models.hellm_core import HeLLMCore
from recbole_hellm.nn.fusion import ItemTokens
from recbole_hellm.nn.heads import ItemScoreHead

LORA_TARGETS = ("gate_proj", "up_proj", "down_proj")


def recompute_stage2(arrays: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Recompute every ``io.*`` output of a ``stage2.npz`` from its weights and inputs.

    Args:
        arrays: Content of the file: weights under Hugging Face names, ``io.*`` inputs and outputs.
        config: Sizes of ``config.json``.

    Returns:
        ``io.prefix_key``, ``io.prefix_value``, ``io.last_hidden``, ``io.logits``, ``io.loss``.

    Raises:
        DataError: If a weight has no place in the modules, or a module gets none.
    """
    weights = {name: torch.from_numpy(array) for name, array in arrays.items()}
    core = _build(weights, config)
    core.eval()
    items, mask = weights["io.input_ids"].long(), weights["io.input_mask"].bool()
    with torch.no_grad():
        assert core.prefix is not None
        vectors = core.graph_vectors[items] * mask.unsqueeze(-1)
        keys, values = (states.dense() for states in core.prefix(vectors))
        last = core.last_hidden(items, mask)
        logits = core.head(last)
        loss = core.loss(last, weights["io.labels"].long().flatten())
    outputs = {"prefix_key": keys, "prefix_value": values, "last_hidden": last, "logits": logits, "loss": loss}
    return {f"io.{name}": tensor.numpy() for name, tensor in outputs.items()}


def _build(weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> HeLLMCore:
    from transformers import LlamaConfig, LlamaModel

    head_dim = config["hidden_size"] // config["num_attention_heads"]
    llama = LlamaConfig(
        vocab_size=config["vocab_size"],
        hidden_size=config["hidden_size"],
        intermediate_size=config["intermediate_size"],
        num_hidden_layers=config["num_hidden_layers"],
        num_attention_heads=config["num_attention_heads"],
        num_key_value_heads=weights["model.layers.0.self_attn.k_proj.weight"].size(0) // head_dim,
        rms_norm_eps=config["rms_norm_eps"],
        rope_parameters={"rope_type": "default", "rope_theta": config["rope_theta"]},
    )
    backbone = Backbone(LlamaModel(llama))
    backbone.add_lora(config["lora_r"], config["lora_alpha"], 0.0, LORA_TARGETS)
    graph, sequence = weights["item_embedding.graph"], weights["item_embedding.sequential"]
    width, n_items = config["hidden_size"], graph.size(0)
    core = HeLLMCore(
        backbone,
        GraphPrefix(
            config["num_hidden_layers"], config["prefix_len"], width, graph.size(1), eps=config["rms_norm_eps"]
        ),
        ItemTokens(graph.size(1) + sequence.size(1), width),
        ItemScoreHead(width, n_items),
        Prompt(tuple(weights["io.instruct_ids"].tolist()), tuple(weights["io.response_ids"].tolist())),
        n_items=n_items,
        graph_dim=graph.size(1),
        sequence_dim=sequence.size(1),
    )
    state = {_own_name(name): tensor for name, tensor in weights.items() if not name.startswith("io.")}
    missing, unknown = core.load_state_dict(state, strict=False)
    if missing or unknown:
        raise DataError(f"golden weights do not fit the modules: missing {sorted(missing)}, unknown {sorted(unknown)}")
    return core


def _own_name(name: str) -> str:
    """Return the parameter of :class:`HeLLMCore` that holds a golden weight."""
    if name.startswith("model."):
        part = name.removeprefix("model.")
        if any(target in part for target in LORA_TARGETS):
            head, _, tail = part.rpartition(".")
            part = f"{head}.default.{tail}" if ".lora_" in part else f"{head}.base_layer.{tail}"
        return f"backbone.model.{part}"
    renamed = {"score.weight": "head.weight", "item_embedding.graph": "graph_vectors"}
    renamed["item_embedding.sequential"] = "sequence_vectors"
    if name.startswith("item_projection."):
        return name.replace("item_projection.", "item_tokens.projection.")
    return renamed.get(name, name)
