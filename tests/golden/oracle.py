"""HeLLM's second stage and MMHCL written out densely by hand, to check the package against; it imports none of it."""

import math

import numpy as np
import torch
from torch.nn import functional


def rms_norm(x, weight, eps):
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps) * weight


def rotate(x, position, theta):
    """Rotate one head vector ``[d]``: dimensions ``i`` and ``i + d/2`` turn by ``position / theta^(2i/d)``."""
    half = x.numel() // 2
    angle = position * theta ** (-torch.arange(half, dtype=x.dtype) * 2 / x.numel())
    left, right = x[:half], x[half:]
    return torch.cat([left * angle.cos() - right * angle.sin(), right * angle.cos() + left * angle.sin()])


def attention(w, layer, hidden, real, prefix, sizes):
    """Attend token by token and head by head; ``prefix`` holds states ``[P, D]`` for keys and for values."""
    name, n_heads = f"model.layers.{layer}.self_attn", sizes["num_attention_heads"]
    q, k, v = (hidden @ w[f"{name}.{part}_proj.weight"].T for part in "qkv")
    d = q.size(1) // n_heads
    group = n_heads // (k.size(1) // d)
    keys, values = (state @ w[f"{name}.{part}_proj.weight"].T for state, part in zip(prefix, "kv", strict=True))
    place, order = [0] * len(real), len(prefix[0])
    for t, here in enumerate(real):
        place[t], order = order, order + int(here)
    out = torch.zeros_like(hidden)
    for t in range(len(real)):
        heads = []
        for head in range(n_heads):
            mine, theirs = slice(head * d, (head + 1) * d), slice(head // group * d, (head // group + 1) * d)
            query = rotate(q[t, mine], place[t], sizes["rope_theta"])
            seen = [s for s in range(t + 1) if real[s]]
            rows = [keys[p, theirs] for p in range(len(keys))]
            rows += [rotate(k[s, theirs], place[s], sizes["rope_theta"]) for s in seen]
            gained = torch.cat([values[:, theirs], v[seen][:, theirs]])
            share = torch.softmax(torch.stack(rows) @ query / math.sqrt(d), 0)
            heads.append(share @ gained)
        out[t] = torch.cat(heads)
    return out @ w[f"{name}.o_proj.weight"].T


def feed_forward(w, layer, hidden, sizes):
    def linear(x, part):
        name = f"model.layers.{layer}.mlp.{part}"
        update = (x @ w[f"{name}.lora_A.weight"].T) @ w[f"{name}.lora_B.weight"].T
        return x @ w[f"{name}.weight"].T + update * sizes["lora_alpha"] / sizes["lora_r"]

    return linear(functional.silu(linear(hidden, "gate_proj")) * linear(hidden, "up_proj"), "down_proj")


def prefix_states(w, graph_vectors, kind, sizes):
    """Return the states of one history's prefix, ``[layers, P, D]``; ``kind`` is ``key`` or ``value``."""
    x = torch.zeros(graph_vectors.size(1), graph_vectors.size(1))
    for vector in graph_vectors:
        x += torch.outer(vector, vector)
    x, eps = x.flatten(), sizes["rms_norm_eps"]
    for step in (0, 3):
        x = functional.gelu(w[f"prefix.{kind}_mlp.{step}.weight"] @ x + w[f"prefix.{kind}_mlp.{step}.bias"])
    graph = rms_norm(x, w[f"prefix.{kind}_graph_norm.weight"], eps)
    return rms_norm(w[f"prefix.learned_{kind}s"][0] + graph, w[f"prefix.{kind}_norm.weight"], eps)


def stage2(w, sizes):
    """Return every ``io.*`` output, one sample at a time."""
    before, after, eps = w["io.instruct_ids"].long(), w["io.response_ids"].long(), sizes["rms_norm_eps"]
    tokens, found = w["model.embed_tokens.weight"], {"prefix_key": [], "prefix_value": [], "last_hidden": []}
    for ids, mask in zip(w["io.input_ids"].long(), w["io.input_mask"].bool(), strict=True):
        graph, sequence = w["item_embedding.graph"][ids], w["item_embedding.sequential"][ids]
        x = torch.cat([graph, sequence], 1)
        x = functional.gelu(x @ w["item_projection.0.weight"].T + w["item_projection.0.bias"])
        slots = x @ w["item_projection.2.weight"].T + w["item_projection.2.bias"]
        states = [prefix_states(w, graph[mask], kind, sizes) for kind in ("key", "value")]
        hidden = torch.cat([tokens[before], slots, tokens[after]])
        real = [True] * len(before) + mask.tolist() + [True] * len(after)
        for layer in range(sizes["num_hidden_layers"]):
            name, prefix = f"model.layers.{layer}", [state[layer] for state in states]
            normed = rms_norm(hidden, w[f"{name}.input_layernorm.weight"], eps)
            hidden = hidden + attention(w, layer, normed, real, prefix, sizes)
            normed = rms_norm(hidden, w[f"{name}.post_attention_layernorm.weight"], eps)
            hidden = hidden + feed_forward(w, layer, normed, sizes)
        found["prefix_key"].append(states[0])
        found["prefix_value"].append(states[1])
        found["last_hidden"].append(rms_norm(hidden[-1], w["model.norm.weight"], eps))
    out = {f"io.{name}": torch.stack(rows) for name, rows in found.items()}
    out["io.logits"] = out["io.last_hidden"] @ w["score.weight"].T
    chosen = torch.log_softmax(out["io.logits"], 1).gather(1, w["io.labels"].long().view(-1, 1))
    return {**out, "io.loss": -chosen.mean()}


def stage1(a, sizes):
    """Return the graphs, vectors and losses of MMHCL from dense numpy matrices."""
    n_users, n_items = len(a["user_ui_embedding"]), len(a["item_ui_embedding"])
    r = np.zeros((n_users, n_items))
    r[a["interactions"][:, 0], a["interactions"][:, 1]] = 1
    square = np.block([[np.zeros((n_users, n_users)), r], [r.T, np.zeros((n_items, n_items))]])
    shared = r @ r.T
    np.fill_diagonal(shared, 0)
    incidence = np.concatenate([_nearest(a[f"{name}_feat"], sizes["topk"]) for name in ("image", "text")], axis=1)
    joined = incidence @ incidence.T
    out = {"ui_norm": _symmetric(square), "i2i_incidence": incidence, "i2i_norm": _symmetric(joined)}
    out["u2u_norm"] = shared / np.maximum(shared.sum(1, keepdims=True), 1e-12)
    layers = [np.concatenate([a["user_ui_embedding"], a["item_ui_embedding"]]).astype(float)]
    for _ in range(sizes["ui_layers"]):
        layers.append(out["ui_norm"] @ layers[-1])
    plain = np.mean(layers, axis=0)
    out["uu_out"] = np.linalg.matrix_power(out["u2u_norm"], sizes["user_layers"]) @ a["uu_embedding"]
    out["ii_out"] = np.linalg.matrix_power(out["i2i_norm"], sizes["item_layers"]) @ a["ii_embedding"]
    out["user_out"], out["item_out"] = plain[:n_users] + _unit(out["uu_out"]), plain[n_users:] + _unit(out["ii_out"])
    user, item, other = (out[f"{k}_out"][a[i]] for k, i in (("user", "users"), ("item", "pos"), ("item", "neg")))
    out["bpr"] = np.mean(np.log1p(np.exp((user * other).sum(1) - (user * item).sum(1))))
    out["reg"] = (user**2 + item**2 + other**2).sum() / 2 / len(user)
    for name, hyper in (("user", "uu_out"), ("item", "ii_out")):
        out[f"contrastive_{name}"] = _contrast(out[f"{name}_out"], out[hyper], sizes["temperature"])
    return out


def _unit(x):
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def _symmetric(a):
    scale = 1 / np.sqrt(np.maximum(a.sum(1), 1e-12)) * (a.sum(1) > 0)
    return scale[:, None] * a * scale


def _nearest(features, k):
    cosine = _unit(features.astype(float)) @ _unit(features.astype(float)).T
    best = np.argsort(-cosine, axis=1, kind="stable")[:, :k]
    chosen = np.zeros_like(cosine)
    np.put_along_axis(chosen, best, 1.0, axis=1)
    return chosen * (cosine > 0)


def _contrast(one, two, temperature):
    one, two = _unit(one), _unit(two)
    same, across = np.exp(one @ one.T / temperature), np.exp(one @ two.T / temperature)
    below = same.sum(1) - np.diag(same) + across.sum(1)
    return np.mean(-np.log(np.diag(across) / below))
