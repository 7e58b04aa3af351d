"""Facts of a data set as a page: the same words on the terminal and in HTML."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup

from recbole_hellm.data.inspect.charts import bars, curve
from recbole_hellm.data.inspect.events import EventFacts, Spread, TimeFacts
from recbole_hellm.data.inspect.facts import Facts
from recbole_hellm.data.inspect.items import CatalogueFacts, Example, FeatureFacts
from recbole_hellm.data.inspect.warnings import percent, warnings_of

_TEXT_WIDTH = 100


@dataclass(frozen=True)
class Section:
    """A heading with rows (label, value) and drawings."""

    title: str
    rows: Sequence[tuple[str, str]]
    charts: Sequence[tuple[str, Markup]] = ()
    """Caption and drawing."""


@dataclass(frozen=True)
class Page:
    """Everything that is shown."""

    title: str
    tiles: Sequence[tuple[str, str]]
    """The few numbers that come first: what and how many."""
    warnings: Sequence[str]
    sections: Sequence[Section]
    examples: Sequence[Example]
    references: Sequence[Section]
    """Sections to look something up in."""


def build_page(facts: Facts) -> Page:
    """Put facts into words."""
    events = facts.events
    tiles = [
        ("users", f"{events.n_users:,}"),
        ("items", f"{events.n_items:,}"),
        ("interactions", f"{events.n_events:,}"),
        ("density", f"{100 * events.density:.3g} %"),
        ("interactions a user", f"{events.lengths.mean:.1f}"),
        ("interactions an item", f"{events.popularity.mean:.1f}"),
    ]
    sections = [
        _lengths(events),
        _popularity(events),
        _order(events, facts),
        _split(events),
        *([_texts(facts.catalogue, events)] if facts.catalogue else []),
        *([_features(facts)] if facts.features or facts.n_images is not None else []),
    ]
    return Page(facts.name, tiles, warnings_of(facts), sections, facts.examples, [_origin(facts), _fingerprint(facts)])


def as_text(page: Page) -> str:
    """Return the page for a terminal."""
    lines = [page.title, "=" * len(page.title), ""]
    for section in (Section("", page.tiles), *page.sections, *page.references):
        lines += [section.title, "-" * len(section.title)] if section.title else []
        width = max(len(label) for label, _ in section.rows)
        for label, value in section.rows:
            lines.append(f"  {label:<{width}}  {value}")
        lines.append("")
    if page.warnings:
        lines += ["Worth knowing", "-------------"]
        for warning in page.warnings:
            lines += textwrap.wrap(warning, _TEXT_WIDTH, initial_indent="  * ", subsequent_indent="    ")
        lines.append("")
    return "\n".join(lines)


def quantiles(spread: Spread) -> str:
    """Return minimum, quartiles and maximum in words."""
    low, _, q1, middle, q3, p95, high = (f"{value:,.0f}" for value in spread.quantiles)
    if low == high:
        return f"all {low}"
    return f"{low} to {high}, half of them {q1} to {q3}, median {middle}, 95 % at most {p95}"


def _lengths(events: EventFacts) -> Section:
    rows = [
        ("interactions a user", quantiles(events.lengths)),
        ("users with a repeat", f"{events.n_repeating_users:,} ({percent(events.n_repeating_users, events.n_users)})"),
        ("repeated interactions", f"{events.n_repeats:,} ({percent(events.n_repeats, events.n_events)})"),
    ]
    charts = [("Users by number of interactions", bars(events.lengths.histogram, "users"))]
    return Section("Histories", rows, charts if len(events.lengths.histogram) > 1 else [])


def _popularity(events: EventFacts) -> Section:
    rows = [
        ("interactions an item", quantiles(events.popularity)),
        ("gini", f"{events.gini:.3f} (0: all items alike, 1: one item has all)"),
        *(
            (f"top {100 * share:.0f} % of the items", f"have {100 * part:.1f} % of the interactions")
            for share, part in events.head.items()
        ),
        (
            "fewer than 5 interactions",
            f"{events.n_rare_items:,} items ({percent(events.n_rare_items, events.n_items)})",
        ),
    ]
    charts = [
        ("Items by number of interactions", bars(events.popularity.histogram, "items")),
        ("Share of the interactions, most used items first", curve(events.lorenz, "share of the interactions")),
    ]
    return Section("Popularity", rows, charts)


def _order(events: EventFacts, facts: Facts) -> Section:
    rows = [("columns", ", ".join(facts.columns))]
    if events.time is not None:
        time, n_test = events.time, events.split.n_test
        tie = "day_gap 0: the source cannot tell the two times apart" if time.by_gap else "the same timestamp"
        rows += [
            ("times", _time_range(time)),
            ("tied steps", f"{time.n_tied:,} of {time.n_steps:,} ({percent(time.n_tied, time.n_steps)})"),
            ("tied test targets", f"{time.n_tied_tests:,} of {n_test:,} ({percent(time.n_tied_tests, n_test)})"),
            ("a tie is", tie),
        ]
    return Section("Order in time", rows)


def _time_range(time: TimeFacts) -> str:
    text = f"{time.first:,.10g} to {time.last:,.10g}"
    if time.first > 6e8 and time.last < 4e9:  # 1989 to 2096, if these are seconds
        first, last = (datetime.fromtimestamp(t, UTC).date() for t in (time.first, time.last))
        text += f" (as seconds: {first} to {last})"
    return text


def _split(events: EventFacts) -> Section:
    split = events.split
    rows = [
        ("training interactions", f"{split.n_train:,}"),
        ("validation targets", f"{split.n_valid:,} users with 4 interactions or more"),
        ("test targets", f"{split.n_test:,} users with 3 or more"),
        ("users too short for it", f"{split.n_short:,} ({percent(split.n_short, events.n_users)})"),
        ("test targets unseen in training", f"{split.n_unseen:,} ({percent(split.n_unseen, split.n_test)})"),
        ("test targets the user had before", f"{split.n_repeated:,} ({percent(split.n_repeated, split.n_test)})"),
    ]
    return Section("Split: last interaction of each user for test, the one before for validation", rows)


def _texts(catalogue: CatalogueFacts, events: EventFacts) -> Section:
    n_items = events.n_items
    rows = [
        ("rows", f"{catalogue.n_rows:,}"),
        ("items without a row", f"{catalogue.n_without_row:,} ({percent(catalogue.n_without_row, n_items)})"),
        ("rows without interactions", f"{catalogue.n_without_events:,}"),
    ]
    charts = []
    for column in catalogue.columns:
        words = f"; words: {quantiles(column.words)}" if column.words and column.kind == "token_seq" else ""
        distinct = f"; {column.n_distinct:,} values" if column.n_distinct is not None else ""
        longest = f"; longest {column.longest:,} characters" if column.kind == "token_seq" and column.n_filled else ""
        value = f"{column.n_filled:,} items ({percent(column.n_filled, n_items)}){distinct}{words}{longest}"
        rows.append((f"{column.name} ({column.kind})", value))
        if words and column.words and len(column.words.histogram) > 1:
            charts.append((f"Words of {column.name}", bars(column.words.histogram, "items")))
    return Section("Item texts", rows, charts)


def _features(facts: Facts) -> Section:
    n_items = facts.events.n_items
    rows = [(feature.name, _feature(feature, n_items)) for feature in facts.features]
    if facts.n_images is not None:
        rows.append(("pictures", f"{facts.n_images:,} items ({percent(facts.n_images, n_items)})"))
    return Section("Item features", rows)


def _feature(feature: FeatureFacts, n_items: int) -> str:
    if feature.problem:
        return feature.problem
    return (
        f"{feature.n_covered:,} items ({percent(feature.n_covered, n_items)}); {feature.n_rows:,} rows of "
        f"{feature.width} numbers, {feature.dtype}; {feature.n_zero:,} zero rows, {feature.n_unused:,} rows unused; "
        f"lengths {feature.norm[0]:.3g} to {feature.norm[1]:.3g}"
    )


def _origin(facts: Facts) -> Section:
    rows = [("folder", str(facts.folder))]
    manifest = facts.manifest
    if not manifest:
        rows.append(("manifest", facts.manifest_problem))
    else:
        source = manifest.get("source", {})
        rows += [("source layout", str(source.get("layout", "-")))]
        rows += [(f"source {name}", f"sha256 {digest}") for name, digest in _pairs(source.get("sha256"))]
        options = [(name, value) for name, value in _pairs(manifest.get("options")) if value not in (None, [], {})]
        rows += [(f"option {name}", _words(value)) for name, value in options]
        rows += [("prepared by", f"recbole-hellm {manifest.get('package_version', '-')}")]
        rows += [("manifest format", str(manifest.get("format", "-")))]
        rows += [("fingerprint in it", "yes" if manifest.get("fingerprint") else "no: of an earlier version")]
        rows += [("files", facts.manifest_problem or "as they were written")]
    if facts.published:
        rows.append(("compared with published", facts.published))
    if facts.other_files:
        rows.append(("not looked at", ", ".join(facts.other_files)))
    return Section("Origin", rows)


def _pairs(value: Any) -> list[tuple[str, Any]]:
    return list(value.items()) if isinstance(value, dict) else []


def _words(value: Any) -> str:
    """Return the value of an option in plain words."""
    if isinstance(value, dict):
        return ", ".join(f"{key}={part}" for key, part in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _fingerprint(facts: Facts) -> Section:
    if not facts.digests:
        return Section("Fingerprint", [("of the data set", "none: a feature matrix is broken")])
    rows = [
        ("of the data set", facts.digests["dataset"]),
        ("of the interactions", f"{facts.digests['events']} (data.fingerprint in the result file of a run)"),
        ("of the item texts", facts.digests["catalogue"] or "none"),
        *((f"of features {name}", digest) for name, digest in facts.digests["features"].items()),
    ]
    return Section("Fingerprint", rows)
