import re
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from test_data_images import photo

from recbole_hellm.data.image_download import Patience, download_images, image_file, read_addresses
from recbole_hellm.errors import DataError

FAST = Patience(connect_seconds=2, stall_seconds=20, total_seconds=9, attempts=3, backoff_seconds=0.01, max_bytes=5000)
HASTY = {"stall": replace(FAST, stall_seconds=0.3), "drip": replace(FAST, total_seconds=1)}


BODIES = {"large": b"\xff\xd8" * 5000, "page": b"<html>", "empty": b""}
MOVED = {"moved": "/good.jpg", "file": "file:///etc/hostname"}


class Handler(BaseHTTPRequestHandler):
    """Behaves as the path says."""

    def log_message(self, *_):
        pass

    def do_GET(self):  # noqa: N802
        count = self.server.seen[self.path] = self.server.seen.get(self.path, 0) + 1
        kind = self.path.strip("/").split(".")[0]
        if kind in MOVED:
            self.send_response(302)
            self.send_header("Location", MOVED[kind])
            self.end_headers()
        elif kind == "gone" or (kind == "busy" and count == 1):
            self.send_error(404 if kind == "gone" else 503)
        else:
            self.send_body(kind, BODIES.get(kind, photo()))

    def send_body(self, kind, data):
        self.send_response(200)
        if kind not in ("stall", "drip"):
            self.send_header("Content-Length", str(len(data) + (50 if kind == "cut" else 0)))
        self.end_headers()
        if kind == "stall":
            time.sleep(1)
        elif kind == "drip":
            for _ in range(20):
                self.wfile.write(b"\xff")
                self.wfile.flush()
                time.sleep(0.1)
        else:
            self.wfile.write(data)


@pytest.fixture
def server():
    """Address of a server and how often each path was asked for."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.seen, server.handle_error = {}, lambda *_: None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", server.seen
    server.shutdown()
    server.server_close()


def test_pictures_are_fetched_once(server, tmp_path):
    address, seen = server
    addresses = {"a/1": f"{address}/good.jpg", "b": f"{address}/moved.jpg", "c": f"{address}/busy.jpg"}
    assert download_images(addresses, tmp_path / "images", FAST) == {}
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == ["a%2F1.jpg", "b.jpg", "c.jpg"]
    assert image_file(tmp_path / "images", "a/1").read_bytes() == photo()
    before = dict(seen)
    assert download_images(addresses, tmp_path / "images", FAST) == {}
    assert seen == before


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("gone", "answered 404"),
        ("large", "more than 5000 bytes"),
        ("page", "is no JPEG"),
        ("empty", "is no JPEG"),
        ("cut", "ended early|no connection"),
        ("stall", "no connection"),
        ("drip", "longer than 1 s"),
        ("file", "cannot be requested"),
    ],
)
def test_what_fails_leaves_nothing_and_says_why(server, tmp_path, path, reason, caplog):
    addresses, patience = {"a": f"{server[0]}/{path}.jpg", "b": f"{server[0]}/good.jpg"}, HASTY.get(path, FAST)
    failed = download_images(addresses, tmp_path / "i", patience)
    assert list(failed) == ["a"]
    assert re.search(reason, failed["a"])
    assert [file.name for file in (tmp_path / "i").iterdir()] == ["b.jpg"]
    assert f"1 not fetched: {failed['a']}" in caplog.text


def test_no_server_and_no_disk(tmp_path):
    assert "no connection" in download_images({"a": "http://127.0.0.1:9/x.jpg"}, tmp_path, FAST)["a"]
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="pictures cannot be written"):
        download_images({}, tmp_path / "file" / "images", FAST)


def test_lists_of_addresses(tmp_path):
    path = tmp_path / "x.tsv"
    path.write_text("item_id\turl\n7\thttps://x.org/a.jpg\n8\thttp://x.org/b.jpg\n")
    assert read_addresses(path) == {"7": "https://x.org/a.jpg", "8": "http://x.org/b.jpg"}
    for text, message in [
        ("7\thttps://x.org/a\n8\tfile:///etc/passwd\n", ":2: expected 'item<TAB>http"),
        ("7\thttps://x.org/a\n7\thttps://x.org/b\n", ":2: item '7' comes a second time"),
        ("7\thttps://x.org/a\nno tab\n", ":2: expected"),
        ("item\turl\n", "no line with an address"),
    ]:
        path.write_text(text)
        with pytest.raises(DataError, match=message):
            read_addresses(path)
