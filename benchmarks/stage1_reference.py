"""Stage 1 alone on Toys: the time to the published level, the epoch chosen on validation, the test read once."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.child import in_child, measured
from benchmarks.data import find_data, settings
from benchmarks.fragment import Fragment, fingerprint, run_alone
from benchmarks.options import Options
from benchmarks.targets import keys_of

KEY = "stage1_minutes_to_reference_toys"
REFERENCE = {"recall@20": 0.0786, "ndcg@20": 0.0319}
"""MMHCL (arXiv 2504.16576) on Amazon Toys: history masked, all items ranked."""


def measure(options: Options) -> Fragment:
    """Train MMHCL with default settings and both modalities from an empty stage cache; the clock runs to the end."""
    data = find_data("amazon-toys", options)
    chosen = settings(data, options, valid_metric="NDCG@20", mask_history="yes",
                      stage_cache_dir=str(options.scratch / "reference-stages" / str(time.time_ns())))  # fmt: skip
    found = in_child("benchmarks.stage1_reference:train", dataset=data.name, settings=chosen)
    details = {"data": data.name, "data_sha256": fingerprint(data), "reference": REFERENCE, **found}
    fragment = Fragment(details=details)
    test = found["result"]["test"]
    if all(test[name] >= value for name, value in REFERENCE.items()) or options.quick:
        fragment.keys[KEY] = found["seconds"] / 60
    else:
        values = ", ".join(f"{name} {test[name]:.4f} (reference {value:.4f})" for name, value in REFERENCE.items())
        fragment.missing(KEY, f"reference not reached: {values} after {found['seconds'] / 60:.1f} minutes")
    return fragment


def train(dataset: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Return seconds of the whole run (data, features, graphs, training, validations, test) and what it reached."""
    from recbole_hellm.quick_start import run_recbole_hellm

    def work() -> dict[str, Any]:
        out = run_recbole_hellm("MMHCL", dataset, config_dict=settings)
        records = out["trainer"].epoch_records
        return {
            "test": dict(out["test_result"]),
            "valid": dict(out["best_valid_result"]),
            "best_epoch": out["best_epoch"],
            "epochs": len(records),
            "training_seconds_to_best": sum(r.seconds for r in records if r.epoch <= out["best_epoch"]),
            "training_seconds": sum(record.seconds for record in records),
            "stages": [{key: part[key] for key in ("name", "seconds", "peak_memory_mb")} for part in out["stages"]],
            "curve": [{"epoch": r.epoch, "loss": r.loss, "valid": r.valid} for r in records if r.valid],
        }

    return measured(work)


if __name__ == "__main__":
    run_alone(measure, keys_of("stage1_reference"), str(__doc__))
