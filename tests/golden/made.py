"""Golden folders of any size, whose outputs come from the dense oracle."""

import json

import numpy as np
import oracle
import torch

SIZES = {
    "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 6, "vocab_size": 17,
    "rms_norm_eps": 1e-5, "rope_theta": 500.0, "prefix_len": 3, "lora_r": 2, "lora_alpha": 6, "topk": 4, "ui_layers": 3,
    "user_layers": 1, "item_layers": 2, "temperature": 0.3,
}  # fmt: skip


def stage2_inputs(sizes, kv_heads, graph_dim, sequence_dim, n_items, seed):
    """Random weights and inputs under the names of a golden file."""
    draw, d, inner = torch.Generator().manual_seed(seed), sizes["hidden_size"], sizes["intermediate_size"]
    kv, r, square = kv_heads * d // sizes["num_attention_heads"], sizes["lora_r"], graph_dim**2
    shapes = {"model.embed_tokens": (sizes["vocab_size"], d), "score": (n_items, d),
              "item_projection.0": (d, graph_dim + sequence_dim), "item_projection.2": (d, d)}  # fmt: skip
    for kind in ("key", "value"):
        shapes |= {f"prefix.{kind}_mlp.0": (square, square), f"prefix.{kind}_mlp.3": (d, square)}
    for layer in range(sizes["num_hidden_layers"]):
        name = f"model.layers.{layer}"
        for part, rows in {"q": d, "k": kv, "v": kv, "o": d}.items():
            shapes[f"{name}.self_attn.{part}_proj"] = (rows, d)
        for part, (rows, columns) in {"gate": (inner, d), "up": (inner, d), "down": (d, inner)}.items():
            shapes[f"{name}.mlp.{part}_proj"] = (rows, columns)
            shapes[f"{name}.mlp.{part}_proj.lora_A"] = (r, columns)
            shapes[f"{name}.mlp.{part}_proj.lora_B"] = (rows, r)
    w = {f"{name}.weight": torch.randn(s, generator=draw) / s[-1] ** 0.5 for name, s in shapes.items()}
    for name, shape in shapes.items():
        if name.startswith("item_projection.") or "_mlp." in name:
            w[f"{name}.bias"] = torch.randn(shape[0], generator=draw) * 0.1
    norms = [f"prefix.{k}_{n}" for k in ("key", "value") for n in ("norm", "graph_norm")] + ["model.norm"]
    norms += [f"model.layers.{layer}.{n}_layernorm" for layer in range(sizes["num_hidden_layers"])
              for n in ("input", "post_attention")]  # fmt: skip
    w |= {f"{name}.weight": 1 + torch.randn(d, generator=draw) * 0.2 for name in norms}
    for kind in ("keys", "values"):
        w[f"prefix.learned_{kind}"] = torch.randn(1, sizes["num_hidden_layers"], sizes["prefix_len"], d, generator=draw)
    for name, width in (("graph", graph_dim), ("sequential", sequence_dim)):
        w[f"item_embedding.{name}"] = torch.randn(n_items, width, generator=draw)
    w["io.input_mask"] = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1], [1, 1, 0, 0, 0], [1, 0, 1, 0, 1]])
    w["io.input_ids"] = torch.randint(1, n_items, (4, 5), generator=draw) * w["io.input_mask"]
    w["io.labels"] = torch.randint(1, n_items, (4, 1), generator=draw)
    w["io.instruct_ids"] = torch.randint(0, sizes["vocab_size"], (4,), generator=draw)
    w["io.response_ids"] = torch.randint(0, sizes["vocab_size"], (2,), generator=draw)
    return w


def stage1_inputs(n_users, n_items, width, seed):
    draw = np.random.default_rng(seed)
    taken = np.argwhere(draw.random((n_users, n_items)) < 0.25)
    sizes = {"user_ui": n_users, "item_ui": n_items, "uu": n_users, "ii": n_items}
    tables = {f"{name}_embedding": draw.normal(size=(n, width)).astype(np.float32) for name, n in sizes.items()}
    batch = {"users": n_users, "pos": n_items, "neg": n_items}
    return {
        "interactions": taken,
        "image_feat": draw.normal(size=(n_items, 5)).astype(np.float32),
        "text_feat": draw.normal(size=(n_items, 9)).astype(np.float32),
        **tables,
        **{name: draw.integers(0, n, 11) for name, n in batch.items()},
    }


def write_golden(folder, seed=0, kv_heads=2, **changes):
    """Write ``config.json``, ``stage1.npz`` and ``stage2.npz`` of small random models."""
    sizes = {**SIZES, **changes}
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(sizes))
    one = stage1_inputs(13, 19, 6, seed)
    outputs = {name: np.asarray(value, dtype=np.float32) for name, value in oracle.stage1(one, sizes).items()}
    np.savez(folder / "stage1.npz", **one, **outputs)
    two = stage2_inputs(sizes, kv_heads, 3, 5, 12, seed)
    two |= oracle.stage2(two, sizes)
    np.savez(folder / "stage2.npz", **{name: tensor.numpy() for name, tensor in two.items()})
    return folder


def read(path):
    with np.load(path) as file:
        return dict(file)
