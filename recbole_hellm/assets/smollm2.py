"""Converts SmolLM2's GGUF file to an ordinary Hugging Face folder (safetensors and tokenizer).

transformers can read GGUF itself, but what it gives cannot be saved or trained, and its tokenizer differs on digits.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGUFReader, dequantize
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from recbole_hellm.errors import DataError

_TOP_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_CONTROL_TOKEN = 3
_MAX_TOKENS = 8192
_RMS_NORM_EPS = 1e-5


def convert(source: Path, target: Path) -> None:
    """Write the model and tokenizer in ``source`` as a Hugging Face folder with float32 weights.

    Args:
        source: GGUF file of the llama architecture with the ``smollm`` pre-tokenizer.
        target: Folder to write.

    Raises:
        DataError: If the file has tensors or settings a Llama model does not.
    """
    reader = GGUFReader(source)
    try:
        config = _model_config(reader)
        model = _model(reader, config)
        tokenizer = _tokenizer(reader)
    except KeyError as error:
        raise DataError(f"{source}: {error} is missing or unknown: not the GGUF file of a SmolLM2 model") from error
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


def _field(reader: GGUFReader, key: str) -> Any:
    """Return a metadata value.

    Raises:
        KeyError: If the file does not have it.
    """
    field = reader.fields.get(key)
    if field is None:
        raise KeyError(key)
    return field.contents()


def _model_config(reader: GGUFReader) -> LlamaConfig:
    """Read the sizes of the model."""
    n_heads = _field(reader, "llama.attention.head_count")
    width = _field(reader, "llama.embedding_length")
    config = LlamaConfig(
        vocab_size=_field(reader, "llama.vocab_size"),
        hidden_size=width,
        intermediate_size=_field(reader, "llama.feed_forward_length"),
        num_hidden_layers=_field(reader, "llama.block_count"),
        num_attention_heads=n_heads,
        num_key_value_heads=_field(reader, "llama.attention.head_count_kv"),
        head_dim=width // n_heads,
        max_position_embeddings=_field(reader, "llama.context_length"),
        rms_norm_eps=_RMS_NORM_EPS,
        rope_parameters={"rope_type": "default", "rope_theta": _field(reader, "llama.rope.freq_base")},
        tie_word_embeddings="output.weight" not in {tensor.name for tensor in reader.tensors},
        bos_token_id=_field(reader, "tokenizer.ggml.bos_token_id"),
        eos_token_id=_field(reader, "tokenizer.ggml.eos_token_id"),
        pad_token_id=_field(reader, "tokenizer.ggml.padding_token_id"),
        attention_bias=False,
        mlp_bias=False,
    )
    config.dtype = "float32"
    return config


def _model(reader: GGUFReader, config: LlamaConfig) -> Any:
    """Unpack the weights and put them into a Llama model, every parameter exactly once."""
    heads: dict[str, int] = {
        "attn_q": _field(reader, "llama.attention.head_count"),
        "attn_k": _field(reader, "llama.attention.head_count_kv"),
    }
    weights = {}
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        values = values.reshape(tuple(int(size) for size in tensor.shape[::-1]))
        if tensor.name in _TOP_NAMES:
            name = _TOP_NAMES[tensor.name]
        else:
            _, layer, part, _ = tensor.name.split(".")
            name = f"model.layers.{layer}.{_LAYER_NAMES[part]}.weight"
            values = _undo_rotary_order(values, heads[part]) if part in heads else values
        weights[name] = torch.from_numpy(np.ascontiguousarray(values))
    if config.tie_word_embeddings:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    with torch.device("meta"):  # no random weights are drawn, so no global random state is touched
        model: Any = LlamaForCausalLM(config)
    missing, unknown = model.load_state_dict(weights, strict=False, assign=True)
    if missing or unknown:
        raise KeyError((missing + unknown)[0])
    model.tie_weights()
    return model


def _undo_rotary_order(weight: NDArray[np.float32], n_heads: int) -> NDArray[np.float32]:
    """Turn GGUF's interleaved rotary halves of each head, ``[out, in]``, back into transformers' order."""
    n_out, n_in = weight.shape
    return weight.reshape(n_heads, n_out // n_heads // 2, 2, n_in).swapaxes(1, 2).reshape(n_out, n_in)


def _tokenizer(reader: GGUFReader) -> PreTrainedTokenizerFast:
    """Build the tokenizer; its pre-tokenizer is not in the file: every digit alone, then GPT-2's byte level."""
    tokens, types = _field(reader, "tokenizer.ggml.tokens"), _field(reader, "tokenizer.ggml.token_type")
    merges = [tuple(merge.split(" ")) for merge in _field(reader, "tokenizer.ggml.merges")]
    tokenizer = Tokenizer(BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges, fuse_unk=False))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=True)
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    control = [token for token, kind in zip(tokens, types, strict=True) if kind == _CONTROL_TOKEN]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in control])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=tokens[_field(reader, "tokenizer.ggml.bos_token_id")],
        eos_token=tokens[_field(reader, "tokenizer.ggml.eos_token_id")],
        pad_token=tokens[_field(reader, "tokenizer.ggml.padding_token_id")],
        unk_token=tokens[_field(reader, "tokenizer.ggml.unknown_token_id")],
        model_max_length=_MAX_TOKENS,
        clean_up_tokenization_spaces=False,
    )
    if "tokenizer.chat_template" in reader.fields:
        fast.chat_template = _field(reader, "tokenizer.chat_template")
    return fast
