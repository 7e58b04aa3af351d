"""A toy data set whose next item is certain, and a language model of a few thousand weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

CHECKERBOARD = "checkerboard"
"""Name of the toy data set."""
N_USERS, N_ITEMS, LENGTH = 40, 20, 8


def write_checkerboard(root: Path, n_users: int = N_USERS, length: int = LENGTH) -> Path:
    """Write a RecBole data set in which even users walk the even items in a fixed cycle, odd users the odd ones.

    With it come item texts and a feature array ``image`` (items of one colour are near each other).

    Args:
        root: RecBole's ``data_path``.
        n_users: Number of users.
        length: Interactions of each user; at most 10, so that nobody takes an item twice.

    Returns:
        The data set's folder.
    """
    folder = root / CHECKERBOARD
    (folder / "features").mkdir(parents=True)
    rows = ["user_id:token\titem_id:token\ttimestamp:float"]
    for user in range(n_users):
        for step in range(length):
            rows.append(f"u{user}\ti{2 * ((user // 2 + step) % (N_ITEMS // 2)) + user % 2}\t{step}")
    (folder / f"{CHECKERBOARD}.inter").write_text("\n".join(rows) + "\n", encoding="utf-8")
    items = [f"i{item}\t{('white', 'black')[item % 2]} square number {item}" for item in range(N_ITEMS)]
    (folder / f"{CHECKERBOARD}.item").write_text("\n".join(["item_id:token\ttitle:token_seq", *items]) + "\n")
    colours = np.random.default_rng(0).normal(size=(2, 8))
    noise = np.random.default_rng(1).normal(size=(N_ITEMS, 8)) * 0.1
    vectors = (colours[np.arange(N_ITEMS) % 2] + noise).astype(np.float32)
    np.save(folder / "features" / "image.npy", vectors)
    (folder / "features" / "image.ids.txt").write_text("\n".join(f"i{item}" for item in range(N_ITEMS)) + "\n")
    return folder


def tiny_llm(folder: Path, layers: int = 2, width: int = 32, vocabulary: int = 64) -> Path:
    """Write a random LLaMA (no tokenizer) that loads in milliseconds.

    Args:
        folder: Where to write it.
        layers: Transformer layers.
        width: Hidden size; a multiple of 4.
        vocabulary: Token ids.

    Returns:
        ``folder``, ready for ``llm_path``.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def checkerboard_settings(root: Path, llm: Path, **changes: Any) -> dict[str, Any]:
    """Return settings under which every model of this package runs on the toy data set within seconds.

    Args:
        root: Folder for data, stages, checkpoints and results; the data set is written to ``root / "data"`` if missing.
        llm: Folder of :func:`tiny_llm`.
        **changes: Settings that differ.
    """
    if not (root / "data" / CHECKERBOARD).is_dir():
        write_checkerboard(root / "data")
    settings = {
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "data_path": str(root / "data"),
        "checkpoint_dir": str(root / "saved"),
        "stage_cache_dir": str(root / "stages"),
        "result_file": str(root / "result.json"),
        "MAX_ITEM_LIST_LENGTH": 10,
        "item_features": ["text", "image"],
        "text_encoder": "hashing",
        "llm_path": str(llm),
        "llm_layers": -1,
        "llm_precision": "fp32",
        "graph_embedding_size": 8,
        "graph_user_hypergraph": True,  # off by default: what runs here, runs whole
        "graph_neighbours": 3,
        "graph_ui_layers": 1,
        "graph_user_layers": 1,
        "graph_item_layers": 1,
        "pretrain_epochs": 2,
        "pretrain_batch_size": 64,
        "sequence_embedding_size": 8,
        "sequence_inner_size": 16,
        "sequence_epochs": 2,
        "sequence_batch_size": 16,
        "prefix_len": 2,
        "lora_r": 2,
        "fusion": "off",  # transition counts know this data by heart: nobody would see whether the model learns
        "train_batch_size": 16,
        "eval_batch_size": 16,
        "epochs": 2,
        "eval_step": 1,
        "learning_rate": 0.01,
        "topk": [5],
        "valid_metric": "NDCG@5",
        "show_progress": False,
        "state": "ERROR",
    }
    return {**settings, **changes}
