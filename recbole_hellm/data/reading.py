"""Line-wise reading of text and gzip files with one-line errors."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from recbole_hellm.errors import DataError


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield ``(line number from 1, line without its end)`` of a UTF-8 file, unpacking ``.gz``.

    Raises:
        DataError: If the file is missing, empty, not readable, no valid gzip or not UTF-8.
    """
    number = 0
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8", newline="\n") as file:
            for line in file:
                number += 1
                yield number, line.rstrip("\r\n")
    except FileNotFoundError as error:
        raise DataError(f"file {path} is missing: copy the complete data set folder") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path}: broken gzip after line {number} ({error}): copy the file again") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 after line {number} ({error.reason}): save the file as UTF-8") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read after line {number} ({error.strerror or error})") from error
    if number == 0:
        raise DataError(f"{path}: the file is empty: copy it again from the source")
