"""Settings of what comes before the language model: item features, graphs, sequences, counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from recbole_hellm.config.schema import Spec


@dataclass(frozen=True)
class FeatureSpec(Spec):
    """Item features by modality."""

    item_features: tuple[str, ...] = ("text",)
    """Modalities: ``name`` or ``name=path.npy`` with ``path.ids.txt`` beside it. A bare name is the array
    ``features/<name>.npy`` of the data set; without one, ``text`` is encoded from the item text, ``image`` from the
    pictures, any other name is a column of numbers of the ``.item`` file. Empty: no item hypergraph."""
    text_encoder: str = "minilm"
    """``minilm``, ``hashing`` or the path / name of a sentence-transformers or Hugging Face encoder."""
    text_columns: tuple[str, ...] = ()
    """Columns of the ``.item`` file that make up the text, in order; empty: all of them."""
    text_template: str = ""
    """How they make it up, as in ``"{title}. Brand: {brand}. {categories}"``; a field that is empty takes its label
    and separator with it. Empty: ``text_columns``, joined by ``". "``."""
    text_max_tokens: int = 128
    """Tokens a text is cut to; the log says how many texts are longer."""
    text_pooling: Literal["auto", "mean", "cls", "max", "last"] = "auto"
    """One vector of a text's token states; ``auto``: as the encoder's folder asks for, else the mean."""
    text_normalise: Literal["auto", "yes", "no"] = "auto"
    """Whether text vectors get length 1; ``auto``: as the encoder's folder asks for, else yes."""
    image_encoder: str = "efficientnet-lite0"
    """``efficientnet-lite0``, ``colours`` or the path / name of a Hugging Face vision, CLIP or SigLIP model."""
    image_source: str = ""
    """Folder or ``.zip`` of pictures, or a ``.tsv`` list of their addresses (item, tab, address). Empty: ``images/``,
    ``images.zip`` or ``images.tsv`` of the data set, or the addresses in its column ``image``."""
    image_download: bool = False
    """Whether pictures that are only known by address may be fetched, into ``images/`` of the data set."""
    feature_missing: Literal["mean", "zero", "error"] = "zero"
    """What an item without a feature row gets: the mean of the others (paper), zeros (it joins no hyperedge of that
    modality), or an error."""

    def __post_init__(self) -> None:
        self.require(self.text_encoder != "", "text_encoder", "a name, folder or hub name")
        self.require(self.image_encoder != "", "image_encoder", "a name, folder or hub name")
        self.require(self.text_max_tokens >= 3, "text_max_tokens", ">= 3")


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
    user_hypergraph: bool = False
    """Join users who took the same item (paper). HeLLM's scores were as good or better without."""
    item_hypergraph: bool = True
    """Join items that are near in a modality."""
    neighbours: int = 5
    """Nearest items per modality (the item itself included)."""
    temperature: float = 0.3
    """Temperature of the contrast."""
    alpha_user: float = 0.03
    """Weight of the contrast over users."""
    alpha_item: float = 0.07
    """Weight of the contrast over items."""
    reg_weight: float = 1e-3
    """Weight of the L2 term of the batch's final vectors."""
    loss: Literal["softmax", "bpr"] = "softmax"
    """``softmax``: each interaction's item against the items of the batch, on cosines; ``bpr``: against one sampled
    item, on inner products (paper)."""
    softmax_temperature: float = 0.15
    """Temperature of ``softmax``."""
    contrast: Literal["batch", "all"] = "batch"
    """Nodes contrasted in a step: of the batch, or all of them (paper)."""
    contrast_nodes: int = 1024
    """Users, and items, of the batch contrasted in a step, drawn at random; 0: all of the batch."""
    backend: Literal["auto", "dgl", "torch"] = "auto"
    """Message passing by DGL or plain torch; equal results. ``auto``: DGL on the CPU."""

    def __post_init__(self) -> None:
        for field in ("embedding_size", "neighbours"):
            self.require(getattr(self, field) > 0, field, "positive")
        for field in ("ui_layers", "user_layers", "item_layers", "alpha_user", "alpha_item", "reg_weight"):
            self.require(getattr(self, field) >= 0, field, ">= 0")
        self.require(self.temperature > 0, "temperature", "positive")
        self.require(self.softmax_temperature > 0, "softmax_temperature", "positive")
        self.require(self.contrast_nodes >= 0, "contrast_nodes", ">= 0")


@dataclass(frozen=True)
class PretrainSpec(Spec):
    """How stage 1 is trained inside a HeLLM run (alone, MMHCL takes RecBole's own keys)."""

    prefix: ClassVar[str] = "pretrain_"

    epochs: int = 12
    """Passes over the training interactions; fixed, since a stage never sees validation events."""
    batch_size: int = 4096
    """Interactions of a batch: the users and items that a loss compares."""
    max_steps: int = 64
    """Steps of an epoch at most: where there are more batches, a step takes several after one propagation over the
    graph, so that the cost of an interaction does not grow with the data."""
    learning_rate: float = 5e-3
    """Adam's rate at the start."""
    schedule: Literal["cosine", "exponential"] = "cosine"
    """``cosine``: falls to zero at the last step; ``exponential``: times 0.96 every 50 epochs (paper)."""

    def __post_init__(self) -> None:
        for field in ("epochs", "batch_size", "max_steps", "learning_rate"):
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
    epochs: int = 25
    """Passes over the training sequences."""
    batch_size: int = 256
    """Sequences per step."""
    learning_rate: float = 1e-3
    """Adam's rate."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Products with the whole catalogue; ``auto``: bf16 where the processor multiplies it natively."""

    def __post_init__(self) -> None:
        for field in ("embedding_size", "n_layers", "n_heads", "inner_size", "epochs", "batch_size", "learning_rate"):
            self.require(getattr(self, field) > 0, field, "positive")
        self.require(0 <= self.dropout < 1, "dropout", "in [0, 1)")
        self.require(self.embedding_size % self.n_heads == 0, "embedding_size", f"a multiple of {self.n_heads} heads")


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
