"""Fetches pictures from a list of addresses into a folder, only when asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path
from secrets import token_hex
from threading import local
from time import monotonic, sleep
from urllib.parse import urlsplit

import requests
import urllib3
from tqdm import tqdm

from recbole_hellm.data.images import MAX_BYTES, SUFFIXES, BrokenImage, decode, image_stem
from recbole_hellm.data.reading import read_lines
from recbole_hellm.errors import DataError

logger = getLogger(__name__)

_SCHEMES = ("http", "https")
_CHUNK = 1 << 16
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class Patience:
    """How long a picture is waited for."""

    connect_seconds: float = 10.0
    """Longest wait for a connection."""
    stall_seconds: float = 20.0
    """Longest time without a byte."""
    total_seconds: float = 120.0
    """Longest time for one picture."""
    attempts: int = 3
    """Requests for one picture that failed in passing."""
    backoff_seconds: float = 1.0
    """Wait before the second request; doubled before each further one."""
    max_bytes: int = MAX_BYTES
    """Largest picture that is received."""


PATIENCE = Patience()


def read_addresses(path: Path) -> dict[str, str]:
    """Return item token -> address from a file of ``item<TAB>address`` lines (a header is skipped).

    Raises:
        DataError: If a line has another shape, or an item comes twice.
    """
    found: dict[str, str] = {}
    for number, line in read_lines(path):
        token, tab, address = line.partition("\t")
        if number == 1 and not is_address(address):
            continue
        if not tab or not token or not is_address(address):
            raise DataError(f"{path}:{number}: expected 'item<TAB>http(s)://address', got {line[:80]!r}")
        if token in found:
            raise DataError(f"{path}:{number}: item {token!r} comes a second time: an item has one picture")
        found[token] = address.strip()
    if not found:
        raise DataError(f"{path}: no line with an address: expected 'item<TAB>http(s)://address'")
    return found


def is_address(text: str) -> bool:
    """Tell whether ``text`` is an ``http://`` or ``https://`` address."""
    return urlsplit(text.strip()).scheme.lower() in _SCHEMES and bool(urlsplit(text.strip()).netloc)


def image_file(folder: Path, token: str) -> Path | None:
    """Return the picture of an item that was fetched before."""
    stem = image_stem(token)
    return next((path for suffix in SUFFIXES if (path := folder / f"{stem}{suffix}").is_file()), None)


def download_images(
    addresses: Mapping[str, str], folder: Path, patience: Patience = PATIENCE, workers: int = 8
) -> dict[str, str]:
    """Fetch the picture of each item that is not in ``folder`` yet, as ``<item>.<kind>``.

    What is no picture is not kept. A file appears when it is complete, so a run that was stopped continues.

    Args:
        addresses: Item token to an ``http://`` or ``https://`` address.
        folder: Where the pictures are put.
        patience: Timeouts, attempts, size limit.
        workers: Requests at a time.

    Returns:
        Item to the reason why there is no picture of it.

    Raises:
        DataError: If the folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        todo = [token for token in addresses if image_file(folder, token) is None]
        fetcher = _Fetcher(folder, patience)
        with ThreadPoolExecutor(workers) as pool:
            said = pool.map(lambda token: fetcher.fetch(token, addresses[token]), todo)
            bar = tqdm(zip(todo, said, strict=True), total=len(todo), desc="images", unit=" images", disable=None)
            failed = {token: reason for token, reason in bar if reason}
    except OSError as error:
        raise DataError(
            f"{folder}: pictures cannot be written ({error.strerror or error}); free space there"
        ) from error
    logger.info("images: %d fetched to %s, %d were there", len(todo) - len(failed), folder, len(addresses) - len(todo))
    for reason, count in Counter(failed.values()).most_common():
        first = next(token for token, why in failed.items() if why == reason)
        logger.warning("images: %d not fetched: %s; first %s", count, reason, addresses[first])
    return failed


class _Fetcher:
    """Fetches one picture at a time in each thread, each thread with connections of its own."""

    def __init__(self, folder: Path, patience: Patience) -> None:
        self._folder, self._patience, self._threads = folder, patience, local()

    def fetch(self, token: str, address: str) -> str:
        """Write the picture of an item; return why that failed, ``""`` if it did not."""
        reason = ""
        for attempt in range(self._patience.attempts):
            if attempt:
                sleep(self._patience.backoff_seconds * 2 ** (attempt - 1))
            try:
                data = self._get(address)
                picture = decode(data)
            except _Passing as error:
                reason = str(error)
                continue
            except BrokenImage as error:
                return str(error)
            del picture
            self._write(token, data)
            return ""
        return reason

    def _write(self, token: str, data: bytes) -> None:
        scratch = self._folder / f".{token_hex(8)}.part"
        try:
            scratch.write_bytes(data)
            scratch.replace(self._folder / f"{image_stem(token)}{_suffix(data)}")
        except BaseException:
            scratch.unlink(missing_ok=True)
            raise

    def _get(self, address: str) -> bytes:
        patience, started = self._patience, monotonic()
        if not hasattr(self._threads, "session"):
            self._threads.session = requests.Session()  # it can follow to http and https alone
            self._threads.session.max_redirects = 5
        timeout = (patience.connect_seconds, patience.stall_seconds)
        parts, size = [], 0
        try:
            with self._threads.session.get(address, timeout=timeout, stream=True) as response:
                if response.status_code in _PASSING:
                    raise _Passing(f"the server answered {response.status_code}")
                if response.status_code != 200:
                    raise BrokenImage(f"the server answered {response.status_code}")
                while part := response.raw.read1(_CHUNK, decode_content=True):
                    size += len(part)
                    if size > patience.max_bytes:
                        raise BrokenImage(f"has more than {patience.max_bytes} bytes")
                    if monotonic() - started > patience.total_seconds:
                        raise _Passing(f"took longer than {patience.total_seconds:g} s")
                    parts.append(part)
                declared = response.headers.get("Content-Length", "")
                if declared.isdecimal() and "Content-Encoding" not in response.headers and size != int(declared):
                    raise _Passing("the connection ended early")
        except (requests.Timeout, requests.ConnectionError, urllib3.exceptions.HTTPError) as error:
            raise _Passing(f"no connection ({type(error).__name__})") from error
        except requests.RequestException as error:
            raise BrokenImage(f"cannot be requested ({type(error).__name__})") from error
        return b"".join(parts)


class _Passing(Exception):
    """An attempt failed in a way that the next one may not."""


def _suffix(data: bytes) -> str:
    """Return the file ending of a picture that could be decoded, by its first bytes."""
    starts = {b"\xff\xd8": ".jpg", b"\x89PNG": ".png", b"RIFF": ".webp", b"GIF8": ".gif", b"BM": ".bmp"}
    return next(suffix for start, suffix in starts.items() if data.startswith(start))
