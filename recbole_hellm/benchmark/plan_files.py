"""Plans from yaml files and from names, and what the command line changes in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

from recbole_hellm.benchmark.plan import FIRST_SEED, Entry, Plan, Protocol, Reported
from recbole_hellm.config.recbole_config import merged, read_yaml
from recbole_hellm.config.resources import properties_dir
from recbole_hellm.config.schema import convert
from recbole_hellm.errors import ConfigError, nearest

PLAN_KEYS = ("name", "models", "datasets", "seeds", "protocol", "settings", "reported", "imports")
ENTRY_KEYS = ("model", "label", "settings", "datasets")
REPORTED_KEYS = ("model", "dataset", "metrics", "source", "protocol")
MOST_SEEDS = 100
"""A larger number is a seed, not a number of seeds."""


@dataclass(frozen=True)
class Changes:
    """What the command line says of a plan; ``None`` or empty: nothing."""

    models: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    protocol: Mapping[str, Any] = field(default_factory=dict)
    """Fields of :class:`Protocol`."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Run settings of all cells; they win over those of the plan."""


def find_plan(name: str, folder: str = "benchmark") -> Path:
    """Return the file of a plan: a path, or a name in a folder of ``properties``.

    Raises:
        ConfigError: If there is neither; the message has the near name and all known ones.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        return path
    known = {file.stem: file for file in sorted((properties_dir() / folder).glob("*.yaml"))}
    if name not in known:
        raise ConfigError(
            f"unknown plan {name!r}{nearest(name, known)}; known: {', '.join(known)}, or a path to a yaml"
        )
    return known[name]


def load_plan(path: Path, changes: Changes | None = None) -> Plan:
    """Read a plan.

    Args:
        path: Yaml file.
        changes: What the command line says otherwise.

    Raises:
        ConfigError: Naming the file, the key and the rule.
    """
    raw = read_yaml(path)
    try:
        _known(raw, PLAN_KEYS, "plan")
        datasets = convert("datasets", raw.get("datasets"), tuple[str, ...])
        given = {
            "name": convert("name", raw.get("name", path.stem), str),
            "entries": _entries(raw.get("models"), datasets),
            "datasets": datasets,
            "seeds": seeds(raw.get("seeds", 1)),
            "protocol": _protocol(raw.get("protocol") or {}),
            "settings": _mapping("settings", raw.get("settings")),
            "reported": _reported(raw.get("reported"), datasets),
        }
        return Plan(**changed(given, changes or Changes()))
    except ConfigError as error:
        text = str(error)
        prefix = f"plan {raw.get('name', path.stem)}: "
        raise ConfigError(f"plan {path}: {text.removeprefix(prefix)}") from error


def plan_imports(path: Path) -> tuple[str, ...]:
    """Return the modules a plan wants imported before its models are looked up."""
    return tuple(convert("imports", read_yaml(path).get("imports"), tuple[str, ...]))


def plan_from_names(changes: Changes, name: str = "") -> Plan:
    """Return a plan of models and data sets named on the command line.

    Args:
        changes: Models and data sets at least.
        name: Default: ``compare-<data sets>``, so that the same data sets go on in the same results file.
    """
    for key in ("models", "datasets"):
        if not getattr(changes, key):
            raise ConfigError(f"--{key} is required: give --{key}=A,B, or --plan=NAME_OR_PATH")
    given = {"name": name or "-".join(["compare", *changes.datasets]), "entries": (), "datasets": ()}
    return Plan(**changed(given, changes))


def changed(given: Mapping[str, Any], changes: Changes) -> dict[str, Any]:
    """Return the arguments of a plan with what the command line says."""
    plan = dict(given)
    if changes.models:
        plan["entries"] = tuple(entry for name in changes.models for entry in _named(name, plan["entries"]))
    plan["datasets"] = changes.datasets or plan["datasets"]
    plan["seeds"] = changes.seeds or plan.get("seeds", (FIRST_SEED,))
    plan["protocol"] = replace(plan.get("protocol", Protocol()), **changes.protocol)
    plan["overrides"] = merged(plan.get("overrides", {}), changes.settings)
    return plan


def seeds(value: Any) -> tuple[int, ...]:
    """Return the seeds of a number of seeds (``3``: 2020, 2021, 2022) or a list.

    Raises:
        ConfigError: If it is neither.
    """
    rule = f"a number of seeds (1 to {MOST_SEEDS}) or a list of seeds, such as [2020, 2021]"
    if type(value) is int and 1 <= value <= MOST_SEEDS:
        return tuple(range(FIRST_SEED, FIRST_SEED + value))
    if isinstance(value, Sequence) and value and all(type(seed) is int for seed in value):
        return tuple(value)
    raise ConfigError(f"'seeds' must be {rule}, got {value!r}")


def _named(name: str, entries: Sequence[Entry]) -> list[Entry]:
    """Return the entries with a label, else those of a model, else a new one of that model."""
    labelled = [entry for entry in entries if entry.label == name]
    return labelled or [entry for entry in entries if entry.model == name] or [Entry(name)]


def _entries(raw: Any, datasets: Sequence[str]) -> tuple[Entry, ...]:
    if not isinstance(raw, list) or not raw:
        raise ConfigError(f"'models' must be a list of names or of mappings with {', '.join(ENTRY_KEYS)}, got {raw!r}")
    return tuple(_entry(entry, datasets) for entry in raw)


def _entry(raw: Any, datasets: Sequence[str]) -> Entry:
    if isinstance(raw, str):
        return Entry(raw)
    if not isinstance(raw, Mapping) or "model" not in raw:
        raise ConfigError(f"an entry of 'models' must be a name or a mapping with 'model', got {raw!r}")
    model = convert("model", raw["model"], str)
    of = f"models: {raw.get('label') or model}"
    _known(raw, ENTRY_KEYS, of)
    by_dataset = _mapping(f"{of}: datasets", raw.get("datasets"))
    _known(by_dataset, datasets, f"{of}: datasets")
    return Entry(
        model,
        convert(f"{of}: label", raw.get("label"), str),
        _mapping(f"{of}: settings", raw.get("settings")),
        {name: _mapping(f"{of}: datasets: {name}", settings) for name, settings in by_dataset.items()},
    )


def _protocol(raw: Any) -> Protocol:
    _known(_mapping("protocol", raw), Protocol.keys(), "protocol")
    return Protocol.from_config(protocol_words(raw))


def protocol_words(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the switches of a protocol as they are, if none is a word that yaml takes for yes or no.

    Raises:
        ConfigError: Naming the switch and its values.
    """
    hints = get_type_hints(Protocol)
    for key, value in raw.items():
        if isinstance(value, bool):
            words = [repr(word) for part in (hints[key], *get_args(hints[key])) for word in get_args(part)]
            words = [word for word in words if word.startswith("'")]
            rule = f"one of {', '.join(dict.fromkeys(words))}" if words else "a number or none"
            raise ConfigError(f"protocol: {key!r} must be {rule}, got a bare yes/no word (yaml reads it as {value})")
    return raw


def _reported(raw: Any, datasets: Sequence[str]) -> tuple[Reported, ...]:
    rows = convert("reported", raw if raw is not None else [], list)
    return tuple(_reported_row(number, row, datasets) for number, row in enumerate(rows, start=1))


def _reported_row(number: int, raw: Any, datasets: Sequence[str]) -> Reported:
    of = f"reported: row {number}"
    row = _mapping(of, raw)
    _known(row, REPORTED_KEYS, of)
    missing = [key for key in REPORTED_KEYS if not row.get(key)]
    if missing:
        raise ConfigError(f"{of} has no {missing[0]!r}; a number from elsewhere needs {', '.join(REPORTED_KEYS)}")
    metrics = {str(key): convert(f"{of}: {key}", v, float) for key, v in _mapping(of, row["metrics"]).items()}
    _known({row["dataset"]: None}, datasets, f"{of}: dataset")
    wrong = [key for key, value in metrics.items() if key != key.lower() or not 0 <= value <= 1]
    if wrong:
        raise ConfigError(
            f"{of}: metrics must be lower-case names with shares of 1, got {wrong[0]}: {metrics[wrong[0]]}"
        )
    return Reported(
        metrics=metrics, **{key: convert(f"{of}: {key}", row[key], str) for key in REPORTED_KEYS if key != "metrics"}
    )


def _mapping(key: str, value: Any) -> dict[str, Any]:
    if value is not None and not isinstance(value, dict):
        raise ConfigError(f"{key!r} must hold 'key: value' lines, got {value!r}")
    return {str(name): entry for name, entry in (value or {}).items()}


def _known(given: Mapping[Any, Any], known: Sequence[str] | frozenset[str], of: str) -> None:
    wrong = [str(key) for key in given if key not in known]
    if wrong:
        hint = nearest(wrong[0], known)
        raise ConfigError(f"{of}: unknown key {wrong[0]!r}{hint}; known: {', '.join(sorted(known))}")
