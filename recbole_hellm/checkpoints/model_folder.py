"""A trained model as a folder: safetensors, JSON and nothing that runs.

checkpoint.json            format, identity, versions, digest of every other file
model.safetensors          trained tensors and buffers
adapter/                   the LoRA part, in PEFT's own format (only with LoRA)
settings.json              settings of the run
items.json                 item tokens in the order of their ids
other.json, .safetensors   what RecBole calls other parameters (only where a model has some)
probe.json, .safetensors   scores of fixed rows, compared after loading
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from recbole_hellm.checkpoints.adapter import FOLDER, AdapterPlan, join, read_adapter, split, write_adapter
from recbole_hellm.checkpoints.folders import read_manifest, write_folder
from recbole_hellm.checkpoints.identity import Identity
from recbole_hellm.checkpoints.migration import FORMAT, migrated
from recbole_hellm.checkpoints.packing import Packer, Unpacker
from recbole_hellm.errors import ArtifactError, HellmError


@dataclass(frozen=True)
class ModelCheckpoint:
    """What a model folder holds.

    Attributes:
        state: The model's state.
        other: RecBole's other parameters by name.
        settings: Settings of the run.
        probe: Rows and their scores, see :mod:`recbole_hellm.checkpoints.probe`; ``None`` where it had none.
        about: Anything plain that was noted with it (epoch, step, best score, versions).
        identity: What it belongs to, as plain values.
        items: Item tokens in the order of their ids.
    """

    state: Mapping[str, Tensor]
    other: Mapping[str, Any]
    settings: Mapping[str, Any]
    probe: Mapping[str, Any] | None
    about: Mapping[str, Any]
    identity: Mapping[str, Any]
    items: tuple[str, ...]
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further packed values by file stem, such as the state of a training."""


def write_model(
    target: Path,
    checkpoint: ModelCheckpoint,
    identity: Identity,
    adapter: AdapterPlan | None = None,
    way_out: str = "free space there, or set checkpoint_dir to another folder",
) -> None:
    """Write a model folder in one step; :class:`ModelCheckpoint` says what is in it.

    Args:
        target: The folder; an older one is replaced.
        checkpoint: What it shall hold; its ``identity`` and ``items`` are taken from ``identity``.
        identity: What the model belongs to.
        adapter: What PEFT has to know of the LoRA part; needed if the state has one.
        way_out: What a user can do if it cannot be written.

    Raises:
        ArtifactError: If it cannot be written, or a value cannot be saved safely.
    """

    def fill(folder: Path) -> None:
        rest, lora = split(checkpoint.state, adapter.root) if adapter is not None else (dict(checkpoint.state), {})
        _save(rest, folder / "model.safetensors")
        if adapter is not None:
            write_adapter(folder / FOLDER, {key: _plain(tensor) for key, tensor in lora.items()}, adapter)
        _dump(dict(checkpoint.settings), folder / "settings.json")
        _dump(list(identity.items), folder / "items.json")
        parts = {"other": checkpoint.other or None, "probe": checkpoint.probe, **checkpoint.extra}
        for stem, value in parts.items():
            if value is not None:
                write_packed(folder, stem, value)

    about = dict(checkpoint.about) | ({"adapter_root": adapter.root} if adapter is not None else {})
    write_folder(target, {"format": FORMAT, "identity": identity.document(), "about": about}, fill, way_out)


def read_model(folder: Path, extra: tuple[str, ...] = ()) -> ModelCheckpoint:
    """Return what a model folder holds, after checking its format and the digest of every file.

    Args:
        folder: The checkpoint.
        extra: File stems of further packed values to read.

    Raises:
        ArtifactError: If something is missing, damaged, or of a version that cannot be read.
    """
    manifest = read_manifest(folder)
    try:
        return _read(folder, migrated(folder, manifest), extra)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        if isinstance(error, HellmError):
            raise
        raise ArtifactError(f"{folder} is no whole checkpoint ({error!r})") from error  # its digests fit all the same


def _read(folder: Path, manifest: Mapping[str, Any], extra: tuple[str, ...]) -> ModelCheckpoint:
    tensors = load_tensors(folder / "model.safetensors")
    if (folder / FOLDER).is_dir():
        adapter = read_adapter(folder / FOLDER)
        tensors |= join(adapter, manifest["about"].get("adapter_root", ""))
    settings, items = load_json(folder / "settings.json"), load_json(folder / "items.json")
    there = manifest["files"]
    parts = {"settings.json": settings, "about": manifest["about"], "identity": manifest["identity"]}
    for name, value, kind in (*((name, value, dict) for name, value in parts.items()), ("items.json", items, list)):
        if not isinstance(value, kind):
            raise ArtifactError(f"{folder}: {name} must hold a {kind.__name__}, got a {type(value).__name__}")
    return ModelCheckpoint(
        state=tensors,
        other=read_packed(folder, "other") if "other.json" in there else {},
        settings=settings,
        probe=read_packed(folder, "probe") if "probe.json" in there else None,
        about=manifest["about"],
        identity=manifest["identity"],
        items=tuple(items),
        extra={stem: read_packed(folder, stem) for stem in extra if f"{stem}.json" in there},
    )


def apply_model(folder: Path, checkpoint: ModelCheckpoint, model: nn.Module, load: Callable[[], None]) -> None:
    """Put a state into a model and make sure that it arrived.

    Args:
        folder: The checkpoint, for messages.
        checkpoint: What it holds.
        model: Gets the state.
        load: Does the loading (the model's own way).

    Raises:
        ArtifactError: Naming missing and unknown keys, tensors of another shape, or what did not arrive.
    """
    wanted, there = model.state_dict(), checkpoint.state
    missing, unknown = sorted(set(wanted) - set(there)), sorted(set(there) - set(wanted))
    if missing or unknown:
        raise ArtifactError(
            f"{folder} does not fit the model: it lacks {missing[:3]} and has the unknown {unknown[:3]}"
        )
    for key, tensor in wanted.items():
        if tensor.shape != there[key].shape or tensor.dtype != there[key].dtype:
            raise ArtifactError(
                f"{folder} does not fit the model: {key} is {_shape(there[key])}, the model has {_shape(tensor)}"
            )
    load()
    after = model.state_dict()
    lost = [key for key, tensor in there.items() if not _same(after[key], tensor)]
    if lost:
        raise ArtifactError(f"{folder} was not loaded: {lost[0]} of the model is not what the file holds")


def write_packed(folder: Path, stem: str, value: Any) -> None:
    """Write ``<stem>.json`` and, if the value has tensors, ``<stem>.safetensors``."""
    packer = Packer()
    _dump(packer.pack(value, stem), folder / f"{stem}.json")
    if packer.tensors:
        save_file(packer.tensors, folder / f"{stem}.safetensors")


def read_packed(folder: Path, stem: str) -> Any:
    """Return what :func:`write_packed` wrote.

    Raises:
        ArtifactError: If a file is missing or damaged.
    """
    side = folder / f"{stem}.safetensors"
    tensors = load_tensors(side) if side.is_file() else {}
    return Unpacker(tensors, str(folder / f"{stem}.json")).unpack(load_json(folder / f"{stem}.json"))


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file.

    Raises:
        ArtifactError: If it cannot be read.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{path} cannot be read ({error})") from error


def load_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        ArtifactError: If it cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} cannot be read ({error})") from error


def _dump(value: Any, path: Path) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=isinstance(value, dict)), encoding="utf-8")


def _save(tensors: Mapping[str, Tensor], path: Path) -> None:
    save_file({key: _plain(tensor) for key, tensor in tensors.items()}, path)


def _plain(tensor: Tensor) -> Tensor:
    # A copy: safetensors refuses two names for one memory, which a tied or expanded tensor is.
    return tensor.detach().to("cpu", copy=True).contiguous()


def _same(one: Tensor, other: Tensor) -> bool:
    here, there = one.detach().cpu().contiguous(), other.detach().cpu().contiguous()
    if here.shape != there.shape or here.dtype != there.dtype:
        return False
    return bool(((here == there) | ((here != here) & (there != there))).all())


def _shape(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
