"""The settings a search may choose, and how a plan writes them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol

from recbole_hellm.errors import ConfigError, nearest

RANGES = ("uniform", "log", "int", "int_log")
"""Kinds of a range: any number, any number evenly by its logarithm, whole numbers, whole numbers by logarithm."""
MOST_POINTS = 1000
"""Of a grid; a larger one is a mistake."""


class Suggester(Protocol):
    """What chooses values: one trial of Optuna, or :class:`RandomChoice`."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...  # noqa: D102

    def suggest_float(  # noqa: D102
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float: ...

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int: ...  # noqa: D102


@dataclass(frozen=True)
class RandomChoice:
    """Choose evenly and without memory, to look at a space before anything runs."""

    random: Random

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Return one of ``choices``."""
        return self.random.choice(choices)

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Return a number in ``[low, high]``."""
        if log:
            return min(high, math.exp(self.random.uniform(math.log(low), math.log(high))))
        return low + step * self.random.randint(0, steps(low, high, step)) if step else self.random.uniform(low, high)

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Return a whole number in ``[low, high]``."""
        return low + step * self.random.randint(0, (high - low) // step)


@dataclass(frozen=True)
class Domain:
    """The values one setting may take."""

    key: str
    kind: str
    """``choice``, or one of :data:`RANGES`."""
    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    step: float | None = None
    when: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """The setting is chosen only where these others have one of these values."""

    def applies(self, chosen: Mapping[str, Any]) -> bool:
        """Tell whether the setting is chosen, given those before it."""
        return all(key in chosen and _in(chosen[key], allowed) for key, allowed in self.when.items())

    def suggest(self, by: Suggester) -> Any:
        """Return one value."""
        if self.kind == "choice":
            return unlabelled(self, by.suggest_categorical(self.key, [label(value) for value in self.choices]))
        if self.kind in ("int", "int_log"):
            log = self.kind == "int_log"
            return by.suggest_int(self.key, int(self.low), int(self.high), step=int(self.step or 1), log=log)
        return by.suggest_float(self.key, self.low, self.high, step=self.step, log=self.kind == "log")

    def ends(self) -> tuple[Any, ...]:
        """Return every choice, or the two ends of a range."""
        if self.kind == "choice":
            return self.choices
        return (int(self.low), int(self.high)) if self.kind in ("int", "int_log") else (self.low, self.high)

    def points(self) -> list[Any]:
        """Return every value of a finite domain.

        Raises:
            ConfigError: If there are infinitely many.
        """
        if self.kind == "choice":
            return list(self.choices)
        if self.kind == "int" or (self.kind == "uniform" and self.step):
            step = self.step or 1
            found = [self.low + step * place for place in range(steps(self.low, self.high, step) + 1)]
            return [int(value) if self.kind == "int" else round(value, 12) for value in found]
        way_out = "add 'step:'" if self.kind == "uniform" else "list its values"
        raise ConfigError(f"space: {self.key}: a grid needs single values, got a range ({self.kind}); {way_out}")


def steps(low: float, high: float, step: float) -> int:
    """Return how often ``step`` fits between two ends."""
    return math.floor((high - low) / step + 1e-9)


def label(value: Any) -> bool | int | float | str | None:
    """Return a choice as Optuna can store it: lists and mappings as JSON."""
    return value if value is None or isinstance(value, bool | int | float | str) else json.dumps(value, sort_keys=True)


def unlabelled(domain: Domain, stored: Any) -> Any:
    """Return the choice that :func:`label` made ``stored`` of."""
    return next(value for value in domain.choices if _in(stored, (label(value),)))


def choose(space: Sequence[Domain], by: Suggester) -> dict[str, Any]:
    """Return a value for every setting that applies, each after those its condition names."""
    chosen: dict[str, Any] = {}
    for domain in space:
        if domain.applies(chosen):
            chosen[domain.key] = domain.suggest(by)
    return chosen


def grid(space: Sequence[Domain]) -> list[dict[str, Any]]:
    """Return every combination of a finite space; a setting stands only where it applies.

    Raises:
        ConfigError: If a setting has infinitely many values, or there are too many combinations.
    """
    combinations: list[dict[str, Any]] = [{}]
    for domain in space:
        values, longer = domain.points(), []
        for chosen in combinations:
            longer += [{**chosen, domain.key: value} for value in values] if domain.applies(chosen) else [chosen]
        if len(longer) > MOST_POINTS:
            raise ConfigError(f"space: a grid of more than {MOST_POINTS} combinations; take sampler tpe or random")
        combinations = longer
    return combinations


def parse_space(raw: Any) -> tuple[Domain, ...]:
    """Read the ``space`` of a plan.

    Raises:
        ConfigError: Naming the setting, what is wrong and the way out.
    """
    if not isinstance(raw, Mapping) or not raw:
        raise ConfigError(f"'space' must hold 'setting: values' lines, such as llm_layers: [1, 2, 4], got {raw!r}")
    domains: list[Domain] = []
    for key, value in raw.items():
        domains.append(_domain(str(key), value, domains))
    return tuple(domains)


def _domain(key: str, raw: Any, before: Sequence[Domain]) -> Domain:
    if isinstance(raw, list):
        return _choice(key, raw, {})
    if not isinstance(raw, Mapping):
        raise ConfigError(
            f"space: {key}: must be a list of values or a range such as {{log: [1e-4, 1e-2]}}, got {raw!r}; a setting "
            "with one value belongs into 'settings'"
        )
    kinds = ("choice", *RANGES)
    unknown = [str(name) for name in raw if name not in (*kinds, "step", "when")]
    if unknown:
        known = ", ".join((*kinds, "step", "when"))
        raise ConfigError(f"space: {key}: unknown key {unknown[0]!r}{nearest(unknown[0], kinds)}; known: {known}")
    given = [name for name in raw if name in kinds]
    if len(given) != 1:
        raise ConfigError(f"space: {key}: needs one of {', '.join(kinds)}, got {', '.join(given) or 'none'}")
    when = _when(key, raw["when"], before) if "when" in raw else {}
    if given[0] == "choice":
        if "step" in raw:
            raise ConfigError(f"space: {key}: 'step' belongs to uniform and int, not to a choice; take it out")
        return _choice(key, raw["choice"], when)
    return _range(key, str(given[0]), raw[given[0]], raw.get("step"), when)


def _choice(key: str, values: Any, when: Mapping[str, tuple[Any, ...]]) -> Domain:
    if not isinstance(values, list) or len(values) < 2:
        raise ConfigError(f"space: {key}: needs at least 2 values to choose from, got {values!r}")
    labels = [label(value) for value in values]
    twice = [value for place, value in enumerate(labels) if _in(value, labels[:place])]
    if twice:
        raise ConfigError(f"space: {key}: {twice[0]!r} stands twice; name it once")
    return Domain(key, "choice", tuple(values), when=when)


def _range(key: str, kind: str, ends: Any, step: Any, when: Mapping[str, tuple[Any, ...]]) -> Domain:
    whole = kind in ("int", "int_log")
    numbers = (int,) if whole else (int, float)
    what = "two whole numbers" if whole else "two numbers"
    if not isinstance(ends, list) or len(ends) != 2 or not all(type(end) in numbers for end in ends):
        raise ConfigError(f"space: {key}: {kind} needs {what}, such as {{{kind}: [1, 8]}}, got {ends!r}")
    low, high = ends
    if not low < high or not all(map(math.isfinite, ends)):
        raise ConfigError(f"space: {key}: {kind} needs a low and then a higher end, got {ends!r}")
    if kind in ("log", "int_log") and low <= 0:
        raise ConfigError(
            f"space: {key}: {kind} needs ends above 0, got {ends!r}; take {'int' if whole else 'uniform'}"
        )
    if step is not None and (kind in ("log", "int_log") or type(step) not in numbers or not 0 < step <= high - low):
        raise ConfigError(
            f"space: {key}: 'step' must be a {'whole ' if whole else ''}number in (0, {high - low:g}] with uniform or "
            f"int, got {step!r} with {kind}"
        )
    return Domain(key, kind, (), float(low), float(high), None if step is None else float(step), when)


def _when(key: str, raw: Any, before: Sequence[Domain]) -> dict[str, tuple[Any, ...]]:
    names = [domain.key for domain in before]
    if not isinstance(raw, Mapping) or not raw:
        raise ConfigError(f"space: {key}: 'when' must name a setting and its values, such as {{lora_r: [8, 16]}}")
    conditions = {}
    for other, values in raw.items():
        if other not in names:
            raise ConfigError(
                f"space: {key}: 'when' names {other!r}{nearest(str(other), names)}, which must stand above it in the "
                f"space; there: {', '.join(names) or 'nothing'}"
            )
        allowed = values if isinstance(values, list) else [values]
        domain = next(domain for domain in before if domain.key == other)
        never = [value for value in allowed if domain.kind == "choice" and not _in(value, domain.choices)]
        if domain.kind != "choice" or never:
            rule = f"{never[0]!r} is none of its choices" if never else "it is a range; a condition needs a choice"
            raise ConfigError(f"space: {key}: 'when' names {other!r}, but {rule}")
        conditions[str(other)] = tuple(allowed)
    return conditions


def _in(value: Any, allowed: Sequence[Any]) -> bool:
    """Tell whether ``value`` is among ``allowed``; unlike for Python, ``True`` is not 1 here."""
    return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in allowed)
