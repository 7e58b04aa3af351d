"""Text as LaTeX prints it, with pdfLaTeX and nothing but its standard fonts."""

from __future__ import annotations

import unicodedata

_SIGNS = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "|": r"\textbar{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", '"': "''", "±": r"$\pm$", "−": "$-$", "†": r"$\dagger$"},
    **{
        "–": "--",
        "—": "---",
        "‑": "-",
        "‐": "-",
        "“": "``",
        "”": "''",
        "„": ",,",
        "‘": "`",
        "’": "'",
        "…": r"\ldots{}",
    },
    **{"×": r"$\times$", "·": r"$\cdot$", "÷": r"$\div$", "≤": r"$\le$", "≥": r"$\ge$", "≈": r"$\approx$"},
    **{"≠": r"$\ne$", "∞": r"$\infty$", "→": r"$\to$", "←": r"$\leftarrow$", "↔": r"$\leftrightarrow$"},
    **{
        "↑": r"$\uparrow$",
        "↓": r"$\downarrow$",
        "°": r"$^\circ$",
        "²": "$^2$",
        "³": "$^3$",
        "¹": "$^1$",
        "•": r"$\bullet$",
    },
    **{"‡": r"$\ddagger$", "§": r"\S{}", "©": r"\copyright{}", "★": r"$\star$", "∪": r"$\cup$", "∩": r"$\cap$"},
    **{"ß": r"\ss{}", "æ": r"\ae{}", "Æ": r"\AE{}", "œ": r"\oe{}", "Œ": r"\OE{}", "ø": r"\o{}", "Ø": r"\O{}"},
    **{"å": r"\aa{}", "Å": r"\AA{}", "ł": r"\l{}", "Ł": r"\L{}", "ı": r"\i{}", "¿": "?`", "¡": "!`", "µ": r"$\mu$"},
}
_ACCENTS = {
    **{"\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0304": "=", "\u0306": "u", "\u0307": "."},
    **{"\u0308": '"', "\u030a": "r", "\u030b": "H", "\u030c": "v", "\u0327": "c", "\u0323": "d", "\u0331": "b"},
}
"""Combining signs and the commands that set them over or under a letter."""
_GREEK = ("gamma", "delta", "theta", "lambda", "xi", "pi", "sigma", "upsilon", "phi", "psi", "omega")
"""Capitals that do not look like a Latin one."""
_LATIN = {
    **{"alpha": "A", "beta": "B", "epsilon": "E", "zeta": "Z", "eta": "H", "iota": "I", "kappa": "K", "mu": "M"},
    **{"nu": "N", "omicron": "O", "rho": "P", "tau": "T", "chi": "X"},
}
"""Those that do."""


def escaped(text: str) -> str:
    """Return ``text`` so that LaTeX prints it; ``?`` stands for what it has no standard command for."""
    return "".join(map(_sign, unicodedata.normalize("NFC", " ".join(text.split()))))


def _sign(character: str) -> str:
    if character in _SIGNS:
        return _SIGNS[character]
    if " " <= character <= "~":
        return character
    return _accented(character) or _greek(character) or "?"


def _accented(character: str) -> str:
    letter, *accents = list(unicodedata.normalize("NFD", character))
    if not (letter.isascii() and letter.isalpha() and accents and all(accent in _ACCENTS for accent in accents)):
        # Fractions, ligatures, wide letters and digits: what they are made of.
        plain = unicodedata.normalize("NFKC", character)
        return escaped(plain) if plain != character and plain.isascii() and plain.isprintable() else ""
    for accent in accents:
        letter = rf"\{_ACCENTS[accent]}{{{letter}}}"
    return letter


def _greek(character: str) -> str:
    words = unicodedata.name(character, "").split()
    if words[:1] != ["GREEK"] or words[2:3] != ["LETTER"] or len(words) != 4:
        return ""
    name = {"LAMDA": "lambda"}.get(words[3], words[3].lower())
    if words[1] == "SMALL":
        return "o" if name == "omicron" else f"$\\{name}$" if name in (*_GREEK, *_LATIN) else ""
    return f"$\\{name.capitalize()}$" if name in _GREEK else _LATIN.get(name, "")
