"""Ids that stay one cell of RecBole's tab-separated files, whatever the source calls its users and items."""

import re
import unicodedata
from urllib.parse import quote, unquote

MAX_TOKEN_LENGTH = 512
"""Characters of an id; a longer one is a text in the wrong column."""

# pandas, through which RecBole reads its files, takes these words for a missing value.
_MISSING_WORDS = frozenset(
    ("#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>")
    + ("N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null")
)
_RESERVED = _MISSING_WORDS | {"[PAD]"}  # RecBole's own token for padding
SUSPECT = r'[\s"%\p{C}\p{Z}]|^\[PAD\]$|^[#\-1<NnA]'
"""Regular expression (of polars) that every token :func:`escaped` would change matches."""
_PLAIN = re.compile(r"[A-Za-z0-9_.:\-]+")


def escaped(token: str) -> str:
    """Return ``token`` as one cell: blanks, control characters, ``"`` and ``%`` become ``%XX``, other letters stay.

    Words that pandas would read as a missing value, and RecBole's ``[PAD]``, get their first character escaped.
    Different ids stay different; :func:`unescaped` gives the id back.
    """
    if token in _RESERVED:
        return f"%{ord(token[0]):02X}" + token[1:]
    if _PLAIN.fullmatch(token):
        return token
    return "".join(quote(char, safe="", errors="surrogatepass") if _unsafe(char) else char for char in token)


def unescaped(token: str) -> str:
    """Undo :func:`escaped`."""
    return unquote(token, errors="surrogatepass")


def _unsafe(char: str) -> bool:
    return char in '"%' or char.isspace() or unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zs", "Zl", "Zp")


def one_line(value: str) -> str:
    """Return a path or address as one cell: control characters, tabs and double quotes become ``%XX``."""
    return "".join(quote(c, safe="") if c == '"' or unicodedata.category(c)[0] == "C" else c for c in value.strip())
