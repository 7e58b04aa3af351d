import json
import ssl
import subprocess
from itertools import pairwise

import pytest
from download_cases import BODY, DIGEST, QUICK, getter, go_online, names, ranges, refused
from download_server import Script, cut, sends, serving, status, whole
from filelock import FileLock

from recbole_hellm.data import download as module
from recbole_hellm.data.download import RemoteFile, Transfer, download, fetch
from recbole_hellm.errors import DataError


@pytest.fixture(autouse=True)
def online(monkeypatch):
    go_online(monkeypatch)


@pytest.fixture
def get(tmp_path):
    return getter(tmp_path)


def flipped(body):
    return body[:500] + bytes([body[500] ^ 1]) + body[501:]


def test_a_corrupted_download_is_fetched_once_more(get):
    path, requests = get(sends(body=flipped(BODY)), whole)
    assert path.read_bytes() == BODY
    assert ranges(requests) == [None, None]


@pytest.mark.parametrize(
    ("sha256", "message"),
    [(DIGEST, f"sha256 must be {DIGEST}, got "), (None, "no complete gzip (")],
)
def test_a_file_that_stays_corrupted_is_refused(get, tmp_path, sha256, message):
    said = refused(get, sends(body=flipped(BODY)), sha256=sha256)
    assert message in said
    assert "2 times: the file is broken or was replaced there" in said
    assert names(tmp_path) == []


def test_a_gzip_cut_without_a_length_is_noticed(get):
    said = refused(get, cut(20_000, length=False), sha256=None)
    assert "no complete gzip (Compressed file ended" in said


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (status(404), "the server answered 404 Not Found: the file may have moved"),
        (status(403), "403 Forbidden"),
        (sends(kind="text/html; charset=utf-8", body=b"<p>hello"), "sent a web page instead of data.gz"),
    ],
)
def test_final_answers_are_not_repeated(get, tmp_path, step, message):
    script = Script(BODY, step)
    with serving(script) as address, pytest.raises(DataError) as caught:
        download(RemoteFile("data.gz", f"{address}/data.gz", 10_000_000), tmp_path, QUICK)
    assert message in str(caught.value)
    assert len(script.requests) == 1
    assert names(tmp_path) == []


def test_a_web_page_labelled_as_data_is_refused(get):
    page = b"\n<!DOCTYPE html><html>log in</html>"
    assert "the server sent a web page, 2 times" in refused(get, sends(body=page), sha256=None)
    assert "the server sent a web page, 2 times" in refused(get, sends(body=page), name="x.txt")


def test_redirects_are_followed_up_to_a_limit(get):
    path, requests = get(status(302, Location="/b"), status(301, Location="/c"), whole)
    assert path.read_bytes() == BODY
    assert [where for where, _ in requests] == ["/data.gz", "/b", "/c"]
    path.unlink()
    assert "more than 5 redirects" in refused(get, status(302, Location="/again"))


def test_only_https_and_this_machine_on_request(get, tmp_path):
    for url in ("http://example.org/a", "ftp://example.org/a", "file:///etc/passwd", "example.org/a"):
        with pytest.raises(DataError, match="only https:// addresses are downloaded"):
            download(RemoteFile("a", url, 10), tmp_path, QUICK)
    with pytest.raises(DataError, match="only https://"):
        download(RemoteFile("a", "http://127.0.0.1:1/a", 10), tmp_path, Transfer())
    said = refused(get, status(302, Location="http://example.org/data.gz"))
    assert "/data.gz redirects to http://example.org/data.gz: only https:// addresses" in said
    assert "file:///etc/passwd: only https" in refused(get, status(302, Location="file:///etc/passwd"))


@pytest.fixture
def https(tmp_path_factory):
    """An SSL context and its self-signed certificate."""
    folder = tmp_path_factory.mktemp("tls")
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
        + ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        capture_output=True,
        check=False,
    )
    if made.returncode:
        pytest.skip("no openssl to make a certificate")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context, folder / "cert.pem"


def test_https_is_verified_and_not_left(https, tmp_path, monkeypatch):
    context, certificate = https
    strict = Transfer(attempts=2, backoff_seconds=0.01, jitter_seconds=0)
    with serving(Script(BODY, whole, status(302, Location="http://127.0.0.1:9/a")), context) as address:
        file = RemoteFile("a.gz", f"{address}/a.gz", 10_000_000, DIGEST)
        with pytest.raises(DataError, match=r"certificate is not trusted .*REQUESTS_CA_BUNDLE"):
            download(file, tmp_path, strict)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        path = download(file, tmp_path, strict)
        assert path.read_bytes() == BODY
        path.unlink()
        with pytest.raises(DataError, match=r"redirects to http://127.0.0.1:9/a: only https"):
            download(file, tmp_path, strict)


@pytest.mark.parametrize("length", [True, False])
def test_too_large_is_refused_early(get, tmp_path, length):
    said = refused(get, sends(length=length), max_bytes=1_000)
    assert "1000 " in said
    assert "the file was replaced" in said
    assert names(tmp_path) == []


def test_too_large_for_the_disk_is_refused_before(get, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10})())
    assert f"{len(BODY)} bytes are needed for data.gz, 10 are free" in refused(get, whole)


def test_a_full_disk_is_one_line(get, disk_full, tmp_path):
    with disk_full(20_000):
        said = refused(get, whole)
    assert "cannot write" in said
    assert "free space or set RECBOLE_HELLM_DOWNLOADS" in said
    assert "data.gz" not in names(tmp_path)


def test_no_server_says_how_to_do_it_by_hand(tmp_path):
    file = RemoteFile("data.gz", "http://127.0.0.1:9/data.gz", 10)
    with pytest.raises(DataError) as caught:
        download(file, tmp_path, QUICK)
    assert f"put into {tmp_path}: data.gz from http://127.0.0.1:9/data.gz" in str(caught.value)
    assert "refused" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_proxy_of_the_environment_is_used(tmp_path, monkeypatch):
    script = Script(BODY, whole)
    with serving(script) as proxy:
        monkeypatch.setenv("http_proxy", proxy)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        download(RemoteFile("a.gz", "http://localhost:9/a.gz", 10_000_000, DIGEST), tmp_path, QUICK)
    assert script.requests[0][0] == "http://localhost:9/a.gz"


@pytest.mark.parametrize("variable", module.OFFLINE_VARIABLES)
def test_offline_names_every_file_and_its_place(tmp_path, monkeypatch, variable):
    monkeypatch.setenv(variable, "1")
    files = [RemoteFile(name, f"https://example.org/{name}", 10) for name in ("a.txt", "b.txt", "c.txt")]
    (tmp_path / "b.txt").write_text("by hand")
    with pytest.raises(DataError) as caught:
        fetch(files, tmp_path, QUICK)
    assert str(caught.value) == (
        f"{variable}=1 forbids downloads; put into {tmp_path}: a.txt from https://example.org/a.txt, "
        f"c.txt from https://example.org/c.txt, or unset {variable}=1"
    )
    for name in ("a.txt", "c.txt"):
        (tmp_path / name).write_text("by hand too")
    assert fetch(files, tmp_path, QUICK) == [tmp_path / name for name in ("a.txt", "b.txt", "c.txt")]


def test_files_put_there_by_hand_are_checked(get, tmp_path):
    (tmp_path / "data.gz").write_bytes(BODY[:-20])
    assert f"data.gz: sha256 must be {DIGEST}, got" in refused(get, status(500))
    assert "no complete gzip" in refused(get, status(500), sha256=None)
    (tmp_path / "data.gz").write_bytes(BODY)
    get(status(500), sha256=None)
    assert json.loads((tmp_path / "downloads.json").read_text())["data.gz"]["url"] == "put there by hand"
    (tmp_path / "data.gz").write_bytes(flipped(BODY))
    assert "delete it and fetch it again" in refused(get, status(500), sha256=None)


def test_two_processes_do_not_write_one_file(get, tmp_path):
    with FileLock(tmp_path / ".data.gz.lock"):
        assert "is being downloaded by another process" in refused(get, whole)


def test_what_is_downloaded_is_said_first(tmp_path, caplog):
    caplog.set_level("INFO")
    script = Script(BODY, whole)
    with serving(script) as address:
        files = [RemoteFile(name, f"{address}/{name}", 10_000_000, about="5-core") for name in ("a.gz", "b.gz")]
        fetch(files, tmp_path, QUICK)
    said = [record.getMessage().split()[0:2] for record in caplog.records]
    assert said == [["to", "download:"], ["to", "download:"], ["downloaded", said[2][1]], ["downloaded", said[3][1]]]
    assert all(one != other for one, other in pairwise(record.getMessage() for record in caplog.records))
