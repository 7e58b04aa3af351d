"""Where bf16 matrix products pay: elsewhere a processor emulates them, tens of times slower."""

import torch


def use_bf16(precision: str, device: torch.device) -> bool:
    """Return whether to autocast to bf16.

    Args:
        precision: ``"bf16"``, ``"fp32"``, or ``"auto"``: bf16 where the processor multiplies it natively.
        device: Where the model runs.
    """
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return device.type == "cpu" and any(
        bool(probe()) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
        if (probe := getattr(torch.cpu, name, None)) is not None
    )  # fmt: skip
