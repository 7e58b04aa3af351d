"""From rows of a catalogue as they stand in a source to cleaned items, each once."""

from collections.abc import Iterable, Iterator, Mapping
from logging import getLogger
from typing import Any

from recbole_hellm.data.records import TEXT_COLUMNS, CatalogueItem
from recbole_hellm.data.sources.base import ItemRow, SourceOptions
from recbole_hellm.data.text import clean_text, item_texts
from recbole_hellm.data.tokens import MAX_TOKEN_LENGTH, escaped, one_line
from recbole_hellm.errors import DataError

logger = getLogger(__name__)

MAX_IMAGE_LENGTH = 4096
"""Characters of a path or address of a picture."""


def clean_items(
    rows: Iterable[ItemRow], options: SourceOptions, used: Mapping[str, object], keep_cold: bool
) -> Iterator[CatalogueItem]:
    """Yield each item once with cleaned texts; rows nobody needs are not even cleaned.

    Args:
        rows: The catalogue of a source.
        options: Kept fields, and what a second row with other texts means.
        used: Escaped ids of the items of the interactions.
        keep_cold: Whether other items are wanted too.

    Raises:
        DataError: Naming file and record, if an id is missing or too long, or an item comes again with other texts.
    """
    seen: dict[str, int] = {}
    n_again = n_other = 0
    for row in rows:
        if not row.item or len(row.item) > MAX_TOKEN_LENGTH:
            wrong = f"longer than {MAX_TOKEN_LENGTH} characters" if row.item else "missing"
            raise DataError(f"{row.place()}: the item id is {wrong}: complete or delete the row")
        token = escaped(row.item)
        if not keep_cold and token not in used:
            continue
        texts = _texts(row.texts, options.fields)
        image = one_line(row.image)
        image = image if len(image) <= MAX_IMAGE_LENGTH else ""  # a picture as text instead of its address
        content = hash((tuple(texts.items()), image))
        if token not in seen:
            seen[token] = content
            yield CatalogueItem(token, texts, image)
            continue
        n_again += 1
        if seen[token] != content:
            n_other += 1
            if options.conflicts == "error":
                raise DataError(
                    f"{row.place()}: item {row.item!r} comes a second time with other texts (now {_shown(texts)}): "
                    "correct the source or keep the first with --conflicts first"
                )
    if n_again:
        logger.warning("%d rows of items that came before were left out, %d with other texts", n_again, n_other)


def _texts(texts: Mapping[str, Any], fields: tuple[str, ...] | None) -> dict[str, str]:
    """Clean the wanted text columns; those that are none of ``TEXT_COLUMNS`` as plain text."""
    wanted = {name: value for name, value in texts.items() if fields is None or name in fields}
    cleaned = item_texts(wanted)
    for name, value in wanted.items():
        if name not in TEXT_COLUMNS and value is not None and (text := clean_text(_as_text(value))):
            cleaned[name] = text
    return cleaned


def _as_text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return " ".join(_as_text(part) for part in value if part is not None)
    return str(value)


def _shown(texts: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {text[:40]!r}" for name, text in list(texts.items())[:2]) or "none"
