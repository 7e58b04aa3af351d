"""One attempt at an HTTPS download into a ``.part`` file, resumed where the server allows it."""

import json
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from tqdm import tqdm

from recbole_hellm.data.manifest import package_version
from recbole_hellm.errors import DataError

_CHUNK = 1 << 18
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses after which the same request may succeed later."""
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True)
class RemoteFile:
    """A file on a public server."""

    name: str
    """File name in the folder it is put in."""
    url: str
    """``https://`` address."""
    max_bytes: int
    """Refuse to receive more."""
    sha256: str | None = None
    """Known checksum; without one, that of the first complete download is recorded."""
    about: str = ""
    """What it holds, for the message before a download."""


@dataclass(frozen=True)
class Transfer:
    """How patient a download is."""

    attempts: int = 6
    """Attempts in a row that bring nothing new before a download is given up."""
    backoff_seconds: float = 1.0
    """Wait before the third attempt in a row; doubled with every further one, up to ``max_wait_seconds``."""
    jitter_seconds: float = 1.0
    """Up to this is added to a wait by chance, so that many machines do not return at once."""
    connect_seconds: float = 15.0
    """Longest wait for a connection."""
    stall_seconds: float = 30.0
    """Longest time without a byte."""
    max_wait_seconds: float = 120.0
    """Longest wait between two attempts; a server that asks for more ends the download."""
    max_redirects: int = 5
    """Longest chain of redirects."""
    allow_local_http: bool = False
    """Also take ``http://`` addresses of this machine, for a mirror or a test."""


class Passing(Exception):
    """An attempt failed in a way that the next one may not; ``response`` is there if the server answered."""

    def __init__(self, reason: str, response: Any = None) -> None:
        super().__init__(reason)
        self.response = response


class Session(requests.Session):
    """A session that follows redirects to HTTPS only."""

    def __init__(self, transfer: Transfer) -> None:
        super().__init__()
        self._transfer = transfer
        self.max_redirects = transfer.max_redirects
        self.headers["User-Agent"] = f"recbole-hellm/{package_version()}"
        # otherwise a server may pack the bytes again, and neither range nor checksum would be those of the file
        self.headers["Accept-Encoding"] = "identity"

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Return where ``resp`` points to.

        Raises:
            DataError: If that is not HTTPS.
        """
        target: str | None = super().get_redirect_target(resp)
        if target is not None:
            check_address(requests.compat.urljoin(resp.url, target), self._transfer, f"{resp.url} redirects to ")
        return target


def check_address(url: str, transfer: Transfer, prefix: str = "") -> None:
    """Refuse an address that is not ``https://``.

    Raises:
        DataError: Naming the address.
    """
    parts = urlsplit(url)
    local = parts.scheme == "http" and parts.hostname in _LOCAL and transfer.allow_local_http
    if parts.scheme != "https" and not local:
        raise DataError(f"{prefix}{url}: only https:// addresses are downloaded: get the file by hand if you trust it")


class Part:
    """The unfinished file beside its target and what is known of its origin."""

    def __init__(self, target: Path) -> None:
        self.path = target.with_name(f".{target.name}.part")
        self._facts_path = target.with_name(f".{target.name}.part.json")

    @property
    def size(self) -> int:
        """Bytes that are there."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def facts(self) -> dict[str, Any]:
        """Return address, ETag and date of the first bytes; empty if they are not known."""
        with suppress(OSError, ValueError):
            facts = json.loads(self._facts_path.read_text(encoding="utf-8"))
            return facts if isinstance(facts, dict) else {}
        return {}

    def start(self, url: str, response: requests.Response) -> None:
        """Begin an empty file and note what identifies its source."""
        etag = response.headers.get("ETag", "")
        facts = {
            "url": url,
            "etag": "" if etag.startswith("W/") else etag,  # a weak one does not vouch for the bytes
            "modified": response.headers.get("Last-Modified", ""),
        }
        self.path.write_bytes(b"")
        self._facts_path.write_text(json.dumps(facts), encoding="utf-8")

    def remove(self) -> None:
        """Delete both files."""
        self.path.unlink(missing_ok=True)
        self._facts_path.unlink(missing_ok=True)


def attempt(session: Session, file: RemoteFile, part: Part, transfer: Transfer) -> dict[str, Any]:
    """Receive what is missing of ``file`` into ``part``; return its ETag and date.

    Raises:
        Passing: If another attempt makes sense; what was received stays in ``part``.
        DataError: If none does.
        OSError: If the disk cannot be written to.
    """
    headers = _range_headers(file, part)
    timeout = (transfer.connect_seconds, transfer.stall_seconds)
    try:
        with session.get(file.url, headers=headers, timeout=timeout, stream=True) as response:
            _check_status(file, part, response)
            if response.status_code == 416:
                return part.facts()  # all of it is there
            total = _open_at(file, part, response)
            _receive(file, part, response, total)
    except requests.TooManyRedirects as error:
        raise DataError(f"{file.url}: more than {transfer.max_redirects} redirects: get {file.name} by hand") from error
    except requests.exceptions.SSLError as error:
        raise DataError(
            f"{file.url}: the certificate is not trusted ({_root(error)}); behind a company proxy set "
            "REQUESTS_CA_BUNDLE to its certificate file"
        ) from error
    except (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError) as error:
        raise Passing(_root(error)) from error
    except requests.RequestException as error:
        raise DataError(f"{file.url}: cannot be requested ({_root(error)}); check the proxy settings") from error
    return part.facts()


def _root(error: BaseException) -> str:
    """Return the innermost reason of a chain of network errors, as one line."""
    while True:
        reason = getattr(error, "reason", None)
        inner = (
            reason
            if isinstance(reason, BaseException)
            else next((argument for argument in error.args if isinstance(argument, BaseException)), None)
        )
        if inner is None:
            text = str(error.args[0]) if error.args and len(error.args) == 1 else str(error)
            return " ".join((text or type(error).__name__).split())[:200]
        error = inner


def _range_headers(file: RemoteFile, part: Part) -> dict[str, str]:
    """Ask for the rest only if it can be made sure that it is the rest of the same file."""
    facts, size = part.facts(), part.size
    validator = facts.get("etag") or facts.get("modified")
    if size == 0 or facts.get("url") != file.url or not (validator or file.sha256):
        return {}
    return {"Range": f"bytes={size}-", **({"If-Range": validator} if validator else {})}


def _check_status(file: RemoteFile, part: Part, response: requests.Response) -> None:
    """Tell good answers from passing and final failures."""
    status = response.status_code
    if status in _PASSING:
        raise Passing(f"the server answered {status} {response.reason}", response.raw)
    if status == 416:
        if response.headers.get("Content-Range", "").strip() != f"bytes */{part.size}" or part.size == 0:
            part.remove()
            raise Passing("the server refused the range, so the file is fetched from its start")
        return
    if status not in (200, 206):
        raise DataError(f"{file.url}: the server answered {status} {response.reason}: the file may have moved")
    kind = response.headers.get("Content-Type", "").lower()
    if kind.startswith(("text/html", "application/xhtml")):
        raise DataError(f"{file.url}: the server sent a web page instead of {file.name}: a login page or a moved file")


def _open_at(file: RemoteFile, part: Part, response: requests.Response) -> int | None:
    """Make ``part`` ready for the body of ``response``; return the size of the whole file where it is known."""
    length = response.headers.get("Content-Length", "")
    rest = int(length) if length.isdecimal() else None
    if response.status_code == 206:
        given = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", response.headers.get("Content-Range", "").strip())
        if given is None or int(given[1]) != part.size:
            part.remove()
            raise Passing("the server sent another range than asked for")
        total = int(given[3]) if given[3] != "*" else None
    else:
        total = rest
        part.start(file.url, response)
    if total is not None and total > file.max_bytes:
        part.remove()
        raise DataError(f"{file.url}: {total} bytes; at most {file.max_bytes} are taken: the file was replaced")
    free = shutil.disk_usage(part.path.parent).free
    if total is not None and total - part.size > free:
        raise DataError(f"{part.path.parent}: {total - part.size} bytes are needed for {file.name}, {free} are free")
    return total


def _receive(file: RemoteFile, part: Part, response: requests.Response, total: int | None) -> None:
    """Append the body to ``part``."""
    bar = tqdm(total=total, initial=part.size, desc=file.name, unit="B", unit_scale=True, disable=None)
    with bar, part.path.open("ab") as out:
        # bytes as they are on the wire: a server that labels a .gz file 'Content-Encoding: gzip' must not unpack it
        while data := response.raw.read1(_CHUNK, decode_content=False):
            out.write(data)
            bar.update(len(data))
            if out.tell() > file.max_bytes:
                break
    if part.size > file.max_bytes:
        part.remove()
        raise DataError(f"{file.url}: more than {file.max_bytes} bytes: the file was replaced")
    if total is not None and part.size != total:
        raise Passing(f"the connection ended after {part.size} of {total} bytes")
