"""What a report says in sentences: the protocol, and what a table shows."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from recbole_hellm.benchmark.comparison import Comparison, Row
from recbole_hellm.benchmark.one_table import SELECTED
from recbole_hellm.benchmark.wording import NONE, PROTOCOL, listed, number, percent, protocol_entries, ranked, unranked

_TARGETS = {
    "valid_and_test": "leave one out: each user's last item tests, the one before validates",
    "valid_only": "leave one out: each user's last item validates, nothing tests",
    "test_only": "leave one out: each user's last item tests, nothing validates",
}
_ORDERS = {"TO": "in order of time", "RO": "in random order"}


def protocol_sentences(rows: Sequence[Row]) -> list[str]:
    """Say the protocol of some rows in plain words; where rows differ, who has what."""
    history = {True: "masked: a user's past items leave the ranking", False: "kept: past items stay in the ranking"}
    said: tuple[tuple[str, Callable[[Mapping[str, Any]], str]], ...] = (
        ("Split", lambda p: _split(p["split"])),
        ("History", lambda p: history[bool(p["history_masked"])]),
        ("Fitted on", lambda p: str(p["fitted_on"])),
        ("Epoch chosen on", lambda p: SELECTED[p["selected_on"]]),
        ("Training time per cell", _minutes),
        ("Loss", lambda p: str(p.get("loss") or "the model's own")),
        ("Longest history a model reads", lambda p: _length(p.get("max_length"))),
    )
    sentences = []
    for name, words in said:
        holders: dict[str, list[str]] = {}
        for row in rows:
            holders.setdefault(words(row.protocol), []).append(row.label)
        parts = sorted(holders.items(), key=lambda part: -len(part[1]))
        said_of = [f"{text} ({listed(labels)})" for text, labels in parts[1:]]
        if said_of:
            most = parts[0][1]
            said_of.insert(0, f"{parts[0][0]} ({listed(most) if len(most) == 1 else 'all others'})")
        sentences.append(f"{name}: {'; '.join(said_of) or parts[0][0]}.")
    return sentences


def protocol_line(rows: Sequence[Row]) -> str:
    """Say the protocol of some rows in one line, for a screen that shows no more than a table's first columns."""
    columns = zip(*(protocol_entries(row) for row in rows), strict=True)
    parts = []
    for name, entries in zip(PROTOCOL, columns, strict=True):
        known = [entry for entry in dict.fromkeys(text.removesuffix(" †") for text in entries) if entry != NONE]
        parts.append(f"{name.lower()} {' / '.join(known)}" if known else "")
    line = "; ".join(filter(None, parts))
    return f"{line[:1].upper()}{line[1:]}."


def in_short(comparison: Comparison, dataset: str) -> list[str]:
    """Say what one data set's table shows; nothing where it has no two models."""
    metric = comparison.metric
    every = [row for row in comparison.rows if row.dataset == dataset]
    rows = sorted(ranked(comparison, every), key=lambda row: -row.mean[metric])
    if len(rows) < 2:
        return []
    best = number(rows[0].mean[metric])
    first = [row for row in rows if number(row.mean[metric]) == best]  # two numbers that print alike share a place
    who = f"{listed([row.label for row in first])} {'has' if len(first) == 1 else 'have'} the highest {metric}"
    said = f"{who}, {best} on test"
    if len(first) < len(rows):
        second = rows[len(first)]
        low = second.mean[metric]
        ahead = f", {percent(first[-1].mean[metric] / low - 1)} above" if low else ", before"
        said += f"{ahead} {second.label} ({number(low)})"
    sentences = [f"{said}."]
    tested = [result for result in comparison.tests.get((dataset, metric), ()) if not result.reason]
    better = [result.other for result in tested if result.significant]
    others = [result.other for result in tested if not result.significant]
    if better:
        sentences.append(f"{comparison.against[dataset]} is significantly better than {listed(better)}.")
    if others:
        sentences.append(f"Not shown: that {comparison.against[dataset]} is better than {listed(others)}.")
    return [*sentences, *filter(None, [unranked(comparison, every)])]


def method(comparison: Comparison, dataset: str) -> list[str]:
    """Say how the rows of one data set were made and what is tested."""
    rows = [row for row in comparison.rows if row.dataset == dataset]
    variants = [row for row in comparison.ablation_rows if row.dataset == dataset]
    sentences = protocol_sentences(rows or variants)
    against, reason = comparison.against.get(dataset), comparison.against_reason.get(dataset)
    if reason:
        sentences.append(f"Tested against the others: {f'{against}; ' if against else 'none; '}{reason}.")
    return sentences


def _minutes(protocol: Mapping[str, Any]) -> str:
    minutes = protocol.get("minutes")
    if minutes is None:
        return "no limit"
    refit = ", the second fit on train+valid not counted" if protocol["fitted_on"] == "train+valid" else ""
    return f"no epoch starts that would end after {minutes:g} minutes, stages included{refit}"


def _length(length: int | None) -> str:
    return "the model's own" if length is None else f"{length} items"


def _split(split: Mapping[str, Any]) -> str:
    """Say RecBole's ``eval_args``; what this does not know stays as it is."""
    parts = []
    kinds = split.get("split")
    for kind, value in (kinds if isinstance(kinds, Mapping) else {}).items():
        if kind == "LS" and str(value) in _TARGETS:
            parts.append(_TARGETS[str(value)])
        elif kind == "RS" and isinstance(value, Sequence):
            parts.append("shares " + " / ".join(map(str, value)))
        else:
            parts.append(f"{kind} {json.dumps(value)}")
    order = split.get("order")
    parts.append(_ORDERS.get(str(order), f"order {order}"))
    mode = split.get("mode")
    modes = sorted({str(m) for m in (mode.values() if isinstance(mode, Mapping) else [mode])})
    parts.append("every item of the catalogue is ranked" if modes == ["full"] else f"ranked among {', '.join(modes)}")
    return "; ".join(parts)
