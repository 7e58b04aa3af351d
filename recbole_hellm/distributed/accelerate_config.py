"""What ``accelerate launch --config_file`` asks for: taken where a run does it, refused by name where it does not.

``accelerate launch`` hands a config over in environment variables, which Accelerate's ``Accelerator`` would read. Names
and defaults are those of accelerate 1.15 (``accelerate/utils/launch.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from recbole_hellm.errors import ConfigError

WAY_OUT = "'recbole-hellm accelerate' lists the configs that work here"


@dataclass(frozen=True)
class _Rule:
    """A key of the config that can be had in some ways only."""

    key: str
    """As it stands in the config."""
    variable: str
    """Where ``accelerate launch`` puts it."""
    taken: tuple[str, ...]
    """Values a run does what is meant by, in lower case; a variable that is not set is one as well."""
    instead: str
    """What to write, and why."""


_ALWAYS = (
    _Rule("distributed_type: DEEPSPEED", "ACCELERATE_USE_DEEPSPEED", ("false",),
          "a large frozen language model is split by FSDP2: take fsdp2.yaml"),
    _Rule("distributed_type: MEGATRON_LM", "ACCELERATE_USE_MEGATRON_LM", ("false",),
          "a large frozen language model is split by FSDP2: take fsdp2.yaml"),
    _Rule("parallelism_config", "ACCELERATE_USE_PARALLELISM_CONFIG", ("false",), "remove it"),
    _Rule("mixed_precision", "ACCELERATE_MIXED_PRECISION", ("no",),
          "write mixed_precision: 'no', and set llm_precision of the run to auto, bf16 or fp32"),
    _Rule("dynamo_backend", "ACCELERATE_DYNAMO_BACKEND", ("no",), "nothing is compiled here: write dynamo_config: {}"),
)  # fmt: skip
_FSDP = (
    _Rule("fsdp_version", "FSDP_VERSION", ("2",), "write fsdp_version: 2"),
    _Rule("fsdp_reshard_after_forward", "FSDP_RESHARD_AFTER_FORWARD", ("true",),
          "a matrix is whole only while it is used: write true"),
    _Rule("fsdp_offload_params", "FSDP_OFFLOAD_PARAMS", ("false",), "shares stay on their device: write false"),
    # transformers would leave the weights of all but the first process empty, for FSDP to fill.
    _Rule("fsdp_cpu_ram_efficient_loading", "FSDP_CPU_RAM_EFFICIENT_LOADING", ("false",),
          "every process reads the model itself: write false, which is not accelerate's default"),
    _Rule("fsdp_auto_wrap_policy", "FSDP_AUTO_WRAP_POLICY", (),
          "every frozen matrix of a layer is split for itself: remove it"),
    _Rule("fsdp_state_dict_type", "FSDP_STATE_DICT_TYPE", ("full_state_dict",),
          "what is saved is whole on every process: remove it"),
    _Rule("fsdp_activation_checkpointing", "FSDP_ACTIVATION_CHECKPOINTING", ("false",),
          "write false, and set llm_gradient_checkpointing of the run"),
    _Rule("fsdp_activation_checkpointing_offload", "FSDP_ACTIVATION_CHECKPOINTING_OFFLOAD", ("false",), "write false"),
    _Rule("fsdp_ignored_modules", "FSDP_IGNORED_MODULES", (), "what is trained stays whole as it is: remove it"),
)  # fmt: skip


def launched_settings(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings that the config given to ``accelerate launch`` stands for; none without it.

    Args:
        environment: Of this process.

    Raises:
        ConfigError: If it asks for what a run does not do.
    """
    # Accelerate's starter for one process sets an address where the config has more: they would come from mpirun.
    if {"ACCELERATE_USE_CPU", "MASTER_ADDR"} <= environment.keys() and "LOCAL_RANK" not in environment:
        raise ConfigError(
            "accelerate launch has started one process of a config with several (distributed_type MULTI_CPU or NO): "
            "write distributed_type: MULTI_GPU, also for processors, as cpu-2.yaml; if it says one process, a "
            "MASTER_ADDR of the shell looks the same: unset it; " + WAY_OUT
        )
    sharded = environment.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    for rule in (*_ALWAYS, *(_FSDP if sharded else ())):
        value = environment.get(rule.variable)
        if value is not None and value.lower() not in rule.taken:
            had = "" if ":" in rule.key else f" = {value.lower()}"
            raise ConfigError(f"accelerate config: {rule.key!r}{had} is not for this run; {rule.instead}; {WAY_OUT}")
    return {"llm_sharded": True} if sharded else {}
