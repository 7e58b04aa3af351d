import re
import shutil
from dataclasses import replace
from hashlib import sha256

import pytest
from download_cases import QUICK, go_online
from download_server import Script, serving, whole
from sources import amazon2014_source

from recbole_hellm import cli
from recbole_hellm.data import origins
from recbole_hellm.data import prepare as module
from recbole_hellm.data.origins import ORIGINS, fetch_origin
from recbole_hellm.data.prepare import DATASETS, prepare
from recbole_hellm.data.published import PUBLISHED, as_sequences, compare_with_published
from recbole_hellm.data.records import Counts
from recbole_hellm.data.sources.detect import FORMATS
from recbole_hellm.errors import DataError

NAME = "amazon-beauty"


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A small public original of ``amazon-beauty`` on this machine; gives its server."""
    go_online(monkeypatch)
    monkeypatch.setenv("RECBOLE_HELLM_DOWNLOADS", str(tmp_path / "downloads"))
    reviews = [
        {"reviewerID": f"U{u}", "asin": f"A{i}", "overall": 5.0, "unixReviewTime": 1_300_000_000 + 90_000 * (5 * u + i)}
        for u in range(5)
        for i in range(5)
    ]
    source = amazon2014_source(tmp_path / "public", [{**row, "helpful": [0, 0]} for row in reviews])
    files = {f"/{path.name.replace('y.json', 'y_5.json') if 'reviews' in path.name else path.name}": path.read_bytes()
             for path in source.iterdir()}  # fmt: skip

    def by_path(handler, script):
        whole(handler, script, body=files[handler.path])

    script = Script(b"", by_path)
    with serving(script) as address:
        origin = ORIGINS[NAME]
        local = tuple(replace(file, url=f"{address}/{file.name}") for file in origin.files)
        monkeypatch.setitem(ORIGINS, NAME, replace(origin, files=local))
        monkeypatch.setitem(DATASETS, NAME, replace(DATASETS[NAME], expected=Counts(5, 5, 25)))
        monkeypatch.setattr(origins, "fetch", lambda files, folder, transfer: fetch_local(files, folder))
        yield script


def fetch_local(files, folder):
    from recbole_hellm.data.download import fetch

    return fetch(files, folder, QUICK)


def test_prepare_without_a_source_downloads_the_public_original(served, tmp_path, caplog):
    caplog.set_level("INFO")
    folder = prepare(NAME, None, tmp_path / "out", missing_text="empty")
    assert sorted(path for path, _ in served.requests) == ["/meta_Beauty.json.gz", "/reviews_Beauty_5.json.gz"]
    assert (folder / f"{NAME}.inter").read_text().count("\n") == 26
    names = sorted(path.name for path in (tmp_path / "downloads" / NAME).iterdir() if path.suffix != ".lock")
    assert names == ["downloads.json", "meta_Beauty.json.gz", "reviews_Beauty_5.json.gz"]
    said = [record.getMessage() for record in caplog.records]
    first = next(place for place, line in enumerate(said) if line.startswith("downloaded "))
    assert "public original (https://" in said[0]
    assert "cite McAuley" in said[0]
    assert sum(line.startswith("to download: http") for line in said[:first]) == 2


def test_what_is_there_is_not_downloaded_again(served, tmp_path, monkeypatch):
    folder = prepare(NAME, None, tmp_path / "out", missing_text="empty")
    seen = len(served.requests)
    shutil.rmtree(tmp_path / "downloads")
    assert prepare(NAME, None, tmp_path / "out", missing_text="empty") == folder
    assert len(served.requests) == seen
    prepare(NAME, None, tmp_path / "other", missing_text="empty")
    assert len(served.requests) == seen + 2
    monkeypatch.setenv("RECBOLE_HELLM_OFFLINE", "1")
    prepare(NAME, None, tmp_path / "third", missing_text="empty")
    (folder / f"{NAME}.inter").open("a").write("x")
    with pytest.raises(DataError, match=r"exists and differs .*--force"):
        prepare(NAME, None, tmp_path / "out", missing_text="empty")
    prepare(NAME, None, tmp_path / "out", force=True, missing_text="empty")
    assert len(served.requests) == seen + 2


def test_another_original_is_not_taken_for_the_known_one(served, tmp_path, monkeypatch):
    monkeypatch.setitem(DATASETS, NAME, replace(DATASETS[NAME], expected=Counts(5, 5, 26)))
    with pytest.raises(DataError, match=f"data set {NAME}: expected Counts"):
        prepare(NAME, None, tmp_path / "out", missing_text="empty")
    assert not (tmp_path / "out" / NAME).exists()


@pytest.mark.parametrize("variable", ["RECBOLE_HELLM_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_the_command_names_files_and_places_in_one_line(tmp_path, monkeypatch, capsys, variable):
    monkeypatch.setenv("RECBOLE_HELLM_DOWNLOADS", str(tmp_path / "downloads"))
    monkeypatch.setenv(variable, "1")
    assert cli.main(["prepare", "amazon-sports", "--output", str(tmp_path / "out")]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    base = "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles"
    for name in ("reviews_Sports_and_Outdoors_5.json.gz", "meta_Sports_and_Outdoors.json.gz"):
        assert f"{name} from {base}/{name}" in err
    assert f"put into {tmp_path / 'downloads' / 'amazon-sports'}: " in err
    assert not (tmp_path / "out").exists()


def test_an_unknown_name_has_no_original(tmp_path):
    with pytest.raises(
        DataError, match=r"no public original of 'amazon-sport' is known \(did you mean 'amazon-sports'"
    ):
        fetch_origin("amazon-sport", tmp_path)


def test_the_table_of_origins_is_complete():
    assert set(ORIGINS) == set(module.DATASETS) - {"ml-100k"}  # which comes with recbole
    addresses = [file.url for origin in ORIGINS.values() for file in origin.files]
    assert len(addresses) == len(set(addresses)) == 6
    for origin in ORIGINS.values():
        assert origin.format in FORMATS
        assert origin.home.startswith("https://")
        assert origin.licence
        assert origin.cite
        for file in origin.files:
            assert file.url.startswith("https://")
            assert file.url.endswith(f"/{file.name}")
            assert file.about


def test_published_sequences_are_known_whatever_the_ids_are_called(tmp_path, monkeypatch):
    path = tmp_path / "x.inter"
    head = "user_id:token\titem_id:token\ttimestamp:float\n"
    path.write_text(head + "u9\tB\t2\nu9\tA\t1\nu1\tC\t5\nu9\tC\t2\nu1\tA\t6\n")
    assert as_sequences(path) == "1 1 2 3\n2 3 1\n"
    counts = Counts(2, 3, 5)
    assert compare_with_published(path, counts) == ""
    monkeypatch.setitem(PUBLISHED, counts, ("Tiny.txt", sha256(b"1 1 2 3\n2 3 1\n").hexdigest()))
    assert compare_with_published(path, counts) == "the same sequences as S3-Rec's Tiny.txt"
    path.write_text(head + "a\tB\t1\na\tA\t2\nb\tC\t5\na\tC\t2\nb\tB\t6\n")  # other ids, another place for user b
    assert compare_with_published(path, counts).startswith("the same")
    path.write_text(head + "a\tB\t1\na\tC\t2\nb\tA\t5\na\tA\t2\nb\tA\t6\n")
    assert compare_with_published(path, counts) == "other sequences than S3-Rec's Tiny.txt"
    digests = [digest for _, digest in PUBLISHED.values()]
    assert len(set(digests)) == len(digests)
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in digests)
