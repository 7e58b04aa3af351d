"""What a user should know before training on a data set, in plain words and with the way out."""

from collections.abc import Iterator

from recbole_hellm.data.inspect.events import TimeFacts
from recbole_hellm.data.inspect.facts import Facts
from recbole_hellm.data.manifest import MANIFEST

_TEXT_SHARE = 0.95
"""A text column that fewer of the items have is worth a word."""
_MILLISECONDS = 1e11
"""Seconds since 1970 reach this in the year 5138."""


def warnings_of(facts: Facts) -> list[str]:
    """Return one sentence or two for each thing that can mislead; empty if there is none."""
    return [*_provenance(facts), *_events(facts), *_catalogue(facts), *_features(facts)]


def percent(part: float, whole: float) -> str:
    """Return a share such as ``44 %``; never ``0 %`` or ``100 %`` where that is not exact."""
    if whole == 0:
        return "-"
    share = 100 * part / whole
    if part in (0, whole):
        return f"{share:.0f} %"
    if share < 0.01:
        return "< 0.01 %"
    if share >= 99.995:
        return "> 99.99 %"
    return f"{share:.3g} %" if share < 99 else f"{share:.2f} %"


def _provenance(facts: Facts) -> Iterator[str]:
    if facts.manifest_problem:
        again = " Prepare it again unless that was on purpose." if (facts.folder / MANIFEST).exists() else ""
        yield _sentence(facts.manifest_problem) + again
    recorded = facts.manifest.get("fingerprint")
    if recorded and facts.digests and not facts.manifest_problem and recorded != facts.digests:
        yield (
            "The manifest has another fingerprint than the files, which are as they were written: another version of "
            "this package made it. Prepare the data set again before you compare runs."
        )


def _events(facts: Facts) -> Iterator[str]:
    events, split = facts.events, facts.events.split
    if events.time is None:
        yield (
            "There is no column timestamp:float: sequential models and the split by time cannot be used. Add one, or "
            "number each user's interactions from 1."
        )
    else:
        yield from _times(events.time, split.n_test)
    if events.n_unnamed:
        yield (
            f"{events.n_unnamed:,} rows have an empty user or item, or a word like NA or null, and RecBole drops them. "
            "Rename such ids."
        )
    if events.n_doubles:
        yield f"{events.n_doubles:,} rows repeat the row before: remove them if they are no real interactions."
    if split.n_short:
        yield (
            f"{split.n_short:,} of {events.n_users:,} users have fewer than 3 interactions: they are kept in training "
            "and not tested. Filter them out if you compare with results that do."
        )
    if split.n_repeated:
        yield (
            f"{percent(split.n_repeated, split.n_test)} of the test targets are items the user had before: a model "
            "whose ranking leaves a user's history out cannot find them. Keep the history in the ranking."
        )
    if split.n_unseen:
        yield (
            f"{percent(split.n_unseen, split.n_test)} of the test targets do not occur in training: only a model that "
            "reads item texts or pictures can rank them."
        )


def _times(time: TimeFacts, n_test: int) -> Iterator[str]:
    if time.n_tied:
        yield (
            f"{percent(time.n_tied, time.n_steps)} of the steps tie in time: their order is that of the file. "
            f"{percent(time.n_tied_tests, n_test)} of the test targets tie with the item before, so which of them is "
            "the last one is chance; report users without such a tie separately."
        )
    if time.n_tied_in_float32:
        yield (
            f"{time.n_tied_in_float32:,} steps differ in time, but not as float32, which RecBole uses: their order is "
            "that of the file. Write ranks or days instead of seconds."
        )
    if time.first < 0:
        yield f"The smallest time is {time.first:.10g}: negative times are dates before 1970 or a mistake."
    if time.last > _MILLISECONDS:
        yield f"The largest time is {time.last:.14g}: these look like milliseconds. Divide by 1000."


def _catalogue(facts: Facts) -> Iterator[str]:
    catalogue, n_items = facts.catalogue, facts.events.n_items
    if catalogue is None:
        yield f"There is no {facts.name}.item: features can come from arrays only, not from item texts."
        return
    if catalogue.n_without_row:
        yield f"{percent(catalogue.n_without_row, n_items)} of the items have no row in {facts.name}.item: no text."
    if n_cold := catalogue.n_without_events:
        yield (
            f"Rows of {facts.name}.item without an interaction: {n_cold:,}. RecBole counts and ranks such items if it "
            "loads that file."
        )
    if catalogue.n_twice:
        yield f"{catalogue.n_twice:,} rows of {facts.name}.item are of an item that has a row: the first one counts."
    for column in catalogue.columns:
        if column.kind == "token_seq" and column.n_filled < _TEXT_SHARE * n_items:
            yield (
                f"{percent(n_items - column.n_filled, n_items)} of the items have no {column.name}: take it together "
                "with other text columns."
            )


def _features(facts: Facts) -> Iterator[str]:
    for feature in facts.features:
        if feature.problem:
            yield f"Features {feature.name} cannot be used: {feature.problem}."
        elif feature.n_covered < facts.events.n_items:
            lacking = facts.events.n_items - feature.n_covered
            said = "the setting feature_missing decides what follows."
            yield f"{_lacking(lacking, facts)} no vector in {feature.name}: {said}"
    if facts.n_images is not None and facts.n_images < facts.events.n_items:
        yield f"{_lacking(facts.events.n_items - facts.n_images, facts)} no picture in the folder of pictures."


def _lacking(n: int, facts: Facts) -> str:
    share = percent(n, facts.events.n_items)
    return f"1 item ({share}) has" if n == 1 else f"{n:,} items ({share}) have"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."
