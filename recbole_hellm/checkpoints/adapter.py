"""The LoRA part of a model in PEFT's own format, so that PEFT alone can load it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from recbole_hellm.errors import ArtifactError

FOLDER = "adapter"
"""Name of the adapter's folder in a checkpoint."""
WEIGHTS = "adapter_model.safetensors"
_PEFT, _NAME = "base_model.model.", ".default"
"""What PEFT puts before a name in its files, and the adapter's name, which its files leave out."""


@dataclass(frozen=True)
class AdapterPlan:
    """What PEFT has to know of a LoRA adapter.

    Attributes:
        root: Where the language model is in the recommender, as a prefix of its state's keys.
        base: Path or name of the language model.
        layers: Layers of it that are used.
        r: Rank.
        alpha: The update is scaled by ``alpha / r``.
        dropout: Of the adapter's input.
        targets: Module names that have an update.
    """

    root: str
    base: str
    layers: int
    r: int
    alpha: float
    dropout: float
    targets: Sequence[str]


def split(state: Mapping[str, Tensor], root: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Divide a state into what is no adapter, and the adapter by the names of PEFT's files."""
    rest, found = {}, {}
    for key, tensor in state.items():
        if key.startswith(root) and ".lora_" in key:
            found[_PEFT + key.removeprefix(root).replace(_NAME, "")] = tensor
        else:
            rest[key] = tensor
    return rest, found


def join(adapter: Mapping[str, Tensor], root: str) -> dict[str, Tensor]:
    """Return an adapter by the keys it has in the recommender's state."""
    state = {}
    for key, tensor in adapter.items():
        stem, dot, leaf = key.removeprefix(_PEFT).rpartition(".")
        state[f"{root}{stem}{_NAME}{dot}{leaf}"] = tensor
    return state


def write_adapter(folder: Path, adapter: Mapping[str, Tensor], plan: AdapterPlan) -> None:
    """Write the two files ``peft.PeftModel.from_pretrained`` reads."""
    from peft import LoraConfig, TaskType

    folder.mkdir()
    save_file(dict(adapter), folder / WEIGHTS, metadata={"format": "pt"})
    config = LoraConfig(
        r=plan.r,
        lora_alpha=plan.alpha,  # type: ignore[arg-type]
        lora_dropout=plan.dropout,
        target_modules=sorted(plan.targets),
        bias="none",
        task_type=TaskType.FEATURE_EXTRACTION,
        base_model_name_or_path=plan.base,
        inference_mode=True,
    )
    config.save_pretrained(str(folder))


def read_adapter(folder: Path) -> dict[str, Tensor]:
    """Return the tensors of an adapter by PEFT's names; its configuration is not needed: ours is in the settings.

    Raises:
        ArtifactError: If the file cannot be read.
    """
    try:
        return load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{folder / WEIGHTS} cannot be read ({error})") from error


def root_of(keys: Iterable[str]) -> str | None:
    """Return where the language model is, as the part of its keys before its layers; ``None`` without LoRA."""
    for key in keys:
        head, layers, tail = key.partition("layers.")
        if layers and ".lora_" in tail:
            return head
    return None
