"""Everything a training step changes, taken out of its objects and put back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from recbole_hellm.errors import ArtifactError


@dataclass
class Parts:
    """Everything a training step changes.

    Attributes:
        modules: Trained modules by name; frozen weights are left out.
        optimizers: By name.
        schedulers: By name.
        generators: Random generators of the loop beside Python's, numpy's and torch's own, by name.
    """

    modules: Mapping[str, nn.Module]
    optimizers: Mapping[str, torch.optim.Optimizer]
    schedulers: Mapping[str, Any] = field(default_factory=dict)
    generators: Mapping[str, torch.Generator] = field(default_factory=dict)


def capture_parts(parts: Parts) -> dict[str, Any]:
    """Return tensors and numbers of all parts, frozen weights left out."""
    modules = {name: _module_state(module) for name, module in parts.modules.items()}
    return {
        "modules": {name: tensors for name, (tensors, _) in modules.items()},
        "numbers": {name: numbers for name, (_, numbers) in modules.items()},
        "optimizers": {name: optimizer.state_dict() for name, optimizer in parts.optimizers.items()},
        "schedulers": {name: scheduler.state_dict() for name, scheduler in parts.schedulers.items()},
    }


def restore_parts(parts: Parts, state: Mapping[str, Any]) -> None:
    """Put back what :func:`capture_parts` gave.

    Raises:
        ArtifactError: If a part is missing on either side, or a tensor does not fit.
    """
    for kind in ("modules", "optimizers", "schedulers"):
        here, there = set(getattr(parts, kind)), set(state[kind])
        if here != there:
            raise ArtifactError(f"the saved training has the {kind} {sorted(there)}, this one has {sorted(here)}")
    for name, module in parts.modules.items():
        _restore_module(name, module, state["modules"][name], state["numbers"][name])
    for name, optimizer in parts.optimizers.items():
        optimizer.load_state_dict(state["optimizers"][name])
    for name, scheduler in parts.schedulers.items():
        scheduler.load_state_dict(state["schedulers"][name])


def _module_state(module: nn.Module) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Return the tensors of a module, and the plain numbers its parts count with (annealing steps and the like)."""
    frozen = {name for name, weight in module.named_parameters() if not weight.requires_grad}
    # Not the module's own state_dict, which may hold less: what scoring needs.
    tensors = {name: t for name, t in nn.Module.state_dict(module).items() if name not in frozen}
    numbers = {
        name: {key: value for key, value in vars(part).items() if type(value) in (bool, int, float)}
        for name, part in module.named_modules()
    }
    return tensors, {name: found for name, found in numbers.items() if found}


def _restore_module(name: str, module: nn.Module, tensors: Mapping[str, Any], numbers: Mapping[str, Any]) -> None:
    wanted = set(_module_state(module)[0])
    if wanted != set(tensors):
        differ = sorted(wanted ^ set(tensors))[:3]
        raise ArtifactError(f"the saved training does not fit {name}: {differ} are in one of the two only")
    try:
        nn.Module.load_state_dict(module, dict(tensors), strict=False)
    except RuntimeError as error:  # another shape
        raise ArtifactError(f"the saved training does not fit {name}: {' '.join(str(error).split())}") from error
    parts = dict(module.named_modules())
    for part, values in numbers.items():
        for key, value in values.items():
            if part in parts and key in vars(parts[part]):
                setattr(parts[part], key, value)


def check_finite(parts: Parts) -> str | None:
    """Return the name of a trained weight that is NaN or infinite, ``None`` if there is none."""
    for name, module in parts.modules.items():
        for key, weight in module.named_parameters():
            if weight.requires_grad and not bool(torch.isfinite(weight).all()):
                return f"{name}.{key}"
    return None
