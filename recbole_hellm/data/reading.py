"""Line-wise and block-wise reading of text and gzip files, in bounded memory and with one-line errors."""

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recbole_hellm.errors import DataError

MAX_RECORD_BYTES = 8 * 2**20
"""Longest line or record that is read; a longer one is no record but a broken file or a bomb."""
BLOCK_BYTES = 8 * 2**20
"""About the size of a block."""
_PART_BYTES = 2**18


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield ``(line number from 1, line without its end)`` of a UTF-8 file, unpacking ``.gz``.

    Raises:
        DataError: If the file is missing, empty, not readable, no valid gzip or not UTF-8, or a line is longer than
            ``MAX_RECORD_BYTES``.
    """
    number = 0
    with _opened(path) as (file, seen):
        while line := file.readline(MAX_RECORD_BYTES + 1):
            if len(line) > MAX_RECORD_BYTES:
                raise _too_long(path, number + 1)
            text = _decoded(path, number, line)
            number = seen.lines = number + 1
            yield number, text.rstrip("\r\n")
    if number == 0:
        raise DataError(f"{path}: the file is empty: copy it again from the source")


def read_blocks(path: Path, quoted: bool) -> Iterator[tuple[int, bytes]]:
    """Yield ``(number of the first line, whole UTF-8 records)`` of a text file, unpacking ``.gz``.

    Args:
        path: Text file.
        quoted: Whether a line end between double quotes belongs to the record.

    Raises:
        DataError: As :func:`read_lines`.
    """
    first, rest, empty = 1, b"", True
    with _opened(path) as (file, seen):
        while True:
            parts = [rest]
            while sum(map(len, parts)) < len(rest) + BLOCK_BYTES and (part := file.read1(_PART_BYTES)):
                parts.append(part)
                seen.lines += part.count(b"\n")
            data, last = b"".join(parts), len(parts) == 1
            end = len(data) if last else _end_of_records(data, quoted)
            block, rest = data[:end], data[end:]
            if len(rest) > MAX_RECORD_BYTES or (last and len(block) > MAX_RECORD_BYTES):
                raise _too_long(path, first + (0 if last else block.count(b"\n")))
            if block:
                _decoded(path, first - 1, block)
                empty = False
                yield first, block
                first += block.count(b"\n")
            if last:
                break
    if empty:
        raise DataError(f"{path}: the file is empty: copy it again from the source")


def _end_of_records(data: bytes, quoted: bool) -> int:
    """Return the place after the last line end that ends a record, 0 if there is none."""
    end = data.rfind(b"\n") + 1
    odd = quoted and data.count(b'"', 0, end) % 2 == 1
    while end and odd:  # inside quotes: go back before the quote that may have opened them
        before = data.rfind(b"\n", 0, data.rfind(b'"', 0, end)) + 1
        odd = (int(odd) + data.count(b'"', before, end)) % 2 == 1
        end = before
    return end


class _Unpacked(io.RawIOBase):
    """Gives what a gzip file holds up to where it breaks; ``GzipFile.read`` would lose the last part."""

    def __init__(self, path: Path) -> None:
        self._file = gzip.open(path, "rb")  # noqa: SIM115 (closed below)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read1(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


class _Seen:
    """How far a file was read."""

    lines = 0


@contextmanager
def _opened(path: Path) -> Iterator[tuple["io.BufferedReader[io.RawIOBase]", _Seen]]:
    """Open a file, unpacking ``.gz``; what goes wrong while it is read is named with the lines read before."""
    seen = _Seen()
    try:
        raw: io.RawIOBase = _Unpacked(path) if path.suffix == ".gz" else io.FileIO(path)
        with io.BufferedReader(raw, _PART_BYTES) as file:
            yield file, seen
    except FileNotFoundError as error:
        raise DataError(f"file {path} is missing: copy the complete data set folder") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path}: broken gzip after line {seen.lines} ({error}): copy the file again") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read after line {seen.lines} ({error.strerror or error})") from error


def _decoded(path: Path, before: int, data: bytes) -> str:
    """Decode whole lines; ``before`` lines came before them."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = before + data.count(b"\n", 0, error.start)
        way_out = "save the file as UTF-8"
        if before == 0 and data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            way_out += " (it seems to be UTF-16)"
        raise DataError(f"{path}: not UTF-8 after line {line} ({error.reason}): {way_out}") from error


def _too_long(path: Path, line: int) -> DataError:
    return DataError(
        f"{path}:{line}: the record is longer than {MAX_RECORD_BYTES} bytes, the limit: it is no text file, lacks line "
        "ends or has a quote that is never closed"
    )
