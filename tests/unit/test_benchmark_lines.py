import json
import multiprocessing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recbole_hellm.benchmark.lines import ResultsFile, check_results_path, load_lines
from recbole_hellm.benchmark.plan import Entry, Plan, Protocol
from recbole_hellm.errors import ArtifactError, ConfigError


def plan(name="p", **changes):
    given = {"entries": (Entry("SASRec"), Entry("GRU4Rec")), "datasets": ("toy",), "seeds": (1, 2)}
    return Plan(name, **{**given, **changes})


PLAN = plan()
CELLS = PLAN.cells()


def ended(cell, status="ok", **more):
    return {**cell.line(), "status": status, "test": {"ndcg@10": 0.5}, **more}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new" / "x.jsonl"


@pytest.fixture
def written(path):
    with ResultsFile(path, PLAN.header()) as results:
        for cell in CELLS:
            results.append(ended(cell))
    return path


def keys(path):
    return [line["cell"] for line in load_lines(path)[1]]


def test_what_is_written_is_read_back(written):
    header, lines = load_lines(written)
    assert header == {**json.loads(json.dumps(PLAN.header())), "missing": [], "others": []}
    assert lines == [json.loads(json.dumps(ended(cell))) for cell in CELLS]
    with ResultsFile(written, PLAN.header()) as results:
        assert list(results.cells.values()) == lines
    assert written.read_text().count("\n") == 1 + len(CELLS)


def test_a_line_is_on_disk_the_moment_it_is_written(path):
    with ResultsFile(path, PLAN.header()) as results:
        assert keys(path) == []
        results.append(ended(CELLS[0]))
        assert keys(path) == [CELLS[0].key]
        assert path.read_bytes().endswith(b"\n")


def test_the_last_line_of_a_cell_counts(written):
    with ResultsFile(written, PLAN.header()) as results:
        results.append(ended(CELLS[0], "failed", error="why"))
        assert results.cells[CELLS[0].key]["status"] == "failed"
    assert [line["status"] for line in load_lines(written)[1]] == ["failed", "ok", "ok", "ok"]


def test_cells_come_in_the_order_of_the_plan_and_others_stay_out(path):
    with ResultsFile(path, PLAN.header()) as results:
        for cell in reversed(CELLS):
            results.append(ended(cell))
    assert keys(path) == [cell.key for cell in CELLS]
    narrow = plan(seeds=(2,))
    with ResultsFile(path, narrow.header()) as results:
        assert len(results.cells) == 4
    assert keys(path) == [cell.key for cell in narrow.cells()]
    with ResultsFile(path, PLAN.header()):
        pass
    assert keys(path) == [cell.key for cell in CELLS]


def test_a_header_without_cells_asks_for_all(written):
    lines = written.read_text().splitlines()
    header = {key: value for key, value in json.loads(lines[0]).items() if key != "cells"}
    written.write_text("\n".join([json.dumps(header), *lines[1:]]) + "\n")
    assert keys(written) == [cell.key for cell in CELLS]


@pytest.mark.parametrize(
    ("other", "text"),
    [
        (plan("q"), "belongs to plan 'p', not to 'q'; give another --results FILE"),
        (plan(protocol=Protocol(minutes=5)), "under another protocol (minutes None there, 5 here)"),
    ],
)
def test_a_file_of_another_plan_is_refused_and_kept(written, other, text):
    before = written.read_bytes()
    with pytest.raises(ArtifactError) as error, ResultsFile(written, other.header()):
        pass
    assert str(written) in str(error.value)
    assert text in str(error.value)
    assert written.read_bytes() == before
    with ResultsFile(written, PLAN.header()):  # the lock was given back
        pass


def test_two_writers_are_refused_by_name(path):
    with ResultsFile(path, PLAN.header()):
        with pytest.raises(ArtifactError, match=r"x.jsonl is being written by plan 'p' \(process \d+\); wait"):
            ResultsFile(path, plan("q").header()).__enter__()
        load_lines(path)  # reading needs no lock
    with ResultsFile(path, PLAN.header()):
        pass


def _hold(path, ready, leave):
    with ResultsFile(path, PLAN.header()):
        ready.set()
        leave.wait(60)


def test_a_writer_in_another_process_is_refused_until_it_is_killed(path):
    context = multiprocessing.get_context("fork")
    ready, leave = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(path, ready, leave))
    other.start()
    assert ready.wait(60)
    with pytest.raises(ArtifactError, match=f"process {other.pid}"):
        ResultsFile(path, PLAN.header()).__enter__()
    other.kill()
    other.join()
    with ResultsFile(path, PLAN.header()):
        pass


def test_a_full_disk_leaves_whole_lines(path, disk_full):
    with ResultsFile(path, PLAN.header()) as results:
        results.append(ended(CELLS[0]))
        before = path.read_bytes()
        with pytest.raises(ArtifactError, match="x.jsonl cannot be written .*File too large.*--results FILE"):  # noqa: SIM117
            with disk_full(len(before) + 40):
                results.append(ended(CELLS[1], text="long " * 500))
        assert path.read_bytes() == before
        assert list(results.cells) == [CELLS[0].key]
        results.append(ended(CELLS[1]))
    assert keys(path) == [CELLS[0].key, CELLS[1].key]


def test_a_folder_or_file_in_the_way_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path, tmp_path / "file" / "x.jsonl"):
        with pytest.raises(ArtifactError, match="cannot be written"):
            ResultsFile(path, PLAN.header()).__enter__()
        with pytest.raises(ArtifactError, match=r"cannot be read|is empty"):
            load_lines(path)


def test_cells_without_a_line_and_lines_without_a_plan_are_told(path):
    with ResultsFile(path, PLAN.header()) as results:
        for cell in CELLS[:3]:
            results.append(ended(cell))
        results.append(ended(plan(seeds=(9,)).cells()[0], "failed", error="why"))
    assert load_lines(path)[0]["missing"] == [{"label": "GRU4Rec", "dataset": "toy", "seed": 2}]
    assert load_lines(path)[0]["others"] == []  # one that failed is no loss
    with ResultsFile(path, plan(seeds=(1,)).header()):
        pass
    header, lines = load_lines(path)
    assert (len(lines), header["missing"]) == (2, [])
    assert header["others"] == [{"label": "SASRec", "dataset": "toy", "seed": 2}]


def test_of_an_older_file_missing_cells_are_keys(path):
    header = {key: value for key, value in PLAN.header().items() if key != "planned"}
    with ResultsFile(path, header) as results:
        results.append(ended(CELLS[0]))
    assert load_lines(path)[0]["missing"] == [cell.key for cell in CELLS[1:]]


def test_a_results_file_is_called_jsonl_and_lies_in_a_folder(tmp_path):
    check_results_path(tmp_path / "new" / "a.jsonl")
    with pytest.raises(ConfigError, match="a must end in .jsonl; give --results .*a.jsonl"):
        check_results_path(tmp_path / "a")
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="file is no folder that can be written"):
        check_results_path(tmp_path / "file" / "new" / "a.jsonl")


def test_a_missing_file_names_the_command(tmp_path):
    with pytest.raises(ArtifactError, match="gone.jsonl cannot be read .*recbole-hellm compare"):
        load_lines(tmp_path / "gone.jsonl")


@pytest.mark.parametrize(
    ("number", "text", "message"),
    [
        (1, "{}", "line 1 is no header"),
        (1, '{"kind": "plan", "format": 2}', "line 1 has format 2, this version reads 1"),
        (1, '{"kind": "plan", "format": 1, "plan": "p"}', "line 1 has no proper 'digest'"),
        (1, "models: [SASRec]", "line 1 is no JSON object"),
        (1, json.dumps({**PLAN.header(), "reported": [{"model": "X"}]}), "line 1 has no proper 'reported' (dataset)"),
        (1, json.dumps({**PLAN.header(), "reported": [3]}), "line 1 has no proper 'reported'"),
        (1, json.dumps({**PLAN.header(), "protocol": [3]}), "line 1 has no proper 'protocol'"),
        (1, json.dumps({**PLAN.header(), "cells": [[1]]}), "line 1 has no proper 'cells'"),
        (1, json.dumps({**PLAN.header(), "planned": {"a": 1}}), "line 1 has no proper 'planned'"),
        (2, "[1, 2]", "line 2 is no JSON object"),
        (3, "", "line 3 is no JSON object"),
        (3, '{"kind": "cell", "cell": 3}', "line 3 has no proper 'cell'"),
        (3, '{"kind": "cel"}', "line 3 has 'kind' 'cel', must be 'plan' or 'cell'"),
        (4, json.dumps(ended(CELLS[2], "done")), "line 4 has 'status' 'done'"),
        (2, "[" * 100_000, "line 2 is no JSON object"),
    ],
)
def test_damage_in_the_middle_is_named_and_left_alone(written, number, text, message):
    lines = written.read_text().splitlines()
    lines[number - 1] = text
    written.write_text("\n".join(lines) + "\n")
    before = written.read_bytes()
    for call in (lambda: load_lines(written), ResultsFile(written, PLAN.header()).__enter__):
        with pytest.raises(ArtifactError, match="delete the line or the file") as error:
            call()
        assert message in str(error.value)
    assert written.read_bytes() == before


@pytest.mark.parametrize("content", [b"# Notes", b"\x89PNG\r\n", b'{"a": 1}', b"a,b\n1,2\n"])
def test_a_file_of_something_else_is_never_overwritten(tmp_path, content):
    path = tmp_path / "x.jsonl"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match="line 1"):
        ResultsFile(path, PLAN.header()).__enter__()
    assert path.read_bytes() == content


OBJECTS = [json.dumps(line).encode() for line in (PLAN.header(), *(ended(cell, note="größe") for cell in CELLS))]
WHOLE = b"".join(line + b"\n" for line in OBJECTS)
ENDS = [sum(len(line) + 1 for line in OBJECTS[:n]) - 1 for n in range(1, len(OBJECTS) + 1)]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=st.integers(0, len(WHOLE)), tail=st.sampled_from([b"", b"\x00\x00", b"\x00\n"]))
def test_a_file_cut_anywhere_is_a_prefix_and_can_go_on(tmp_path, size, tail):
    path = Path(tmp_path) / "cut.jsonl"
    whole = sum(end <= size for end in ENDS)
    inside = whole > 0 and size > ENDS[whole - 1] + 1  # where a power cut may leave zeros
    path.write_bytes(WHOLE[:size] + (tail if inside else b""))
    here = [cell.key for cell in CELLS[: max(whole - 1, 0)]]
    if whole == 0:
        with pytest.raises(ArtifactError, match="is empty"):
            load_lines(path)
    else:
        assert keys(path) == here
    with ResultsFile(path, PLAN.header()) as results:
        assert list(results.cells) == here
        results.append(ended(CELLS[-1]))
    assert keys(path) == list(dict.fromkeys([*here, CELLS[-1].key]))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, len(WHOLE) - 1), byte=st.integers(0, 255))
def test_a_changed_byte_is_read_or_named(tmp_path, at, byte):
    path = Path(tmp_path) / "changed.jsonl"
    path.write_bytes(WHOLE[:at] + bytes([byte]) + WHOLE[at + 1 :])
    try:
        found = len(keys(path))
    except ArtifactError as error:
        message = str(error)
        found = -1
    assert str(path) in message if found < 0 else found <= len(CELLS)
