"""Every setting of this package, with its unit and rule; ``properties/model/*.yaml`` gives the same defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from recbole_hellm.config.schema import Spec
from recbole_hellm.errors import ConfigError


@dataclass(frozen=True)
class RunSpec(Spec):
    """What a run does around the model."""

    train_stage: Literal["auto", "pretrain", "finetune"] = "auto"
    """``auto`` runs every missing stage, then fine-tunes; ``pretrain`` ends after the stages; ``finetune`` refuses
    to run when a stage is missing."""
    stage_cache_dir: str = "saved/stages"
    """Folder of finished stages, reused when nothing that decides them changed."""
    result_file: str = ""
    """JSON file written at the end of a run; empty: ``results/<model>-<dataset>-<seed>-<time>.json``."""
    mask_history: Literal["auto", "yes", "no"] = "auto"
    """Whether items of the history are left out of the ranking; ``auto`` is RecBole's way: general models yes,
    sequential models no."""


@dataclass(frozen=True)
class FeatureSpec(Spec):
    """Item features by modality."""

    item_features: tuple[str, ...] = ("text",)
    """Modalities: ``name`` (``features/<name>.npy`` of the data set, or for ``text`` the encoded item text) or
    ``name=path.npy`` with ``path.ids.txt`` beside it. Empty: no item hypergraph."""
    text_encoder: str = "minilm"
    """``minilm``, ``hashing`` or the path / name of a Hugging Face encoder."""
    text_columns: tuple[str, ...] = ()
    """Columns of the ``.item`` file that make up the text, in order; empty: all of them."""
    feature_missing: Literal["mean", "zero", "error"] = "zero"
    """What an item without a feature row gets: the mean of the others (paper), zeros (it joins no hyperedge of that
    modality), or an error."""


@dataclass(frozen=True)
class GraphSpec(Spec):
    """Stage 1: hypergraphs, encoder and loss of MMHCL (arXiv 2504.16576)."""

    prefix: ClassVar[str] = "graph_"

    embedding_size: int = 64
    """Width of the user and item vectors."""
    ui_layers: int = 2
    """Propagations over the user-item graph."""
    user_layers: int = 3
    """Propagations over the user hypergraph."""
    item_layers: int = 2
    """Propagations over the item hypergraph."""
    user_hypergraph: bool = True
    """Join users who took the same item."""
    item_hypergraph: bool = True
    """Join items that are near in a modality."""
    neighbours: int = 10
    """Nearest items per modality (the item itself included)."""
    temperature: float = 0.3
    """Temperature of the contrast."""
    alpha_user: float = 0.03
    """Weight of the contrast over users."""
    alpha_item: float = 0.07
    """Weight of the contrast over items."""
    reg_weight: float = 1e-3
    """Weight of the L2 term of the batch's final vectors."""
    contrast: Literal["batch", "all"] = "batch"
    """Nodes contrasted in a step: those of the batch, or all of them (paper)."""
    backend: Literal["auto", "dgl", "torch"] = "auto"
    """Message passing by DGL or plain torch; equal results. ``auto``: DGL on the CPU."""

    def __post_init__(self) -> None:
        for field in ("embedding_size", "neighbours"):
            self.require(getattr(self, field) > 0, field, "positive")
        for field in ("ui_layers", "user_layers", "item_layers", "alpha_user", "alpha_item", "reg_weight"):
            self.require(getattr(self, field) >= 0, field, ">= 0")
        self.require(self.temperature > 0, "temperature", "positive")


@dataclass(frozen=True)
class PretrainSpec(Spec):
    """How stage 1 is trained inside a HeLLM run (alone, MMHCL takes RecBole's own keys)."""

    prefix: ClassVar[str] = "pretrain_"

    epochs: int = 60
    """Passes over the training interactions; fixed, since a stage never sees validation events."""
    batch_size: int = 2048
    """Interactions per step."""
    learning_rate: float = 2e-3
    """Adam's rate; times 0.96 every 50 epochs as in the paper."""

    def __post_init__(self) -> None:
        for field in ("epochs", "batch_size", "learning_rate"):
            self.require(getattr(self, field) > 0, field, "positive")


@dataclass(frozen=True)
class SequenceSpec(Spec):
    """Stage 1b: the SASRec whose item table becomes the sequence vectors."""

    prefix: ClassVar[str] = "sequence_"

    vectors: bool = True
    """Whether the item slots hold sequence vectors at all."""
    embedding_size: int = 64
    """Width of the item vectors."""
    n_layers: int = 2
    """Transformer blocks."""
    n_heads: int = 2
    """Attention heads."""
    inner_size: int = 256
    """Width of the feed-forward layers."""
    dropout: float = 0.5
    """Dropout of inputs, attention and hidden states."""
    epochs: int = 40
    """Passes over the training sequences."""
    batch_size: int = 256
    """Sequences per step."""
    learning_rate: float = 1e-3
    """Adam's rate."""

    def __post_init__(self) -> None:
        for field in ("embedding_size", "n_layers", "n_heads", "inner_size", "epochs", "batch_size", "learning_rate"):
            self.require(getattr(self, field) > 0, field, "positive")
        self.require(0 <= self.dropout < 1, "dropout", "in [0, 1)")
        self.require(self.embedding_size % self.n_heads == 0, "embedding_size", f"a multiple of {self.n_heads} heads")


@dataclass(frozen=True)
class BackboneSpec(Spec):
    """The language model."""

    prefix: ClassVar[str] = "llm_"

    path: str = "smollm2-135m"
    """``smollm2-135m`` (built in), or the folder or name of any Hugging Face decoder."""
    layers: int = 4
    """Keep the first n layers; -1: all. A cut model is a warm start, no language model any more."""
    pretrained: bool = True
    """``False``: random weights of the same shape."""
    attention: Literal["eager", "sdpa"] = "eager"
    """Attention kernel of transformers."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Autocast of the matrix products; ``auto``: bf16 where the processor multiplies it natively."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass; excludes a prefix."""

    def __post_init__(self) -> None:
        self.require(self.layers > 0 or self.layers == -1, "layers", ">= 1, or -1 for all")
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
    rank: int = 16
    """Width of the graph vectors in the graph context; 0: as they are (paper)."""

    def __post_init__(self) -> None:
        self.require(self.len >= 0, "len", ">= 0")
        self.require(self.rank >= 0, "rank", ">= 0")
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
    """Scale the item slots to the root mean square of the token embeddings."""
    dropout: float = 0.3
    """Dropout of the item vectors before, and of the hidden state after the backbone."""
    label_smoothing: float = 0.0
    """Share of the target's mass spread over the catalogue."""
    warmup_epochs: float = 1.0
    """Epochs of linear warm-up; afterwards a cosine falls to ``min_learning_rate``."""
    min_learning_rate: float = 5e-6
    """Learning rate at the end."""
    accumulation_steps: int = 1
    """Batches whose gradients are summed before a step."""

    def __post_init__(self) -> None:
        self.require(0 <= self.dropout < 1, "dropout", "in [0, 1)")
        self.require(0 <= self.label_smoothing < 1, "label_smoothing", "in [0, 1)")
        self.require(self.warmup_epochs >= 0, "warmup_epochs", ">= 0")
        self.require(self.accumulation_steps > 0, "accumulation_steps", "positive")


@dataclass(frozen=True)
class TransitionSpec(Spec):
    """How transitions are counted, and how those of a history are added up."""

    prefix: ClassVar[str] = "transition_"

    gap_kernel: Literal["power", "exponential"] = "power"
    """Weight of a pair with ``o`` items between: ``1 / (o + 1) ** gap_decay`` or ``gap_decay ** o``."""
    gap_decay: float = 0.5
    """Exponent (power) or factor per item between (exponential)."""
    max_gap: int = 10
    """Pairs with fewer items between than this are counted; 1: neighbours only."""
    tau: float = 11250.0
    """Smoothing of ``log(1 + count * items / tau)``; larger is more linear in the count."""
    recency_decay: float = 0.6
    """A history item of age ``a`` (0 = newest) weighs ``recency_decay ** a``."""
    recency_window: int = 0
    """Newest items weighed so; 0: the whole history."""
    tail_mass: float = 0.0
    """Share of the weight that the items older than the window have together."""
    popularity_penalty: float = 0.0
    """Times the log of an item's training count, taken off its score."""

    def __post_init__(self) -> None:
        for field in ("gap_decay", "recency_window", "popularity_penalty"):
            self.require(getattr(self, field) >= 0, field, ">= 0")
        for field in ("max_gap", "tau"):
            self.require(getattr(self, field) > 0, field, "positive")
        self.require(self.gap_kernel == "power" or self.gap_decay <= 1, "gap_decay", "<= 1 with an exponential kernel")
        self.require(0 < self.recency_decay <= 1, "recency_decay", "in (0, 1]")
        self.require(0 <= self.tail_mass < 1, "tail_mass", "in [0, 1)")
        has_tail = self.tail_mass == 0 or self.recency_window > 0
        self.require(has_tail, "tail_mass", "0 when transition_recency_window is 0 (no item is older)")


SPECS: tuple[type[Spec], ...] = (
    RunSpec,
    FeatureSpec,
    GraphSpec,
    PretrainSpec,
    SequenceSpec,
    BackboneSpec,
    LoraSpec,
    PrefixSpec,
    PromptSpec,
    FinetuneSpec,
    TransitionSpec,
)


def check_together(settings: Mapping[str, Any]) -> None:
    """Check the pairs of settings that exclude each other.

    Raises:
        ConfigError: Naming both settings and the way out.
    """
    llm, prefix = BackboneSpec.from_config(settings), PrefixSpec.from_config(settings)
    prompt, tune = PromptSpec.from_config(settings), FinetuneSpec.from_config(settings)
    if llm.gradient_checkpointing and prefix.len > 0:
        raise ConfigError(
            f"setting 'llm_gradient_checkpointing' excludes 'prefix_len' > 0, got {prefix.len}: transformers drops the "
            "key/value prefix when it recomputes a layer; set one of the two off"
        )
    if tune.targets == "all" and prompt.template != "none":
        raise ConfigError(
            f"setting 'finetune_targets' = 'all' excludes 'prompt_template' = {prompt.template!r}: every slot predicts "
            "the next item, so no response text may follow; set finetune_targets=last or prompt_template=none"
        )
    if tune.targets == "all" and settings.get("loss_type", "CE") == "BPR":
        raise ConfigError(
            "setting 'loss_type' = 'BPR' excludes 'finetune_targets' = 'all': RecBole samples one negative per row; "
            "set finetune_targets=last or loss_type=CE"
        )
    if not tune.graph_vectors and not SequenceSpec.from_config(settings).vectors:
        raise ConfigError(
            "settings 'finetune_graph_vectors' and 'sequence_vectors' are both off: the item slots would be empty; "
            "set one of them on"
        )
