"""Where the time goes: the ten operators that take the most of stage 1, stage 2 and ranking, as markdown.

``python -m benchmarks.profile`` writes them into ``docs/performance.md`` between their markers.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

from torch.profiler import ProfilerActivity, profile

from benchmarks.child import in_child
from benchmarks.data import Skipped, find_data, settings
from benchmarks.inputs import Stage1Inputs, stage1_file
from benchmarks.options import ROOT, Options, add_arguments, from_arguments
from benchmarks.stage1_steps import record_steps, stage1
from benchmarks.table import write_between

TOP = 10
PARTS = ("stage 1", "stage 2", "ranking")


def main(argv: Sequence[str] | None = None) -> int:
    """Profile each part in a process of its own."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__)
    add_arguments(parser)
    options = from_arguments(parser.parse_args(argv))
    try:
        text = "\n\n".join(profiled(part, options) for part in PARTS)
    except Skipped as reason:
        print(f"nothing profiled: {reason}", file=sys.stderr)
        return 1
    print(text)
    if not options.quick:
        write_between(ROOT / "docs" / "performance.md", "profile", text)
    return 0


def profiled(part: str, options: Options) -> str:
    """Return the table of one part."""
    name = {"stage 1": "amazon-sports"}.get(part, "amazon-toys")
    data = find_data(name, options)
    arguments: dict[str, Any] = {"dataset": data.name, "settings": settings(data, options), "seed": options.seed}
    if part == "stage 1":
        from benchmarks.stage1 import stage1_settings

        arguments = {
            "path": str(stage1_file(data, options)),
            "settings": stage1_settings(data, options),
            "seed": options.seed,
        }
    function = part.replace(" ", "")
    found = in_child(f"benchmarks.profile:profile_{function}", **arguments)
    return table(f"{part}, {data.name}, {found['what']}", found["rows"], found["total_ms"])


def table(title: str, rows: list[dict[str, Any]], total_ms: float) -> str:
    """Return operators by their own time as markdown."""
    lines = [f"**{title}**: {total_ms / 1000:.2f} s of operators", "", "| operator | own time | share | calls |",
             "|---|---|---|---|"]  # fmt: skip
    lines += [f"| `{r['name']}` | {r['ms']:.0f} ms | {100 * r['ms'] / total_ms:.0f} % | {r['calls']} |" for r in rows]
    return "\n".join(lines)


def operators(work: Callable[[], Any], what: str) -> dict[str, Any]:
    """Return the operators that take the most time of a call, their own time without what they call."""
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        work()
    return summary(recorded, what)


def summary(recorded: profile, what: str) -> dict[str, Any]:
    """Return the largest operators of a recording."""
    found = sorted(recorded.key_averages(), key=lambda event: -event.self_cpu_time_total)
    rows = [{"name": e.key, "ms": e.self_cpu_time_total / 1000, "calls": e.count} for e in found[:TOP]]
    return {"what": what, "rows": rows, "total_ms": sum(event.self_cpu_time_total for event in found) / 1000}


def profile_stage1(path: str, settings: dict[str, Any], seed: int, n_batches: int = 12) -> dict[str, Any]:
    """Profile some batches of stage 1; the graphs are built before."""
    from recbole_hellm.config.specs import GraphSpec, PretrainSpec

    train = stage1(Stage1Inputs.load(path), GraphSpec.from_config(settings), PretrainSpec.from_config(settings), seed)
    recorder = profile(activities=[ProfilerActivity.CPU])

    def watch(steps: Any) -> bool:
        if len(steps.started) == 2:  # the first batch makes what is made once
            recorder.start()
        return len(steps.started) >= 2 + n_batches

    steps = record_steps(train, watch)
    recorder.stop()
    return summary(recorder, f"{n_batches} batches of {max(steps.interactions)}")


def profile_stage2(dataset: str, settings: dict[str, Any], seed: int, n_users: int = 640) -> dict[str, Any]:
    """Profile an epoch of stage 2 over some users."""
    from benchmarks.models import build_hellm, only_users

    fast = build_hellm(dataset, settings, seed)
    train = only_users(fast.train, n_users, seed)
    fast.trainer._train_epoch(train, 0)
    return operators(lambda: fast.trainer._train_epoch(train, 1), f"an epoch over {n_users} users")


def profile_ranking(dataset: str, settings: dict[str, Any], seed: int, n_users: int = 4096) -> dict[str, Any]:
    """Profile the evaluation of some users."""
    from benchmarks.models import build_hellm, only_users

    fast = build_hellm(dataset, settings, seed)
    test = only_users(fast.test, n_users, seed)
    fast.trainer.evaluate(only_users(fast.test, 64, seed), load_best_model=False)
    return operators(lambda: fast.trainer.evaluate(test, load_best_model=False), f"{n_users} users")


if __name__ == "__main__":
    sys.exit(main())
