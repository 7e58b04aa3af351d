"""Settings of stage 2: language model, LoRA, prefix, prompt, training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from recbole_hellm.config.schema import Spec
from recbole_hellm.errors import ConfigError, nearest

FUSION_PARTS = ("llm", "transitions", "neighbours", "graph", "repeat")
"""What the scores can be made of."""


@dataclass(frozen=True)
class BackboneSpec(Spec):
    """The language model."""

    prefix: ClassVar[str] = "llm_"

    path: str = "smollm2-135m"
    """``smollm2-135m`` (built in), or the folder or name of any Hugging Face decoder."""
    layers: int = 2
    """Keep the first n layers; -1: all. A cut model is a warm start, no language model any more. With 0 the item head
    reads the mean of the item slots. They are as wide as the model and, with ``finetune_slot_norm``, of root mean
    square 1, what a decoder's last norm gives (the scale of its embeddings matters to its layers alone)."""
    pretrained: bool = True
    """``False``: random weights of the same shape."""
    attention: Literal["eager", "sdpa"] = "eager"
    """Attention kernel of transformers."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Autocast of the matrix products; ``auto``: bf16 where the processor multiplies it natively."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass; excludes a prefix."""
    sharded: bool = False
    """Whether several processes hold a share each of the frozen matrices and gather them as they are used, for models
    that one does not hold; alone, it changes nothing."""

    def __post_init__(self) -> None:
        self.require(self.layers >= -1, "layers", ">= 0, or -1 for all")
        self.require(self.path != "", "path", "a folder or name")


@dataclass(frozen=True)
class LoraSpec(Spec):
    """Low-rank updates of the frozen backbone, through PEFT."""

    prefix: ClassVar[str] = "lora_"

    r: int = 16
    """Rank; 0: no LoRA."""
    alpha: int = 16
    """The update is scaled by ``alpha / r``."""
    dropout: float = 0.0
    """Dropout of the adapter's input."""
    targets: tuple[str, ...] = ("gate_proj", "up_proj", "down_proj")
    """Module names that get an adapter."""

    def __post_init__(self) -> None:
        self.require(self.r >= 0, "r", ">= 0")
        self.require(self.r == 0 or len(self.targets) > 0, "targets", "a non-empty list when lora_r > 0")
        self.require(0 <= self.dropout < 1, "dropout", "in [0, 1)")


@dataclass(frozen=True)
class PrefixSpec(Spec):
    """The key / value prefix of every layer."""

    prefix: ClassVar[str] = "prefix_"

    len: int = 10
    """Positions; 0: no prefix."""
    graph: bool = True
    """Whether the graph context of the history enters it, or only learned vectors."""
    dropout: float = 0.3
    """Dropout of the two MLPs on the graph context."""
    gain: float = 0.01
    """What the prefix states' last norms start at; 1 is the paper. At 1 a frozen small model attends to little else
    than the untrained prefix, and learns slowly."""
    rank: int = 16
    """Width of the graph vectors in the graph context; 0: as they are (paper)."""

    def __post_init__(self) -> None:
        self.require(self.len >= 0, "len", ">= 0")
        self.require(self.rank >= 0, "rank", ">= 0")
        self.require(self.gain > 0, "gain", "positive")
        self.require(0 <= self.dropout < 1, "dropout", "in [0, 1)")


@dataclass(frozen=True)
class PromptSpec(Spec):
    """Text around the item slots."""

    prefix: ClassVar[str] = "prompt_"

    template: Literal["none", "alpaca"] = "none"
    """``alpaca`` wraps the instruction as the paper does; ``none`` puts only the first token before the slots."""
    instruction: str = "Given the user's purchase history, predict next possible item to be purchased."
    """What the template asks for."""


@dataclass(frozen=True)
class FinetuneSpec(Spec):
    """Stage 2, beside RecBole's ``epochs``, ``learning_rate``, ``train_batch_size``, ``weight_decay``."""

    prefix: ClassVar[str] = "finetune_"

    targets: Literal["all", "last"] = "all"
    """``all``: one causal pass per user trains every later item; ``last``: one pass per (history, next item)."""
    graph_vectors: bool = True
    """Whether the item slots hold graph vectors."""
    slot_norm: bool = True
    """Scale the item slots to the root mean square of the token embeddings (to 1 with ``llm_layers: 0``)."""
    dropout: float = 0.4
    """Dropout of the item vectors before, and of the hidden state after the backbone."""
    residual: bool = True
    """Whether the language model learns what counts, features and repeats leave unsaid of a target: their scores are
    added to its logits in training. Without ``fusion: learned``, or without ``llm`` in it, there is nothing to add."""
    label_smoothing: float = 0.0
    """Share of the target's mass spread over the catalogue."""
    negatives: int = 0
    """Items a target competes with in a step, drawn uniformly for the batch; 0: the whole catalogue. For catalogues of
    which all logits take too long."""
    beta2: float = 0.999
    """AdamW's memory of squared gradients. An item is a target every few hundred steps: with the paper's 0.95 its
    gradient is forgotten in between, and the steps that push it down as a non-target undo what it learned."""
    warmup_epochs: float = 0.5
    """Epochs of linear warm-up; afterwards a cosine falls to ``min_learning_rate``."""
    min_learning_rate: float = 5e-6
    """Learning rate at the end."""
    accumulation_steps: int = 1
    """Batches whose gradients are summed before a step."""

    def __post_init__(self) -> None:
        self.require(0 <= self.dropout < 1, "dropout", "in [0, 1)")
        self.require(0 <= self.label_smoothing < 1, "label_smoothing", "in [0, 1)")
        self.require(self.negatives >= 0, "negatives", ">= 0")
        self.require(0 < self.beta2 < 1, "beta2", "between 0 and 1")
        self.require(self.warmup_epochs >= 0, "warmup_epochs", ">= 0")
        self.require(self.accumulation_steps > 0, "accumulation_steps", "positive")


@dataclass(frozen=True)
class FusionSpec(Spec):
    """The language model's scores summed with those of counts and item features."""

    fusion: Literal["learned", "off"] = "learned"
    """``learned``: weights of the parts are chosen on validation, before every reading of it; ``off``: the language
    model's scores as they are."""
    fusion_parts: tuple[str, ...] = FUSION_PARTS
    """``llm``; ``transitions``: counts by the settings ``transition_*``; ``neighbours``: cosines with the history, a
    part for each of ``item_features``; ``graph``: the same by the item vectors of stage 1; ``repeat``: items of the
    history get a bonus or a penalty."""
    fusion_decay: float = 0.6
    """A history item of age ``a`` (0 = newest) weighs ``fusion_decay ** a`` in ``neighbours`` and ``graph``."""
    fusion_llm_mean: bool = True
    """With ``finetune_residual``: whether the sum has a part, of either sign, for the language model's mean logit of
    each item over histories. Items of few events are else pushed down, as all they were in training is a wrong
    answer."""
    fusion_users: int = 20000
    """Validation histories the weights are chosen on, evenly spread, at most."""

    def __post_init__(self) -> None:
        for part in self.fusion_parts:
            if part not in FUSION_PARTS:
                raise ConfigError(
                    f"setting 'fusion_parts' has an unknown part {part!r}{nearest(part, FUSION_PARTS)}; known: "
                    f"{', '.join(FUSION_PARTS)}"
                )
        self.require(
            len(set(self.fusion_parts)) == len(self.fusion_parts), "fusion_parts", "a list of parts, each once"
        )
        some = bool({*self.fusion_parts} - {"repeat"})
        self.require(some, "fusion_parts", "a list with 'llm', 'transitions', 'neighbours' or 'graph'")
        self.require(0 < self.fusion_decay <= 1, "fusion_decay", "in (0, 1]")
        self.require(self.fusion_users > 0, "fusion_users", "positive")

    @property
    def learned(self) -> bool:
        """Whether the scores are fused."""
        return self.fusion == "learned"

    @property
    def uses_llm(self) -> bool:
        """Whether the language model has a say in the scores, alone or as a part of the sum."""
        return not self.learned or "llm" in self.fusion_parts

    def has(self, part: str) -> bool:
        """Tell whether a part enters the scores."""
        return self.learned and part in self.fusion_parts
