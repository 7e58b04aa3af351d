"""What a comparison runs: models, data sets and seeds under one protocol."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from recbole_hellm.artifacts import fingerprint
from recbole_hellm.benchmark.settings import WHERE, misplaced
from recbole_hellm.config.recbole_config import find_model, merged
from recbole_hellm.config.schema import Spec
from recbole_hellm.errors import ConfigError
from recbole_hellm.results import plain

__all__ = ["Cell", "Entry", "Plan", "Protocol", "Reported"]

FORMAT = 1
"""Of a results file's lines."""
FIRST_SEED = 2020
"""Where a number of seeds starts to count; RecBole's default seed."""
DECIMALS = 6
"""Of every metric; with fewer, a report could not check it against the users' own."""


@dataclass(frozen=True)
class Protocol(Spec):
    """The switches that move results more than most models do; the same for all models of a plan."""

    history: Literal["kept", "masked"] = "kept"
    """Whether the items a user already has are ranked too (``kept``)."""
    fitted_on: Literal["train", "train+valid"] = "train"
    """Events the tested model has seen; the epoch is chosen on validation either way."""
    max_length: int | None = None
    """Items of a history; ``None``: each model's own."""
    loss: Literal["CE", "BPR"] | None = None
    """Loss of the models that leave the choice; ``None``: each model's own."""
    minutes: float | None = None
    """Training time of a cell, its stages included; ``None``: no limit."""

    def __post_init__(self) -> None:
        self.require(self.max_length is None or self.max_length > 0, "max_length", "positive")
        self.require(self.minutes is None or self.minutes > 0, "minutes", "positive")

    def settings(self, takes_loss: bool) -> dict[str, Any]:
        """Return the run settings; ``takes_loss``: whether the model leaves the choice of its loss."""
        settings: dict[str, Any] = {
            "mask_history": "yes" if self.history == "masked" else "no",
            "fit_on": self.fitted_on,
            "train_minutes": self.minutes or 0.0,
            "metric_decimal_place": DECIMALS,
        }
        if self.max_length is not None:
            settings["MAX_ITEM_LIST_LENGTH"] = self.max_length
        if self.loss is not None and takes_loss:
            settings["loss_type"] = self.loss
        return settings

    def line(self) -> dict[str, Any]:
        """Return the protocol as a results file has it."""
        return {
            "history_masked": self.history == "masked",
            "fitted_on": self.fitted_on,
            "selected_on": "valid",
            "loss": self.loss,
            "max_length": self.max_length,
            "minutes": self.minutes,
        }


@dataclass(frozen=True)
class Entry:
    """A model of a plan."""

    model: str
    """Name of a model of this package or of RecBole."""
    label: str = ""
    """Name to print; empty: the model's."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Run settings of this model alone."""
    datasets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Further run settings by data set."""
    group: str = "compare"
    """``compare`` or ``ablation``: which part of the report it belongs to."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "label", self.label or self.model)
        if not self.label.strip() or not self.label.isprintable():
            raise ConfigError(
                f"'label' of {self.model} must be one line of text without control characters, got {self.label!r}"
            )


@dataclass(frozen=True)
class Reported:
    """Numbers from elsewhere, printed apart from the measured ones."""

    model: str
    dataset: str
    metrics: Mapping[str, float]
    """By RecBole's lower-case names (``ndcg@10``)."""
    source: str
    """Paper, log or table the numbers come from."""
    protocol: str
    """What is known of mask, fitted events and choice of the epoch."""


@dataclass(frozen=True)
class Cell:
    """One run: a model on a data set with a seed."""

    label: str
    model: str
    dataset: str
    seed: int
    settings: Mapping[str, Any]
    """Run settings of the plan, the protocol's included; without the seed."""
    protocol: Mapping[str, Any]
    """As :meth:`Protocol.line` gives it."""
    group: str = "compare"

    @property
    def key(self) -> str:
        """Sixteen hex digits of what decides the numbers; the label and where files lie do not."""
        settings = {key: value for key, value in self.settings.items() if key not in WHERE}
        about = {"model": self.model, "dataset": self.dataset, "seed": self.seed, "protocol": dict(self.protocol)}
        return fingerprint(**about, settings=settings)[:16]

    def line(self) -> dict[str, Any]:
        """Return what a results file says of the cell before it has run."""
        return {"kind": "cell", "cell": self.key, **asdict(self)}

    def __str__(self) -> str:
        return f"{self.label} on {self.dataset}, seed {self.seed}"


@dataclass(frozen=True)
class Plan:
    """Models x data sets x seeds under one protocol.

    Settings win in this order, the last first: ``settings``, those of an entry, those of an entry on the data set,
    ``overrides``, the protocol.

    Raises:
        ConfigError: If there are fewer than two models, something stands twice, or a setting stands where it must not.
    """

    name: str
    entries: tuple[Entry, ...]
    datasets: tuple[str, ...]
    seeds: tuple[int, ...] = (FIRST_SEED,)
    protocol: Protocol = Protocol()
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Run settings of all models."""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """Run settings of all models that win over an entry's own (the command line's)."""
    reported: tuple[Reported, ...] = ()

    def __post_init__(self) -> None:
        labels = [entry.label for entry in self.entries]
        nested = [dataset for dataset in self.datasets if "/" in dataset]
        if nested:
            raise self._error(f"data set {nested[0]!r} must be a name; give the folder it lies in as setting data_path")
        if not self.name or "/" in self.name:
            raise self._error(f"'name' must be a name without '/', got {self.name!r}")
        self._once(labels, "label", "give one of them another 'label:'")
        self._once(self.seeds, "seed", "a seed counts once")
        self._once(self.datasets, "data set", "name it once")
        if len(labels) < 2:
            raise self._error(f"a comparison needs at least 2 models, got {', '.join(labels) or 'none'}")
        if not self.datasets or not self.seeds:
            raise self._error("'datasets' and 'seeds' must name at least one each")
        for seed in self.seeds:
            if type(seed) is not int or not 0 <= seed < 2**32:
                raise self._error(f"'seeds' must be numbers in [0, 2^32), got {seed!r}")
        asked = self.protocol.settings(takes_loss=True)
        for owner, settings in self._settings():
            problem = misplaced(owner, settings, asked)
            if problem:
                raise self._error(problem)

    def cells(self) -> tuple[Cell, ...]:
        """Return every run: by data set, then seed, then model, so that an early stop leaves whole seeds.

        Raises:
            ConfigError: If two entries are the same run, or a model whose loss is asked for is unknown.
        """
        cells = [
            self._cell(entry, dataset, seed)
            for dataset in self.datasets
            for seed in self.seeds
            for entry in self.entries
        ]
        seen: dict[str, Cell] = {}
        for cell in cells:
            twin = seen.setdefault(cell.key, cell)
            if twin is not cell:
                raise self._error(
                    f"{twin.label!r} and {cell.label!r} are the same run on {cell.dataset}: same model and settings; "
                    "drop one of them or change its settings"
                )
        return tuple(cells)

    def _cell(self, entry: Entry, dataset: str, seed: int) -> Cell:
        takes_loss = self.protocol.loss is not None and not hasattr(find_model(entry.model), "input_type")
        settings: dict[str, Any] = {}
        for more in (self.settings, entry.settings, entry.datasets.get(dataset, {}), self.overrides):
            settings = merged(settings, more)
        settings.update(self.protocol.settings(takes_loss))
        protocol = {**self.protocol.line(), "loss": self.protocol.loss if takes_loss else None}
        return Cell(entry.label, entry.model, dataset, seed, plain(settings), protocol, entry.group)

    def header(self) -> dict[str, Any]:
        """Return the first line of the plan's results file.

        ``digest`` says whose file it is: the plan's name and protocol. So a plan may grow (more seeds, models or data
        sets, other settings of a model) and go on in its file, but neither another plan nor another protocol may.
        ``cells`` are the runs the plan asks for now, ``planned`` what they are; lines of others stay out of the report.
        """
        protocol, cells = self.protocol.line(), self.cells()
        return {
            "kind": "plan",
            "format": FORMAT,
            "plan": self.name,
            "digest": fingerprint(name=self.name, protocol=protocol),
            "protocol": protocol,
            "cells": [cell.key for cell in cells],
            "planned": {c.key: {"label": c.label, "dataset": c.dataset, "seed": c.seed} for c in cells},
            "reported": [asdict(row) for row in self.reported if row.dataset in self.datasets],
        }

    def _settings(self) -> Iterable[tuple[str, Mapping[str, Any]]]:
        """Yield every mapping of settings with the label of the model it is for (empty: all)."""
        yield from (("", self.settings), ("", self.overrides))
        for entry in self.entries:
            yield entry.label, entry.settings
            yield from ((entry.label, more) for more in entry.datasets.values())

    def _once(self, values: Sequence[Any], what: str, way_out: str) -> None:
        twice = [value for value, count in Counter(values).items() if count > 1]
        if twice:
            raise self._error(f"{what} {twice[0]!r} stands twice; {way_out}")

    def _error(self, message: str) -> ConfigError:
        return ConfigError(f"plan {self.name}: {message}")
