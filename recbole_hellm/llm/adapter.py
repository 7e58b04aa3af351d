"""Where a decoder keeps what the prefix, the item slots and the reading of few positions need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor, nn


class BackboneAdapter(Protocol):
    """Accessors of a Hugging Face decoder; write one for a family that names its layers otherwise."""

    def layers(self, model: nn.Module) -> Sequence[nn.Module]:
        """Return the transformer layers in order."""
        ...

    def embeddings(self, model: nn.Module) -> nn.Module:
        """Return the token embedding."""
        ...

    def key_projection(self, layer: nn.Module) -> nn.Module:
        """Return the linear map from hidden states to keys."""
        ...

    def value_projection(self, layer: nn.Module) -> nn.Module:
        """Return the linear map from hidden states to values."""
        ...

    def by_position(self, layer: nn.Module) -> Sequence[nn.Module]:
        """Return the parts of a layer that look at one position at a time and whose output no other position reads.

        The feed-forward part, and of the attention what makes queries and what mixes its heads: not keys and values.
        """
        ...

    def keys(self, layer: nn.Module, projected: Tensor) -> Tensor:
        """Turn projected states ``[B, P, E]`` into unrotated keys ``[B, KV heads, P, head size]``."""
        ...

    def values(self, layer: nn.Module, projected: Tensor) -> Tensor:
        """Turn projected states ``[B, P, E]`` into values ``[B, KV heads, P, head size]``."""
        ...


class LlamaAdapter:
    """LLaMA, Mistral, Qwen, SmolLM, Gemma and every other decoder with ``layers[i].self_attn.k_proj / v_proj``."""

    def layers(self, model: nn.Module) -> Sequence[nn.Module]:
        """Return the transformer layers in order, or none if the model names them otherwise."""
        return list(getattr(model, "layers", []))

    def embeddings(self, model: nn.Module) -> nn.Module:
        """Return the token embedding."""
        return model.get_input_embeddings()  # type: ignore[operator]

    def key_projection(self, layer: nn.Module) -> nn.Module:
        """Return ``k_proj``."""
        return layer.self_attn.k_proj  # type: ignore[union-attr, return-value]

    def value_projection(self, layer: nn.Module) -> nn.Module:
        """Return ``v_proj``."""
        return layer.self_attn.v_proj  # type: ignore[union-attr, return-value]

    def by_position(self, layer: nn.Module) -> Sequence[nn.Module]:
        """Return ``q_proj``, ``o_proj`` and ``mlp``, those there are.

        Not ``mlp`` where it chooses experts by position and may return more than states.
        """
        attention, mlp = getattr(layer, "self_attn", None), getattr(layer, "mlp", None)
        parts = [getattr(attention, "q_proj", None), getattr(attention, "o_proj", None)]
        parts.append(mlp if hasattr(mlp, "down_proj") else None)
        return [part for part in parts if isinstance(part, nn.Module)]

    def keys(self, layer: nn.Module, projected: Tensor) -> Tensor:
        """Return the layer's keys, normalised where the family normalises them, without rotation."""
        attention: Any = layer.self_attn
        keys = _heads(projected, attention.head_dim)
        return attention.k_norm(keys) if hasattr(attention, "k_norm") else keys

    def values(self, layer: nn.Module, projected: Tensor) -> Tensor:
        """Return the layer's values."""
        attention: Any = layer.self_attn
        return _heads(projected, attention.head_dim)


def _heads(projected: Tensor, head_dim: int) -> Tensor:
    return projected.unflatten(-1, (-1, head_dim)).transpose(1, 2)
