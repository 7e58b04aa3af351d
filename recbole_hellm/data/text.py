"""Cleans product texts: HTML entities and tags, white space, nulls, placeholder values."""

import html
import re
import unicodedata
from typing import Any

from recbole_hellm.data.records import TEXT_COLUMNS

_TAG = re.compile(r"<!--.*?-->|</?[a-zA-Z][^<>]*>", re.DOTALL)
_NULLS = frozenset({"none", "null", "nan", "n/a"})
_UNKNOWN_BRANDS = frozenset({"unknown", "unbranded"})


def clean_text(value: str | None) -> str:
    """Return ``value`` as one line of plain text, or ``""`` if it says nothing.

    Entities are undone until nothing changes (``&amp;amp;`` is common), then tags go, then control and zero-width
    characters; any run of white space becomes one space. A double quote becomes two single ones, because RecBole
    reads its files with quoting on and a leading quote would swallow the following columns.
    """
    if value is None:
        return ""
    for _ in range(4):
        plain = html.unescape(value)
        if plain == value:
            break
        value = plain
    value = unicodedata.normalize("NFC", _TAG.sub(" ", value)).replace('"', "''")
    value = "".join(c for c in " ".join(value.split()) if unicodedata.category(c) not in ("Cc", "Cf"))
    value = " ".join(value.split())
    return "" if value.casefold() in _NULLS else value


def category_tokens(value: Any) -> str:
    """Return the distinct category names of ``value``, one token each, outermost first.

    Args:
        value: A path of names, a list of such paths, or one string.

    Returns:
        Names separated by a space; a space inside a name becomes ``_`` so that RecBole's ``token_seq`` keeps a name
        whole (``Toys_&_Games Dolls``).
    """
    names: dict[str, None] = {}
    pending = [value]
    while pending:
        part = pending.pop(0)
        if isinstance(part, list):
            pending = [*part, *pending]
        elif isinstance(part, str) and (name := clean_text(part)):
            names[name.replace(" ", "_")] = None
    return " ".join(names)


def category_text(tokens: str) -> str:
    """Undo ``category_tokens`` for a reader: ``"Toys_&_Games Dolls"`` gives ``"Toys & Games, Dolls"``."""
    return ", ".join(token.replace("_", " ") for token in tokens.split())


def item_texts(row: dict[str, Any]) -> dict[str, str]:
    """Pick and clean the text columns of a catalogue row.

    Args:
        row: One JSON object; unknown keys are ignored, a value may be null, a string or a list.

    Returns:
        Column to text, in the order of ``TEXT_COLUMNS``, without empty ones.
    """
    texts = {}
    for column in TEXT_COLUMNS:
        value = row.get(column)
        if column == "categories":
            text = category_tokens(value)
        elif isinstance(value, list):
            text = clean_text(" ".join(str(part) for part in value if part is not None))
        else:
            text = clean_text(None if value is None else str(value))
        if column == "brand" and text.casefold() in _UNKNOWN_BRANDS:
            text = ""
        if text:
            texts[column] = text
    return texts
