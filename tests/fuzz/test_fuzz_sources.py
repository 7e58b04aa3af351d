"""Whatever a source holds: a complete data set comes out, or one of our errors with one line; never anything else."""

import gzip
import io
import os
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recbole_hellm.data.manifest import is_prepared
from recbole_hellm.data.prepare import prepare
from recbole_hellm.data.sources.base import SourceOptions
from recbole_hellm.data.sources.records import parse_json, parse_literal
from recbole_hellm.errors import DataError, HellmError

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from sources import CSV_COLUMNS, NO_CORE, SOURCES  # noqa: E402

PIECES = [
    *(b"", b"\n", b"\r", b"\t", b",", b'"', b"'", b"\\", b"\x00", b"\xff", b"\xe2\x80\xa8", b"\xf0\x9f\x98\x80"),
    *(
        b"{",
        b"}",
        b"[" * 300,
        b"]",
        b":",
        b"NaN",
        b"null",
        b"True",
        b"-1",
        b"0",
        b"1e999",
        b"9" * 400,
        b"1399999999999",
    ),
    *(b"\\ud800", b"<!--", b"<![", b"&#x110000;", b"  ", b"[PAD]", b"nan", b"\xef\xbb\xbf", b"\n\n", b"{}\n"),
    *(b"1\t2\t3\n", b"u,a,1\n", b"{'asin': 'A1'}\n"),
]
EXAMPLES = int(os.environ.get("RECBOLE_HELLM_FUZZ", "200"))
QUICK = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)


@st.composite
def damage(draw):
    """Where in which file, how much goes, and what comes instead."""
    piece = (
        st.sampled_from(PIECES)
        | st.binary(max_size=6)
        | st.text(max_size=6).map(lambda text: text.encode("utf-8", "surrogatepass"))
    )
    edits = st.tuples(st.floats(0, 1), st.integers(0, 40), piece)
    return draw(st.integers(0, 9)), draw(st.booleans()), draw(st.lists(edits, min_size=1, max_size=3))


def damaged(data: bytes, edits) -> bytes:
    for where, gone, piece in edits:
        place = int(where * len(data))
        data = data[:place] + piece + data[place + gone :]
    return data


def apply(folder: Path, change) -> None:
    which, packed, edits = change
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    path = files[which % len(files)]
    data = path.read_bytes()
    if path.suffix == ".gz" and not packed:  # the text within, so that the parser behind sees it
        path.write_bytes(gzip.compress(damaged(gzip.decompress(data), edits), mtime=0))
    else:
        path.write_bytes(damaged(data, edits))


def check(run) -> None:
    """Run in a scratch folder: it must end well, or with our error and nothing left."""
    scratch = Path(tempfile.mkdtemp())
    try:
        out = scratch / "out"
        refusal, folder = "", None
        try:
            folder = run(scratch / "source", out)
        except HellmError as error:
            refusal = str(error)
        if folder is None:
            assert refusal
            assert "\n" not in refusal
            assert not out.exists() or list(out.iterdir()) == []
        else:
            assert is_prepared(folder)
            check_tables(folder)
            assert [path.name for path in out.iterdir()] == [folder.name]
    finally:
        shutil.rmtree(scratch)


def check_tables(folder: Path) -> None:
    """Every row has as many cells as the header; times grow within a user."""
    for suffix in (".inter", ".item"):
        rows = [
            line.split("\t")
            for line in (folder / f"{folder.name}{suffix}").read_text(encoding="utf-8").split("\n")[:-1]
        ]
        assert {len(row) for row in rows} == {len(rows[0])}
        if suffix == ".inter":
            times: dict[str, int] = {}
            for user, _, time, _ in rows[1:]:
                assert times.get(user, 0) < int(time)
                times[user] = int(time)


@pytest.mark.parametrize("name", sorted(SOURCES))
@given(change=damage(), missing=st.sampled_from(["error", "empty"]), named=st.booleans())
@QUICK
def test_damaged_sources(name, change, missing, named):
    def run(source, out):
        path = SOURCES[name](source)
        apply(source, change)
        columns = CSV_COLUMNS if name == "csv" else {}
        options = SourceOptions(columns=columns, bad_times="drop" if named else "error", conflicts="first")
        return prepare(
            "mine", path, out, missing_text=missing, format=name if named else None, options=options, filters=NO_CORE
        )

    check(run)


CELLS = st.text(max_size=5) | st.sampled_from(
    ["u", "a", "1", "1400000000", "", '"', "NA", "2014-03-01", "1e300", "-1", "\r\n", "0.1"]
)


@given(
    rows=st.lists(st.lists(CELLS, min_size=1, max_size=5), max_size=6),
    separator=st.sampled_from(list(",;\t|")),
    suffix=st.sampled_from([".csv", ".tsv", ".csv.gz", ".jsonl", ".parquet", ".inter", ".txt"]),
    unit=st.sampled_from(["auto", "row", "ms"]),
)
@QUICK
def test_any_table(rows, separator, suffix, unit):
    def run(source, out):
        source.mkdir()
        text = "\n".join(separator.join(cells) for cells in [["user", "item", "time", "title"], *rows])
        data = text.encode("utf-8", "surrogatepass")
        path = source / f"r{suffix}"
        path.write_bytes(gzip.compress(data) if suffix.endswith(".gz") else data)
        return prepare("mine", path, out, options=SourceOptions(time_unit=unit, bad_times="drop"), filters=NO_CORE)

    check(run)


@pytest.mark.parametrize("kind", [".npy", ".pt"])
@given(where=st.floats(0, 1), gone=st.integers(0, 60), piece=st.binary(max_size=20) | st.sampled_from(PIECES))
@QUICK
def test_damaged_vectors(kind, where, gone, piece):
    def run(source, out):
        path = SOURCES["csv"](source)
        buffer = io.BytesIO()
        if kind == ".npy":
            np.save(buffer, np.arange(4, dtype=np.float32).reshape(2, 2))
        else:
            torch.save(torch.arange(4.0).reshape(2, 2), buffer)
        array = source / f"v{kind}"
        array.write_bytes(damaged(buffer.getvalue(), [(where, gone, piece)]))
        (source / "v.ids.txt").write_text("A\nB\n")
        options = SourceOptions(columns=CSV_COLUMNS, features=(f"image={array}",))
        return prepare("mine", path, out, options=options, filters=NO_CORE)

    check(run)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(-1e9, 1e9) | st.text(max_size=5),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=3), values, max_size=3),
    max_leaves=8,
)


@given(record=st.dictionaries(st.text(max_size=3), VALUES, max_size=3))
@QUICK
def test_what_python_writes_is_read_back(record):
    assert parse_literal(Path("x"), 1, repr(record)) == record


@given(text=st.text(max_size=60) | st.text(alphabet="{}[]()'\"\\:,+-1ejnot ", max_size=60))
@QUICK
def test_any_line(text):
    for parse in (parse_json, parse_literal):
        try:
            found = parse(Path("x"), 1, text)
        except DataError as error:
            found = str(error)
        assert isinstance(found, dict) or found.startswith("x:1: ")
