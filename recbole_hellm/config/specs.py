"""Every setting of this package by spec; ``properties/model/*.yaml`` gives the same defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from recbole_hellm.config.every import Every
from recbole_hellm.config.finetuning import (
    BackboneSpec,
    FinetuneSpec,
    FusionSpec,
    LoraSpec,
    PrefixSpec,
    PromptSpec,
)
from recbole_hellm.config.pretraining import FeatureSpec, GraphSpec, PretrainSpec, SequenceSpec, TransitionSpec
from recbole_hellm.config.schema import Spec
from recbole_hellm.errors import ConfigError

__all__ = [
    "SPECS",
    "BackboneSpec",
    "FeatureSpec",
    "FinetuneSpec",
    "FusionSpec",
    "GraphSpec",
    "LoraSpec",
    "PrefixSpec",
    "PretrainSpec",
    "PromptSpec",
    "RunSpec",
    "SequenceSpec",
    "TransitionSpec",
    "check_recbole_keys",
    "check_together",
]


@dataclass(frozen=True)
class RunSpec(Spec):
    """What a run does around the model."""

    train_stage: Literal["auto", "pretrain", "finetune", "actor_pretrain", "critic_pretrain"] = "auto"
    """``auto`` runs every missing stage, then fine-tunes; ``pretrain`` ends after the stages; ``finetune`` refuses
    to run when a stage is missing. The last two are RecBole's, for its RaCT alone."""
    stage_cache_dir: str = "saved/stages"
    """Folder of finished stages, reused when nothing that decides them changed."""
    result_file: str = ""
    """JSON file written at the end of a run; empty: ``results/<model>-<dataset>-<seed>-<time>.json``."""
    mask_history: Literal["auto", "yes", "no"] = "auto"
    """Whether items of the history are left out of the ranking; ``auto`` is RecBole's way: general models yes,
    sequential models no."""

    train_minutes: float = 0.0
    """Training time, the stages' included (at what they cost when they ran); 0: no limit. No epoch starts that would
    end later at the pace so far, but one always runs."""
    train_rows_at_once: int = 0
    """Rows of a batch that a language model's training runs at a time, their gradients added up to the batch's; 0: all.
    Where even that does not fit into memory, it is halved."""
    memory_limit_gb: float = 0.0
    """Memory a run may take, in GB; one that would need more is refused before it starts. 0: what is free."""
    fit_on: Literal["train", "train+valid"] = "train"
    """Events the tested model is fitted on. ``train+valid``: the epoch is chosen on validation as always, then the
    model is trained again for that many epochs with the validation events as well."""
    resume: Literal["no", "yes", "auto"] = "no"
    """Whether an interrupted run with the same settings and data is continued: ``yes`` refuses to begin anew if there
    is none, ``auto`` begins anew then."""
    save_every: str = "auto"
    """How often the state of a training is kept, to go on from it: ``200 steps``, ``1 epoch``, ``auto`` (every ten
    minutes) or ``never``. A signal to stop keeps it in any case."""
    eval_every: str = ""
    """How often the model is validated: ``200 steps`` or ``1 epoch``; empty: every ``eval_step`` epochs."""
    skip_bad_batches: bool = False
    """Whether a batch whose loss or gradient is NaN or infinite is left out, with a line in the log, instead of ending
    the run."""

    def __post_init__(self) -> None:
        for field in ("train_minutes", "train_rows_at_once", "memory_limit_gb"):
            self.require(getattr(self, field) >= 0, field, ">= 0")
        Every.parse("save_every", self.save_every)
        if self.eval_every:
            unit = Every.parse("eval_every", self.eval_every).unit
            self.require(unit in ("step", "epoch"), "eval_every", "a number of steps or epochs")
        by_step = self.eval_every.endswith(("step", "steps"))
        if by_step and self.fit_on == "train+valid":
            raise ConfigError(
                f"setting 'eval_every' = {self.eval_every!r} excludes 'fit_on' = 'train+valid', which trains again for "
                "a whole number of epochs; validate by epochs"
            )

    @property
    def only_pretrains(self) -> bool:
        """Whether the run ends before the model itself is trained."""
        return self.train_stage.endswith("pretrain")


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
    FusionSpec,
)


def check_recbole_keys(settings: Mapping[str, Any]) -> None:
    """Check RecBole's own settings where this package's models go another way than RecBole's trainer or sampler.

    Args:
        settings: Final settings of a model of this package.

    Raises:
        ConfigError: Naming the setting and the way out.
    """
    negatives = settings.get("train_neg_sample_args") or {}
    if negatives.get("distribution") == "popularity":
        raise ConfigError(
            "setting 'train_neg_sample_args' with distribution 'popularity' draws by RecBole's counts of training, "
            "validation and test events together; use distribution uniform"
        )
    if settings.get("enable_amp"):
        raise ConfigError("setting 'enable_amp' has no effect here; set llm_precision=bf16 for the language model")


def check_together(settings: Mapping[str, Any]) -> None:
    """Check the pairs of settings that exclude each other.

    Raises:
        ConfigError: Naming both settings and the way out.
    """
    stage = RunSpec.from_config(settings).train_stage
    if stage not in ("auto", "pretrain", "finetune"):
        raise ConfigError(f"setting 'train_stage' must be one of 'auto', 'pretrain', 'finetune', got {stage!r}")
    llm, prefix = BackboneSpec.from_config(settings), PrefixSpec.from_config(settings)
    prompt, tune = PromptSpec.from_config(settings), FinetuneSpec.from_config(settings)
    if llm.layers == 0:
        _check_no_layers(settings)
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
    _check_fusion(settings)
    if not tune.graph_vectors and not SequenceSpec.from_config(settings).vectors:
        raise ConfigError(
            "settings 'finetune_graph_vectors' and 'sequence_vectors' are both off: the item slots would be empty; "
            "set one of them on"
        )


def _check_fusion(settings: Mapping[str, Any]) -> None:
    """Refuse a sum of nothing."""
    fusion = FusionSpec.from_config(settings)
    alone = {"llm", "transitions", "graph"} & {*fusion.fusion_parts}
    nothing = not alone and not FeatureSpec.from_config(settings).item_features
    if fusion.learned and nothing:
        raise ConfigError(
            f"setting 'fusion_parts' = {list(fusion.fusion_parts)} needs 'item_features', got none: nothing is left to "
            "sum; add llm, transitions or graph, name a feature, or set fusion=off"
        )


def _check_no_layers(settings: Mapping[str, Any]) -> None:
    """Refuse what acts on layers of the language model where there are none; all of it in one message."""
    llm, prefix = BackboneSpec.from_config(settings), PrefixSpec.from_config(settings)
    template, lora_r = PromptSpec.from_config(settings).template, LoraSpec.from_config(settings).r
    found = [
        (excluded, way_out)
        for contradicts, excluded, way_out in (
            (prefix.len > 0, f"'prefix_len' > 0, got {prefix.len}", "prefix_len=0"),
            (lora_r > 0, f"'lora_r' > 0, got {lora_r}", "lora_r=0"),
            (template != "none", f"'prompt_template' = {template!r}", "prompt_template=none"),
            (llm.precision == "bf16", "'llm_precision' = 'bf16'", "llm_precision=auto"),
            (llm.gradient_checkpointing, "'llm_gradient_checkpointing' = True", "llm_gradient_checkpointing=False"),
        )
        if contradicts
    ]
    if found:
        raise ConfigError(
            f"setting 'llm_layers' = 0 excludes {', '.join(excluded for excluded, _ in found)}: there is no layer to "
            f"act on; set {' '.join(way_out for _, way_out in found)}, or keep a layer"
        )
