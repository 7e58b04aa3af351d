"""Records of JSON-lines and Python-literal files, one by one, whatever a line holds."""

import ast
import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import polars as pl

from recbole_hellm.data.event_table import Batch
from recbole_hellm.data.reading import read_lines
from recbole_hellm.errors import DataError

MAX_LITERAL_LENGTH = 2**20
"""Characters of a line in Python notation; Python's own parser takes hundreds of times its length in memory."""
_BATCH_ROWS = 100_000
_STRING = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"")
_PLAIN = re.compile(r"[\w\s.,:{}\[\]()+-]*")

Record = dict[str, Any]
Parse = Callable[[Path, int, str], Record]


def parse_json(path: Path, number: int, line: str) -> Record:
    """Return the object of a line of JSON.

    Raises:
        DataError: Naming file and line, if it is broken, nested too deeply or no object.
    """
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply or a number too long"
        raise DataError(f"{path}:{number}: broken JSON ({reason}): one object a line is needed") from error
    if not isinstance(record, dict):
        raise DataError(f"{path}:{number}: expected an object '{{...}}', got {line[:40]!r}")
    return record


def parse_literal(path: Path, number: int, line: str) -> Record:
    """Return the dictionary of a line in Python notation (or JSON); nothing in it is ever run.

    Raises:
        DataError: Naming file and line, if it is too long, broken or no dictionary of plain values.
    """
    if line.startswith('{"'):
        try:
            return parse_json(path, number, line)
        except DataError:
            pass  # Python takes double quotes for a text with an apostrophe
    if len(line) > MAX_LITERAL_LENGTH:
        raise DataError(f"{path}:{number}: the record is longer than {MAX_LITERAL_LENGTH} characters, the limit")
    try:
        # Without its texts a record is names, numbers and brackets: no operator chain can exhaust the parser's stack.
        if not _PLAIN.fullmatch(_STRING.sub("", line)) or re.search(r"[+-]\s*[+-]", _STRING.sub("", line)):
            raise ValueError("not only plain values")
        record = ast.literal_eval(line)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise DataError(
            f"{path}:{number}: no dictionary in Python notation ({str(error)[:60] or type(error).__name__}): one a "
            "line is needed"
        ) from error
    if not isinstance(record, dict):
        raise DataError(f"{path}:{number}: expected a dictionary '{{...}}', got {line[:40]!r}")
    return record


def read_records(path: Path, parse: Parse = parse_json) -> Iterator[tuple[int, Record]]:
    """Yield line number and record of every line that is not empty."""
    n_records = 0
    for number, line in read_lines(path):
        if line.strip():
            n_records += 1
            yield number, parse(path, number, line)
    if not n_records:
        raise DataError(f"{path}: no record, only empty lines: copy the file again")


def event_batches(
    path: Path, keys: dict[str, str | tuple[str, ...]], records: Iterable[tuple[int, Record]]
) -> Iterator[Batch]:
    """Yield interactions of records.

    Args:
        path: The file, for messages.
        keys: ``user``, ``item``, ``time``, ``rating`` to the record's key, or keys of which the first present counts.
        records: Line number and record.

    Raises:
        DataError: Naming file and line, if an id is no string or integer.
    """
    wanted = {target: (key,) if isinstance(key, str) else key for target, key in keys.items()}
    columns: dict[str, list[Any]] = {target: [] for target in wanted}
    numbers: list[int] = []
    for number, record in records:
        for target, names in wanted.items():
            value = next((record[name] for name in names if record.get(name) is not None), None)
            cell = _identity(path, number, target, value) if target in ("user", "item") else _number(value)
            columns[target].append(cell)
        numbers.append(number)
        if len(numbers) == _BATCH_ROWS:
            yield _batch(path, columns, numbers)
            columns, numbers = {target: [] for target in wanted}, []
    if numbers:
        yield _batch(path, columns, numbers)


def _batch(path: Path, columns: dict[str, list[Any]], numbers: list[int]) -> Batch:
    return Batch(pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String)), lambda row: f"{path}:{numbers[row]}")


def _identity(path: Path, number: int, target: str, value: Any) -> str | None:
    """Return an id as text; ``None`` stays, and is refused with the others that are missing."""
    if value is None or isinstance(value, str):
        if value is not None and not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
            raise DataError(f"{path}:{number}: {target} id {value[:40]!r} is no valid Unicode: correct the record")
        return value
    return identity(f"{path}:{number}", target, value)


def identity(place: str, target: str, value: Any) -> str:
    """Return an id that is an integer as text.

    Raises:
        DataError: If it is of another type.
    """
    if type(value) is not int or abs(value) >= 2**63:
        raise DataError(f"{place}: {target} id is {str(value)[:40]!r}; must be a text or an integer below 2**63")
    return str(value)


def _number(value: Any) -> str | None:
    """Return a number or date as text; anything else is as good as missing."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return str(value).encode("utf-8", "replace").decode()
    except ValueError:  # an integer of thousands of digits
        return None
