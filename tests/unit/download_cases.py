"""What the tests of downloads share: a file, a patient-enough setting, a server that follows a script."""

import gzip
import hashlib
import random

import pytest
from download_server import Script, serving

from recbole_hellm.data import download as module
from recbole_hellm.data.download import RemoteFile, Transfer, download
from recbole_hellm.errors import DataError

BODY = gzip.compress(random.Random(0).randbytes(100_000), mtime=0)
DIGEST = hashlib.sha256(BODY).hexdigest()
QUICK = Transfer(
    attempts=4,
    backoff_seconds=0.01,
    jitter_seconds=0.01,
    stall_seconds=20,
    connect_seconds=2,
    max_wait_seconds=2,
    allow_local_http=True,
)


def go_online(monkeypatch):
    """Forget what the machine says of proxies and of being offline."""
    for name in (*module.OFFLINE_VARIABLES, "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def getter(folder):
    """Download ``data.gz`` from a server that does the given steps; returns path and the requests it saw."""

    def run(*steps, body=BODY, sha256=DIGEST, max_bytes=10_000_000, name="data.gz", transfer=QUICK):
        script = Script(body, *steps)
        with serving(script) as address:
            file = RemoteFile(name, f"{address}/{name}", max_bytes, sha256)
            return download(file, folder, transfer), script.requests

    return run


def refused(get, *steps, **options):
    with pytest.raises(DataError) as caught:
        get(*steps, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def names(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def ranges(requests):
    return [headers.get("Range") for _, headers in requests]
