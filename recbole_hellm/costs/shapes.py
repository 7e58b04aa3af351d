"""The sizes of a run's parts that decide what it costs."""

from __future__ import annotations

from dataclasses import dataclass

from recbole_hellm.costs.rows import DataShape


@dataclass(frozen=True)
class FeatureShape:
    """One item feature.

    Attributes:
        name: Modality.
        width: Numbers of a vector.
        flops: Operations to encode an item; 0 where an array is read.
        bf16: Whether the encoder computes in bf16.
        encoder_bytes: Weights and activations of the encoder.
    """

    name: str
    width: int
    flops: float = 0.0
    encoder_bytes: int = 0
    bf16: bool = False


@dataclass(frozen=True)
class GraphShape:
    """Stage 1. Settings of the same names; ``epochs`` and ``batch_size`` are of whoever trains it."""

    width: int
    ui_layers: int
    user_layers: int
    item_layers: int
    neighbours: int
    user_hypergraph: bool
    modalities: tuple[FeatureShape, ...]
    contrast_users: bool
    contrast_items: bool
    all_nodes: bool
    epochs: int
    batch_size: int


@dataclass(frozen=True)
class SequenceShape:
    """Stage 1b, a SASRec."""

    width: int
    layers: int
    heads: int
    inner: int
    epochs: int
    batch_size: int


@dataclass(frozen=True)
class DecoderShape:
    """A decoder's layers as far as they are kept; ``layers = 0``: none, only its width counts."""

    width: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    inner: int
    vocabulary: int

    @property
    def layer_weights(self) -> int:
        """Weights of the matrices of one layer."""
        attention = 2 * self.width * self.head_width * (self.heads + self.kv_heads)
        return attention + 3 * self.width * self.inner

    @property
    def weights(self) -> int:
        """Weights of the kept layers and of the token embeddings."""
        return self.layers * self.layer_weights + (self.vocabulary * self.width if self.layers else 0)


@dataclass(frozen=True)
class TuneShape:
    """Stage 2."""

    decoder: DecoderShape
    slot_width: int
    graph_width: int
    lora_weights: int
    prefix: int
    prefix_context: int
    """Numbers of the graph context that enters the prefix; 0: none."""
    prefix_rank: int
    """Width the graph vectors are reduced to before; 0: not at all."""
    text_tokens: int
    """Prompt tokens around the slots."""
    all_targets: bool
    bf16: bool
    epochs: int
    batch_size: int
    rows_at_once: int = 0
    """Rows of a batch run at a time; 0: all."""

    def trained(self, n_items: int) -> int:
        """Return the number of trained weights.

        Args:
            n_items: Item ids, the padding id included.
        """
        width, layers = self.decoder.width, self.decoder.layers
        slots = (self.slot_width + 1) * width + (width + 1) * width
        prefix = 0
        if self.prefix and layers:
            context = self.prefix_context
            mlps = 2 * (context * context + context + context * width + width + width) if context else 0
            mlps += self.graph_width * self.prefix_rank if context else 0
            prefix = 2 * layers * self.prefix * width + 2 * width + mlps
        return n_items * width + slots + prefix + self.lora_weights


@dataclass(frozen=True)
class EvaluationShape:
    """Validation and test: ``rows`` users at a time, and how often validation is read while the model trains."""

    rows: int
    validations: int
    sorts: bool = False
    """Whether a metric sorts the whole ranking (GAUC)."""


@dataclass(frozen=True)
class FusionShape:
    """What the scores are summed from."""

    widths: tuple[int, ...]
    """Widths of the vectors whose cosines are parts."""
    gaps: int
    """Gaps of pairs that are counted; 0: no transition counts."""
    parts: int
    """All parts, the language model and repeats included."""
    users: int
    """Validation histories the weights are chosen on, at most."""

    def pairs(self, data: DataShape) -> int:
        """Return the entries of the count table, at most."""
        return min(self.gaps * data.n_train, data.n_items**2)


@dataclass(frozen=True)
class RunShape:
    """Everything that decides what a run costs; a part that is ``None`` does not run."""

    data: DataShape
    features: tuple[FeatureShape, ...]
    graph: GraphShape | None
    sequence: SequenceShape | None
    tune: TuneShape | None
    evaluation: EvaluationShape
    graph_is_model: bool = False
    """Whether stage 1 is the trained model itself (MMHCL)."""
    fusion: FusionShape | None = None
    only_stages: bool = False
    """Whether the run ends after its stages: the model is built, but neither trained nor evaluated."""
