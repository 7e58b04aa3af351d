import gzip
import json
from dataclasses import replace

import pytest
from download_cases import BODY, DIGEST, QUICK, getter, go_online, names, ranges, refused
from download_server import Script, cut, sends, serving, stall, status, whole

from recbole_hellm.data.download import RemoteFile, Transfer, download
from recbole_hellm.errors import DataError


@pytest.fixture(autouse=True)
def online(monkeypatch):
    go_online(monkeypatch)


@pytest.fixture
def get(tmp_path):
    return getter(tmp_path)


def test_a_file_is_complete_recorded_and_not_fetched_twice(get, tmp_path):
    path, requests = get(whole)
    assert path.read_bytes() == BODY
    assert names(tmp_path) == ["data.gz", "downloads.json"]
    record = json.loads((tmp_path / "downloads.json").read_text())["data.gz"]
    assert (record["sha256"], record["bytes"], record["etag"]) == (DIGEST, len(BODY), '"v1"')
    assert record["url"].endswith("/data.gz")
    assert requests[0][1]["Accept-Encoding"] == "identity"
    assert requests[0][1]["User-Agent"].startswith("recbole-hellm/")
    assert len(requests) == 1
    assert get(status(500))[1] == []


def test_a_cut_download_goes_on_where_it_ended(get):
    path, requests = get(cut(30_000), cut(20_000), whole)
    assert path.read_bytes() == BODY
    assert ranges(requests) == [None, "bytes=30000-", "bytes=50000-"]
    assert [headers.get("If-Range") for _, headers in requests] == [None, '"v1"', '"v1"']


def test_progress_renews_the_attempts(get):
    path, requests = get(*[cut(9_000)] * 9, whole)
    assert path.read_bytes() == BODY
    assert len(requests) == 10


def test_a_stalled_download_is_cut_and_goes_on(get):
    path, requests = get(stall(10_000), whole, transfer=replace(QUICK, stall_seconds=0.4))
    assert path.read_bytes() == BODY
    assert list(dict.fromkeys(ranges(requests))) == [None, "bytes=10000-"]


def test_a_failed_download_keeps_its_part_for_the_next_call(get, tmp_path):
    message = refused(get, cut(40_000), status(503))
    assert "503" in message
    assert "4 times without progress: run the command again to go on, or put into" in message
    assert names(tmp_path) == [".data.gz.part", ".data.gz.part.json"]
    part = tmp_path / ".data.gz.part.json"
    script = Script(BODY, whole)
    with serving(script) as address:
        part.write_text(json.dumps({**json.loads(part.read_text()), "url": f"{address}/data.gz"}))
        file = RemoteFile("data.gz", f"{address}/data.gz", 10_000_000, DIGEST)
        assert download(file, tmp_path, QUICK).read_bytes() == BODY
    assert ranges(script.requests) == ["bytes=40000-"]
    assert names(tmp_path) == ["data.gz", "downloads.json"]


def test_a_part_of_another_address_is_not_continued(get, tmp_path):
    refused(get, cut(40_000), status(503))
    path, requests = get(whole)  # another port
    assert path.read_bytes() == BODY
    assert ranges(requests) == [None]


def test_a_changed_file_starts_again(get):
    other = gzip.compress(b"another edition" * 1000, mtime=0)
    path, requests = get(cut(5_000), sends(etag='"v2"', body=other), sha256=None)
    assert path.read_bytes() == other
    assert ranges(requests) == [None, "bytes=5000-"]


def test_a_server_without_ranges_starts_again(get):
    path, requests = get(cut(30_000), sends(ranges=False))
    assert path.read_bytes() == BODY
    assert len(requests) == 2


def test_without_etag_and_checksum_nothing_is_continued(get):
    path, requests = get(cut(30_000, etag=None), sends(etag=None), sha256=None)
    assert path.read_bytes() == BODY
    assert ranges(requests) == [None, None]


def test_without_etag_a_known_checksum_allows_to_continue(get):
    path, requests = get(cut(30_000, etag=None), sends(etag=None))
    assert path.read_bytes() == BODY
    assert ranges(requests) == [None, "bytes=30000-"]


def test_a_complete_part_is_taken_after_416(get):
    path, requests = get(cut(len(BODY), length=False, ranges=False), whole)
    assert path.read_bytes() == BODY
    assert len(requests) == 1

    def more_promised(handler, script):
        handler.send_response(200)
        handler.send_header("ETag", '"v1"')
        handler.send_header("Content-Length", str(len(BODY) + 5))
        handler.end_headers()
        handler.wfile.write(BODY)

    path.unlink()
    path, requests = get(more_promised, whole)
    assert path.read_bytes() == BODY
    assert ranges(requests) == [None, f"bytes={len(BODY)}-"]


def test_a_refused_range_starts_again(get):
    path, requests = get(cut(30_000), status(416, Content_Range="bytes */7"), whole)
    assert path.read_bytes() == BODY
    assert ranges(requests) == [None, "bytes=30000-", None]


def test_a_wrong_range_is_not_glued_on(get):
    def shifted(handler, script):
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes 100-{len(BODY) - 1}/{len(BODY)}")
        handler.send_header("Content-Length", str(len(BODY) - 100))
        handler.end_headers()
        handler.wfile.write(BODY[100:])

    path, requests = get(cut(30_000), shifted, whole)
    assert path.read_bytes() == BODY
    assert len(requests) == 3


def test_a_file_labelled_as_packed_is_not_unpacked(get):
    def labelled(handler, script):
        handler.send_response(200)
        handler.send_header("Content-Encoding", "gzip")
        handler.send_header("Content-Length", str(len(BODY)))
        handler.end_headers()
        handler.wfile.write(BODY)

    assert get(labelled)[0].read_bytes() == BODY


def test_passing_answers_are_repeated(get):
    path, requests = get(status(500), status(502), status(429), whole)
    assert path.read_bytes() == BODY
    assert len(requests) == 4


def test_retry_after_is_obeyed(get, monkeypatch):
    waited = []
    monkeypatch.setattr("time.sleep", waited.append)
    get(status(429, Retry_After="1"), status(503, Retry_After="never"), whole)
    assert waited[0] == 1
    assert all(seconds < 1 for seconds in waited[1:])


def test_a_long_retry_after_ends_the_download(get):
    assert "asks to wait 3600 s: come back then, or run the command again to go on, or put" in refused(
        get, status(429, Retry_After="3600")
    )


def test_waits_grow_and_have_jitter(tmp_path, monkeypatch):
    waited = []
    monkeypatch.setattr("time.sleep", waited.append)
    script = Script(BODY, status(500))
    patient = Transfer(attempts=6, backoff_seconds=1, jitter_seconds=0.5, max_wait_seconds=5, allow_local_http=True)
    with serving(script) as address, pytest.raises(DataError):
        download(RemoteFile("a", f"{address}/a", 10), tmp_path, patient)
    assert len(script.requests) == 6
    assert all(low <= wait <= low + 0.5 for low, wait in zip((2, 4), waited, strict=False))
    assert waited[2:] == [5, 5]
    assert not any(wait.is_integer() for wait in map(float, waited[:2]))
