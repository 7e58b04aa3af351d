"""Cleans product texts: HTML entities and tags, white space, nulls, placeholder values."""

import html
import unicodedata
from typing import Any

from selectolax.lexbor import LexborHTMLParser

from recbole_hellm.data.records import TEXT_COLUMNS

_MAX_CHARACTERS = 100_000
"""What is kept of a text before it is cleaned; a parser of HTML takes minutes for a hostile text of millions."""
_NULLS = frozenset({"none", "null", "nan", "n/a"})
_UNKNOWN_BRANDS = frozenset({"unknown", "unbranded"})


def clean_text(value: str | None) -> str:
    """Return ``value`` as one line of plain text, or ``""`` if it says nothing.

    Entities are undone until nothing changes (``&amp;amp;`` is common), then tags, comments, scripts and style sheets
    go (a ``<`` that opens none stays: ``ages < 5``), then control and zero-width characters; any run of white space
    becomes one space. A double quote becomes two single ones, because RecBole reads its files with quoting on and a
    leading quote would swallow the following columns. Of a text, the first 100,000 characters count.
    """
    if value is None:
        return ""
    value = value[:_MAX_CHARACTERS]
    for _ in range(4):
        plain = html.unescape(value)
        if plain == value:
            break
        value = plain
    value = unicodedata.normalize("NFC", _without_tags(value) if "<" in value else value).replace('"', "''")
    value = "".join(c for c in " ".join(value.split()) if unicodedata.category(c) not in ("Cc", "Cf"))
    value = " ".join(value.split())
    return "" if value.casefold() in _NULLS else value


def _without_tags(value: str) -> str:
    """Return the text of a piece of HTML, a space where a tag was."""
    end = value.rfind(">") + 1
    # A "<" that is never closed is no tag to a reader; a browser would drop all that follows it.
    page = LexborHTMLParser(value[:end] + value[end:].replace("<", "&lt;"))
    page.strip_tags(["script", "style"])
    return page.text(separator=" ")


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
