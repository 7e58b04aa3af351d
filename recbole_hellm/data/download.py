"""Downloads files over HTTPS: resumed, checked, repeated on failure, and visible only when complete."""

import gzip
import json
import os
import zlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from logging import getLogger
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from urllib3.exceptions import HTTPError, MaxRetryError
from urllib3.util import Retry

from recbole_hellm.artifacts import file_digest, write_atomically
from recbole_hellm.data.http_get import Part, Passing, RemoteFile, Session, Transfer, attempt, check_address
from recbole_hellm.errors import DataError

__all__ = ["DOWNLOADS_VARIABLE", "OFFLINE_VARIABLES", "RemoteFile", "Transfer", "download", "downloads_dir", "fetch"]

logger = getLogger(__name__)

OFFLINE_VARIABLES = ("RECBOLE_HELLM_OFFLINE", "HF_HUB_OFFLINE")
"""Environment variables that forbid every download when set to 1, true, yes or on."""
DOWNLOADS_VARIABLE = "RECBOLE_HELLM_DOWNLOADS"
_RECORD = "downloads.json"
_CORRUPTED_AT_MOST = 2


def downloads_dir() -> Path:
    """Return the folder of downloads: ``$RECBOLE_HELLM_DOWNLOADS``, else ``~/.cache/recbole_hellm/downloads``."""
    chosen = os.environ.get(DOWNLOADS_VARIABLE)
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "recbole_hellm" / "downloads"


def fetch(files: Iterable[RemoteFile], folder: Path, transfer: Transfer | None = None) -> list[Path]:
    """Return the paths of ``files`` in ``folder``, downloading those that are not there.

    Files that are there are checked against their known or recorded checksum and used, so a file can also be put
    there by hand.

    Raises:
        DataError: If the machine is offline (naming every missing file, its address and its place), or as
            ``download`` does.
    """
    wanted = list(files)
    missing = [file for file in wanted if not (folder / file.name).is_file()]
    forbidden = offline_variable()
    if missing and forbidden:
        raise DataError(f"{forbidden} forbids downloads; {by_hand(missing, folder)}, or unset {forbidden}")
    for file in missing:
        logger.info("to download: %s (%s) to %s", file.url, file.about or file.name, folder)
    return [download(file, folder, transfer) for file in wanted]


def offline_variable() -> str:
    """Return the environment variable that forbids downloads, with its value; ``""`` if none does."""
    for name in OFFLINE_VARIABLES:
        if os.environ.get(name, "").strip().lower() in ("1", "true", "yes", "on"):
            return f"{name}={os.environ[name].strip()}"
    return ""


def by_hand(files: Iterable[RemoteFile], folder: Path) -> str:
    """Say which files to fetch and where to put them, as part of one line."""
    return f"put into {folder}: " + ", ".join(f"{file.name} from {file.url}" for file in files)


def download(file: RemoteFile, folder: Path, transfer: Transfer | None = None) -> Path:
    """Return ``folder/file.name``, downloaded unless it is there.

    An interrupted download leaves ``.NAME.part`` and goes on from there at the next call if the server still has the
    same file. The proxy of ``HTTPS_PROXY``, ``ALL_PROXY`` and ``NO_PROXY`` is used.

    Raises:
        DataError: In one line with the way out: no network, the file is not there, is too large, is no longer the
            known one, or cannot be written; also if another process is downloading it.
    """
    transfer, target = transfer or Transfer(), folder / file.name
    check_address(file.url, transfer)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{file.name}.lock", timeout=0):
            if target.is_file():
                _check_present(file, target)
                return target
            _download(file, target, transfer)
    except Timeout as error:
        raise DataError(f"{target} is being downloaded by another process: run again when that is done") from error
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"cannot write {target} ({reason}): free space or set {DOWNLOADS_VARIABLE}") from error
    return target


def _download(file: RemoteFile, target: Path, transfer: Transfer) -> None:
    """Repeat attempts until the file is complete and right, then rename it."""
    part = Part(target)
    fresh = retry = Retry(
        total=transfer.attempts - 1,
        backoff_factor=transfer.backoff_seconds,
        backoff_jitter=transfer.jitter_seconds,
        backoff_max=transfer.max_wait_seconds,
    )
    corrupted, most = 0, part.size
    with Session(transfer) as session:
        while True:
            try:
                facts = attempt(session, file, part, transfer)
                if not (wrong := _wrong(file, part.path)):
                    break
                corrupted += 1
                part.remove()
                if corrupted == _CORRUPTED_AT_MOST:
                    raise DataError(f"{file.url}: {wrong}, {corrupted} times: the file is broken or was replaced there")
                raise Passing(wrong)
            except Passing as failure:
                # more bytes than ever are progress: a long download over a poor line is not given up
                retry = _wait(file, target, transfer, fresh if part.size > most else retry, failure)
                most = max(most, part.size)
    digest, size = file_digest(part.path), part.size
    part.path.replace(target)
    part.remove()
    _record(target, {"url": file.url, "sha256": digest, "bytes": size, **_dated(facts)})
    logger.info("downloaded %s: %d bytes, sha256 %s", target, size, digest)


def _wait(file: RemoteFile, target: Path, transfer: Transfer, retry: Retry, failure: Passing) -> Retry:
    """Sleep as long as the server or the back-off says; give up after the last attempt."""
    way_out = f"run the command again to go on, or {by_hand([file], target.parent)}"
    asked = _asked_to_wait(retry, failure.response)
    if asked > transfer.max_wait_seconds:
        message = f"{file.url}: {failure} and asks to wait {asked:.0f} s: come back then, or {way_out}"
        raise DataError(message) from failure
    try:
        retry = retry.increment("GET", file.url, response=failure.response, error=HTTPError(str(failure)))
    except MaxRetryError as error:
        raise DataError(f"{file.url}: {failure}, {transfer.attempts} times without progress: {way_out}") from error
    logger.warning("%s: %s; trying again", file.name, failure)
    retry.sleep(failure.response if asked else None)
    return retry


def _asked_to_wait(retry: Retry, response: Any) -> float:
    """Return the seconds of the header ``Retry-After``; 0 without one that can be read."""
    try:
        return (retry.get_retry_after(response) or 0.0) if response is not None else 0.0
    except HTTPError:
        return 0.0


def _wrong(file: RemoteFile, path: Path) -> str:
    """Say what is wrong with a complete file; ``""`` if nothing is found."""
    with path.open("rb") as handle:
        head = handle.read(256).lstrip().lower()
    if head.startswith((b"<!doctype html", b"<html")):
        return "the server sent a web page"
    if file.sha256 is not None:
        found = file_digest(path)
        return "" if found == file.sha256 else f"sha256 must be {file.sha256}, got {found}"
    return _broken_gzip(path) if file.name.endswith(".gz") else ""


def _broken_gzip(path: Path) -> str:
    """Unpack to nowhere: gzip carries its own checksum."""
    try:
        with gzip.open(path) as handle:
            while handle.read(1 << 20):
                pass
    except (OSError, EOFError, zlib.error) as error:
        return f"no complete gzip ({error})"
    return ""


def _check_present(file: RemoteFile, target: Path) -> None:
    """Compare a file that is there with its known or recorded checksum; record one that was put there by hand."""
    record = _records(target.parent).get(file.name, {})
    known = file.sha256 or record.get("sha256")
    if known is None:
        if wrong := _wrong(file, target):
            raise DataError(f"{target}: {wrong}: delete it and fetch it again")
        _record(target, {"url": "put there by hand", "sha256": file_digest(target), "bytes": target.stat().st_size})
        return
    found = file_digest(target)
    if found != known:
        raise DataError(f"{target}: sha256 must be {known}, got {found}: delete it and fetch it again")


def _records(folder: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        records = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
        return records if isinstance(records, dict) else {}
    return {}


def _record(target: Path, facts: Mapping[str, Any]) -> None:
    """Note where a file came from and its checksum, in ``downloads.json`` beside it."""
    time = datetime.now(UTC).isoformat(timespec="seconds")
    records = {**_records(target.parent), target.name: {**facts, "time": time}}
    write_atomically(target.with_name(_RECORD), json.dumps(records, indent=2, sort_keys=True) + "\n")


def _dated(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {key: facts[key] for key in ("etag", "modified") if facts.get(key)}
