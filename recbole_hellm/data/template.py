"""Item texts made by a template: ``"{title}. Brand: {brand}. {categories}"``."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from dataclasses import dataclass

from recbole_hellm.errors import ConfigError

# What stands between two fields: closing signs of the field before, what separates, the label of the next field.
_BETWEEN = re.compile(r"""(?P<close>[)\]}»”"'%]*)(?P<separator>\S*?\s+|\S*$)(?P<label>.*)""", re.DOTALL)


@dataclass(frozen=True)
class _Piece:
    """A field with the literal text that belongs to it."""

    separator: str
    label: str
    field: str
    close: str


class TextTemplate:
    """A template whose pieces drop out with their field.

    A field takes with it the label before it (``Brand: ``) and the separator that joins it to what stands before, up
    to the first white space (``. ``); a bracket or quote right after it belongs to it as well. What follows the last
    field ends every text that is not empty.

    Args:
        template: Literal text with fields ``{column}``; ``{{`` and ``}}`` are braces.

    Raises:
        ConfigError: If it has no field, or one that is no plain column name.
    """

    def __init__(self, template: str) -> None:
        self._pieces, self._end = _parse(template)

    @property
    def fields(self) -> tuple[str, ...]:
        """Columns in the order they stand."""
        return tuple(piece.field for piece in self._pieces)

    def fill(self, values: Mapping[str, str]) -> str:
        """Return the text of an item; ``""`` if all its fields are empty.

        Args:
            values: Column to text; a column may be empty or absent.
        """
        text = ""
        for piece in self._pieces:
            if value := values.get(piece.field, ""):
                text += f"{piece.separator if text else ''}{piece.label}{value}{piece.close}"
        return text + self._end if text else ""


def _parse(template: str) -> tuple[list[_Piece], str]:
    """Cut a template into pieces and what ends it."""
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ConfigError(f"setting 'text_template' has an open brace ({error}), got {template!r}") from error
    for _, name, spec, conversion in parsed:
        # Nothing but names: attributes and indices would reach into Python.
        if name is not None and (not re.fullmatch(r"\w+", name) or spec or conversion):
            raise ConfigError(f"setting 'text_template' takes fields of the form {{column}}, got {template!r}")
    literals, fields = [""], list[str]()
    for literal, name, _, _ in parsed:
        literals[-1] += literal
        if name is not None:
            fields.append(name)
            literals.append("")
    if not fields:
        raise ConfigError(f"setting 'text_template' must name a column, as in '{{title}}. {{brand}}', got {template!r}")
    # A brace doubled for escaping ends up in the literals as one; adjoining literals were joined above.
    found = [_BETWEEN.fullmatch(literal) for literal in literals[1:]]
    closes = [match["close"] if match else "" for match in found]
    between = [("", literals[0]), *((match["separator"], match["label"]) if match else ("", "") for match in found)]
    pieces = [
        _Piece(separator, label, field, close)
        for (separator, label), field, close in zip(between, fields, closes, strict=False)
    ]
    return pieces, "".join(between[-1])
