"""The flat keys of the result file, what each of them should be, and the measurement that gives it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """One line of the table."""

    key: str
    what: str
    bound: float
    """The target: at least so much, or at most where ``most``."""
    unit: str
    measurement: str
    most: bool = False

    def met(self, value: float | None) -> bool | None:
        """Return whether a value meets the target; ``None`` if there is no value."""
        if value is None:
            return None
        return value <= self.bound if self.most else value >= self.bound

    @property
    def rule(self) -> str:
        """The target in words."""
        return f"{'<=' if self.most else '>='} {self.bound:g} {self.unit}".rstrip()


TARGETS = (
    Target("graph_time_ratio", "both hypergraphs of Sports: dense time over ours", 50, "x", "graphs"),
    Target("graph_memory_ratio", "both hypergraphs of Sports: dense memory over ours", 20, "x", "graphs"),
    Target("graph_seconds", "both hypergraphs of Sports", 10, "s", "graphs", most=True),
    Target("graph_megabytes", "both hypergraphs of Sports, above the data", 500, "MB", "graphs", most=True),
    Target("stage1_epoch_seconds", "one epoch of stage 1 on Sports", 20, "s", "stage1", most=True),
    Target("stage1_epoch_ratio", "plain epoch of stage 1 over ours", 10, "x", "stage1"),
    Target("stage1_minutes_to_reference_toys", "stage 1 alone on Toys to test R@20 .0786, N@20 .0319", 30, "min",
           "stage1_reference", most=True),
    Target("stage2_samples_ratio", "training samples per second of stage 2 on Toys, ours over plain", 5, "x", "stage2"),
    Target("stage2_peak_share", "share of the machine's bf16 matrix rate that stage 2 reaches", 0.5, "", "stage2"),
    Target("ranking_users_ratio", "users ranked per second with metrics on Toys, ours over plain", 30, "x", "ranking"),
    Target("toys_total_minutes", "`--model=HeLLM --dataset=amazon-toys`, all stages", 60, "min", "toys", most=True),
    Target("startup_seconds", "start of the process to the first step of stage 2, stages cached", 20, "s", "toys",
           most=True),
    Target("scale_graph_minutes", "graphs of 1,000,000 users, 200,000 items, 10 million events", 5, "min", "scale",
           most=True),
    Target("scale_graph_gb", "the same, peak memory above the data", 10, "GB", "scale", most=True),
    Target("scale_stage1_cost_ratio", "stage 1 per interaction there over the 10 times smaller set", 1.5, "x", "scale",
           most=True),
)  # fmt: skip

MEASUREMENTS = tuple(dict.fromkeys(target.measurement for target in TARGETS))
"""Modules of this package, in the order they run."""


def keys_of(measurement: str) -> dict[str, str]:
    """Return the flat keys of a measurement and what they say."""
    return {target.key: target.what for target in TARGETS if target.measurement == measurement}
