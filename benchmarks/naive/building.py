"""The plain side of stage 2 for given settings: same decoder, layers, LoRA, widths; and with the same weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.naive.stage2 import NaiveHeLLM, NaivePrefix
from recbole_hellm.config.specs import BackboneSpec, GraphSpec, LoraSpec, PrefixSpec, SequenceSpec
from recbole_hellm.llm.loading import resolve_path
from recbole_hellm.llm.prompt import ALPACA
from recbole_hellm.precision import use_bf16


def load_decoder(llm: BackboneSpec, lora: LoraSpec, dropout: float) -> Any:
    """Return the first layers of the language model, frozen, with LoRA by PEFT."""
    from peft import LoraConfig, inject_adapter_in_model
    from transformers import AutoConfig, AutoModel
    from transformers.utils import logging

    logging.set_verbosity_error()  # the layers left out would be listed as unexpected weights
    logging.disable_progress_bar()
    where = resolve_path(llm.path)
    config = AutoConfig.from_pretrained(where)
    if llm.layers > 0:
        config.num_hidden_layers = llm.layers
        if getattr(config, "layer_types", None):
            config.layer_types = config.layer_types[: llm.layers]
    model = AutoModel.from_pretrained(where, config=config, dtype=torch.float32, attn_implementation=llm.attention)
    model.requires_grad_(False)
    settings = LoraConfig(r=lora.r, lora_alpha=lora.alpha, lora_dropout=dropout, target_modules=list(lora.targets))
    return inject_adapter_in_model(settings, model)


def prompt_ids(llm: BackboneSpec, instruction: str) -> tuple[Tensor, Tensor]:
    """Return the token ids of the Alpaca template before and after the slots, the decoder's first token in front."""
    from transformers import AutoTokenizer

    where = resolve_path(llm.path)
    tokenizer = AutoTokenizer.from_pretrained(where)
    first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else (tokenizer.eos_token_id or 0)
    before, after = (
        tokenizer.encode(text.format(instruction=instruction), add_special_tokens=False) for text in ALPACA
    )
    return torch.tensor([first, *before]), torch.tensor(after, dtype=torch.long)


def build_naive(
    settings: dict[str, Any],
    n_items: int,
    before: Tensor,
    after: Tensor,
    slot_rms: float = 0.0,
    lora_dropout: float = 0.05,
    rank: int | None = None,
) -> NaiveHeLLM:
    """Return the plain model for the settings of a fast one, with random item vectors.

    Args:
        settings: Final settings of the fast side; decoder, layers, widths and precision are taken from them.
        n_items: Catalogue size, padding included.
        before: Token ids before the slots.
        after: Token ids after them.
        slot_rms: See :class:`NaiveHeLLM`.
        lora_dropout: Dropout of LoRA's input; the paper's by default.
        rank: Width of the graph vectors in the Gram matrix; ``None``: that of the settings (the paper's 38 million
            weights of its MLPs would only slow the plain side further).
    """
    llm, prefix = BackboneSpec.from_config(settings), PrefixSpec.from_config(settings)
    graph_dim = GraphSpec.from_config(settings).embedding_size
    decoder = load_decoder(llm, LoraSpec.from_config(settings), lora_dropout)
    width, n_layers = decoder.config.hidden_size, decoder.config.num_hidden_layers
    context = NaivePrefix(n_layers, prefix.len, width, graph_dim, prefix.rank if rank is None else rank, prefix.dropout)
    graph = torch.randn(n_items, graph_dim)
    graph[0] = 0
    sequence = torch.randn(n_items, SequenceSpec.from_config(settings).embedding_size)
    bf16 = use_bf16(llm.precision, torch.device("cpu"))
    for module in decoder.modules() if bf16 else ():
        if isinstance(module, nn.Linear) and not module.weight.requires_grad:
            module.to(torch.bfloat16)  # the authors keep the frozen weights in bf16 as well
    return NaiveHeLLM(decoder, context, graph, sequence, before, after, slot_rms, bf16)


def copy_weights(core: Any, naive: NaiveHeLLM) -> None:
    """Give the plain model the weights and item vectors of a :class:`~recbole_hellm.models.hellm_core.HeLLMCore`."""
    naive.decoder.load_state_dict(core.backbone.model.state_dict())
    naive.prefix.load_state_dict(core.prefix.state_dict())
    naive.projection.load_state_dict(core.item_tokens.projection.state_dict())
    naive.score.weight = nn.Parameter(core.head.weight.detach().clone())
    naive.graph, naive.sequence = core.graph_vectors.clone(), core.sequence_vectors.clone()
    naive.before, naive.after = core.before.clone(), core.after.clone()
    naive.slot_rms = float(core.item_tokens.rms)
