"""A frozen Hugging Face decoder with LoRA updates and room for a key / value prefix."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from recbole_hellm import registry
from recbole_hellm.errors import ConfigError, nearest
from recbole_hellm.llm.adapter import BackboneAdapter, LlamaAdapter
from recbole_hellm.llm.graph_prefix import PrefixStates
from recbole_hellm.llm.merged_lora import merged_lora
from recbole_hellm.llm.some_positions import only_at


class Backbone(nn.Module):
    """A decoder without its language-model head; all of its own weights are frozen.

    Args:
        model: A Hugging Face base model (``AutoModel``).
        adapter: Where the model keeps its layers; chosen by ``model_type`` if not given.

    Attributes:
        width: Hidden size D.
        n_layers: Number of transformer layers.
    """

    def __init__(self, model: Any, adapter: BackboneAdapter | None = None) -> None:
        super().__init__()
        self.model = model.requires_grad_(False)
        self.adapter: BackboneAdapter = adapter or adapter_for(model.config.model_type)
        self.width: int = model.config.hidden_size
        self.n_layers = len(self.adapter.layers(model))
        # transformers 5 is renaming the argument and warns of the old name once it has the new one.
        self._cache_name = "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"

    @property
    def first_token(self) -> int:
        """Id of the token every input starts with: begin-of-text, else end-of-text, else 0."""
        config = self.model.config
        for token in (config.bos_token_id, config.eos_token_id):
            if isinstance(token, int):
                return token
        return 0

    def embed(self, ids: Tensor) -> Tensor:
        """Return the token embeddings of ``ids``, shape ``[..., D]``."""
        return self.adapter.embeddings(self.model)(ids)

    def embedding_rms(self) -> float:
        """Return the root mean square of the token embeddings, the scale its layers expect."""
        weight: Any = self.adapter.embeddings(self.model).weight
        return float(weight.detach().float().square().mean().sqrt())

    def check_prefix(self) -> None:
        """Check that keys and values of a prefix can be made.

        Raises:
            ConfigError: If the layers have no separate ``k_proj`` / ``v_proj``.
        """
        layers = self.adapter.layers(self.model)
        try:
            ok = len(layers) > 0
            if ok:
                projection = self.adapter.key_projection(layers[0])
                probe = torch.zeros(1, 1, self.width, dtype=next(projection.parameters()).dtype)
                self.adapter.keys(layers[0], projection(probe))
                self.adapter.value_projection(layers[0])
        except AttributeError:
            ok = False
        if not ok:
            raise ConfigError(
                f"setting 'prefix_len' must be 0 for a backbone of type {self.model.config.model_type!r}: its layers "
                "have no separate k_proj and v_proj; register an adapter in recbole_hellm.registry.backbones"
            )

    def prefix_cache(self, keys: PrefixStates, values: PrefixStates) -> Any:
        """Project prefix states by each layer's own key and value matrices into a new cache.

        The keys are not rotated: the prefix carries no position (HeLLM, arXiv 2504.10541).

        Args:
            keys: States to become keys, of B histories.
            values: States to become values.

        Returns:
            A ``DynamicCache`` for one forward pass; gradients flow through it.
        """
        from transformers import DynamicCache

        cache, adapter = DynamicCache(), self.adapter
        for index, layer in enumerate(adapter.layers(self.model)):
            key = keys.projected(index, adapter.key_projection(layer))
            value = values.projected(index, adapter.value_projection(layer))
            if torch.is_autocast_enabled(key.device.type):
                dtype = torch.get_autocast_dtype(key.device.type)
                key, value = key.to(dtype), value.to(dtype)
            cache.update(adapter.keys(layer, key), adapter.values(layer, value), index)
        return cache

    def forward(
        self,
        embeddings: Tensor,
        mask: Tensor,
        prefix: tuple[PrefixStates, PrefixStates] | None = None,
        read: Tensor | None = None,
    ) -> Tensor:
        """Return the hidden states after the final norm.

        Args:
            embeddings: Input vectors, shape ``[B, T, D]``.
            mask: True for real tokens, shape ``[B, T]``; the first token of a row must be real.
            prefix: States for keys and values of B histories; every real token sees them.
            read: True for the tokens whose states will be read, shape ``[B, T]``; ``None``: all.

        Returns:
            Shape ``[B, T, D]``; what is padding or not read is meaningless. Positions count real tokens only and start
            at P.
        """
        positions = (mask.long().cumsum(1) - 1).clamp(min=0)
        cache, attend = None, mask.long()
        if prefix is not None:
            cache = self.prefix_cache(*prefix)
            length = prefix[0].length
            attend = torch.cat([attend.new_ones(attend.size(0), length), attend], dim=1)
            positions = positions + length
        with only_at(self._read_by_no_other, read):
            output = self.model(
                inputs_embeds=embeddings,
                attention_mask=attend,
                position_ids=positions,
                use_cache=cache is not None,
                **{self._cache_name: cache},
            )
        return output.last_hidden_state

    @property
    def _read_by_no_other(self) -> Sequence[nn.Module]:
        """The parts of the last layer whose output no other position reads."""
        # Gradient checkpointing runs the layer again outside of the forward pass.
        if not self.n_layers or getattr(self.model, "is_gradient_checkpointing", False):
            return []
        return self.adapter.by_position(self.adapter.layers(self.model)[-1])

    def add_lora(self, r: int, alpha: int, dropout: float, targets: Sequence[str]) -> None:
        """Put trainable low-rank updates on the named modules, through PEFT.

        Raises:
            ConfigError: If a target names no module of the model; the message has the near name.
        """
        from peft import LoraConfig, inject_adapter_in_model

        linear = {name.rpartition(".")[2] for name, part in self.model.named_modules() if isinstance(part, nn.Linear)}
        for target in targets:
            if target not in linear:
                known = f"it has: {', '.join(sorted(linear))}" if linear else "it has none; set lora_r=0"
                raise ConfigError(
                    f"setting 'lora_targets' has {target!r}, which matches no linear module of the backbone"
                    f"{nearest(target, linear)}; {known}"
                )
        lora = LoraConfig(r=r, lora_alpha=alpha, lora_dropout=dropout, target_modules=list(targets), bias="none")
        with warnings.catch_warnings():  # PEFT reads an attribute that transformers 5 has renamed
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
            # In place: PEFT's wrapper forwards unknown attributes, which RecBole's FLOPs count trips over.
            inject_adapter_in_model(lora, self.model)

    def merged(self) -> AbstractContextManager[None]:
        """Inside, LoRA's updates stand in the frozen matrices, if those are small; nothing may be trained there."""
        return merged_lora(self.model)

    def to_half(self) -> None:
        """Keep the frozen matrices in bf16, for use under autocast, which would else cast them at every pass."""
        for module in self.model.modules():
            if isinstance(module, nn.Linear) and not module.weight.requires_grad:
                module.to(torch.bfloat16)
            elif hasattr(module, "cast_input_dtype_enabled"):
                module.cast_input_dtype_enabled = False  # PEFT's adapters: autocast does it, once

    def shard(self, mesh: Any) -> None:
        """Split the frozen matrices of the layers over processes by FSDP2; each is gathered while it is used.

        What is trained stays whole on every process. From now on all must make the same calls in the same order.

        Args:
            mesh: The processes, a torch ``DeviceMesh`` of one dimension.
        """
        from torch.distributed.fsdp import fully_shard

        for layer in self.adapter.layers(self.model):
            # By matrix, not by layer: a prefix uses the key and value projections apart from their layer.
            for module in list(layer.modules()):
                if isinstance(module, nn.Linear) and not module.weight.requires_grad:
                    fully_shard(module, mesh=mesh, reshard_after_forward=True)

    def checkpoint_gradients(self) -> None:
        """Recompute activations in the backward pass instead of keeping them."""
        with warnings.catch_warnings():  # transformers 5 renames the call
            warnings.simplefilter("ignore", FutureWarning)
            self.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        self.model.enable_input_require_grads()


def adapter_for(model_type: str) -> BackboneAdapter:
    """Return the registered adapter of a transformers model type; LLaMA's where none is."""
    return registry.backbones.get(model_type)() if model_type in registry.backbones else LlamaAdapter()
