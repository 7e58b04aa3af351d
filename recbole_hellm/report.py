"""What a run prints at its end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def metrics_table(result: Mapping[str, Any]) -> str:
    """Return validation and test metrics as a small text table, with what they mean below.

    Args:
        result: What ``run_recbole_hellm`` returns.
    """
    config, valid, test = result["config"], result["best_valid_result"] or {}, result["test_result"]
    alone = result.get("test_result_without_fusion")
    lines = [
        "",
        f"{config['model']} on {config['dataset']}, seed {config['seed']}",
        f"{'metric':<14}{'validation':>12}{'test':>12}" + (f"{'without fusion':>16}" if alone else ""),
    ]
    for name, value in test.items():
        before = f"{valid[name]:.4f}" if name in valid else "-"
        lines.append(f"{name:<14}{before:>12}{value:>12.4f}" + (f"{alone[name]:>16.4f}" if alone else ""))
    lines.append(f"chosen on validation ({config['valid_metric']}), test read once; details: {result['result_file']}")
    return "\n".join(lines)
