"""A report as Markdown, LaTeX and CSV files, and the words in it."""

import csv
import math
import re
import shutil
import subprocess
from dataclasses import replace

import pytest
from benchmark_lines import make_results, read_results

from recbole_hellm.benchmark import sentences, wording
from recbole_hellm.benchmark.records import environments, provenance_table
from recbole_hellm.benchmark.summary import compare
from recbole_hellm.benchmark.tables import csv_text, latex, markdown, write_tables
from recbole_hellm.errors import ArtifactError

HOSTILE = r"A_b & 50% {x} $y$ #1 ~^ \input{/etc/passwd} | *bold* `c` [l](u) <script>alert(1)</script>"


def load(folder, **settings):
    header, lines = read_results(make_results(folder, ("HeLLM", "SASRec", HOSTILE), n_users=60, **settings))
    return compare(lines, header, folder)


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    return load(tmp_path_factory.mktemp("formats"), ablation=True, failed=True, reported=True)


@pytest.fixture(scope="module")
def one_seed(tmp_path_factory):
    return load(tmp_path_factory.mktemp("seed"), seeds=(7,))


def with_protocol(comparison, label, **changes):
    rows = (
        replace(row, protocol={**row.protocol, **(changes if row.label == label else {})}) for row in comparison.rows
    )
    return replace(comparison, rows=tuple(rows))


def test_markdown_keeps_its_columns_and_runs_nothing(comparison):
    text = markdown(comparison)
    assert "<script" not in text
    assert not re.search(r"(?<!\\)\*bold", text)
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(blocks) == 9
    for block in blocks:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block}) == 1


def test_latex_escapes_labels_and_compiles(comparison, one_seed, tmp_path):
    text = latex(comparison)
    assert r"\input" not in text
    assert r"A\_b \& 50\% \{x\} \$y\$ \#1" in text
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == text.count(r"\caption") == 6
    compiler = shutil.which("pdflatex")
    if compiler is None:
        pytest.skip("no pdflatex on this machine (apt-get install texlive-latex-recommended)")
    head = "\\documentclass[twocolumn]{article}\\usepackage{booktabs}\\begin{document}\n"
    (tmp_path / "paper.tex").write_text(head + text + latex(one_seed) + "\\end{document}\n", encoding="utf-8")
    command = [compiler, "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-1500:]


def test_protocols_of_a_latex_table_are_letters_that_its_caption_explains(comparison):
    planted = with_protocol(comparison, "SASRec", history_masked=True, minutes=None)
    table = latex(planted).partition(r"\end{table*}")[0]
    assert "Protocol a: history kept, fitted on train, loss CE, max length 50, minutes 10." in table
    assert "Protocol b: history masked, fitted on train, loss CE, max length 50, minutes no limit." in table
    ends = [line.split("&")[-1].strip() for line in table.splitlines() if re.match(r"HeLLM|SASRec", line)]
    assert ends == [r"a \\", r"b \\"]


def test_write_tables(comparison, tmp_path):
    paths = write_tables(comparison, tmp_path / "new")
    assert [path.name for path in paths] == ["report.md", "report.tex", "report.csv"]
    assert all(path.read_text(encoding="utf-8") for path in paths)
    before = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in write_tables(comparison, tmp_path / "new")] == before
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="report.md cannot be written"):
        write_tables(comparison, tmp_path / "file")


def test_a_report_of_an_ablation_alone(comparison):
    alone = replace(comparison, rows=(), tests={}, against={}, against_reason={}, groups=(), reported=(), failed=())
    text = markdown(alone)
    assert "One part off" in text
    assert "Results on test" not in text
    assert latex(alone).count(r"\toprule") == 1
    assert len(csv_text(alone).splitlines()) == 1 + 4 * len(comparison.metrics)


def test_protocol_in_words_names_who_differs(comparison):
    planted = with_protocol(comparison, "SASRec", fitted_on="train+valid", max_length=None)
    said = sentences.protocol_sentences(planted.rows)
    assert "Fitted on: train (all others); train+valid (SASRec)." in said
    assert "Longest history a model reads: 50 items (all others); the model's own (SASRec)." in said
    assert said[0] == (
        "Split: leave one out: each user's last item tests, the one before validates; in order of time; "
        "every item of the catalogue is ranked."
    )


def test_another_split_is_said_too(comparison):
    split = {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "RO", "mode": "uni100"}
    rows = [replace(row, protocol={**row.protocol, "split": split}) for row in comparison.rows]
    said = sentences.protocol_sentences(rows)[0]
    assert said == "Split: shares 0.8 / 0.1 / 0.1; in random order; ranked among uni100."


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (wording.number(0.08), "0.0800"),
        (wording.number(math.nan), "–"),
        (wording.signed(-0.0123), "−0.0123"),
        (wording.percent(0.123, sign=True), "+12.3 %"),
        (wording.between((math.nan, math.nan)), "–"),
        (wording.p_value(0.0004), "<0.001"),
        (wording.p_value(0.0116), "0.012"),
        (wording.count(8_158_016), "8.16 M"),
        (wording.count(999_999), "1 M"),
        (wording.count(1), "1"),
        (wording.amount(3.14), "3.1"),
        (wording.amount(1234.5), "1,234"),
        (wording.amount(None), "–"),
    ],
)
def test_numbers_in_words(made, text):
    assert made == text


def test_environments_are_told_apart(comparison):
    assert environments(comparison) == [
        ("A", "Some CPU @ 2.0GHz, 2 cores, 24.0 GB; python 3.11.9, recbole 1.2.1, recbole-hellm 0.1.0")
    ]
    row = comparison.rows[0]
    moved = ({**row.cells[0], "hardware": {"processor": "Other"}}, *row.cells[1:])
    changed = replace(comparison, rows=(replace(row, cells=moved), *comparison.rows[1:]))
    assert [name for name, _ in environments(changed)] == ["A", "B"]
    assert [row[7].text for row in provenance_table(changed).rows[:3]] == ["A", "B", "B"]


@pytest.mark.parametrize("label", ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)"])
def test_no_label_is_a_formula_of_a_spreadsheet(comparison, label):
    rows = (replace(comparison.rows[0], label=label), *comparison.rows[1:])
    (row, *_) = csv.DictReader(csv_text(replace(comparison, rows=rows)).splitlines())
    assert row["label"] == f"'{label}"
    assert row["commits"] == "0123456789ab"
    assert not any(text[:1] in "=+@" for text in row.values() if text)


def test_negative_numbers_stay_numbers(comparison):
    lowest = replace(comparison.rows[0], interval={metric: (-0.5, 0.5) for metric in comparison.metrics})
    rows = csv.DictReader(csv_text(replace(comparison, rows=(lowest,))).splitlines())
    negative = [row["interval_low"] for row in rows if row["interval_low"].startswith("-")]
    assert negative
    assert all(float(text) < 0 for text in negative)


def with_means(comparison, *means):
    rows = zip(comparison.rows, means, strict=True)
    return replace(
        comparison, rows=tuple(replace(row, mean={**row.mean, comparison.metric: mean}) for row, mean in rows)
    )


@pytest.mark.parametrize(
    ("means", "said"),
    [
        ((0.5, 0.4, 0.3), "HeLLM has the highest ndcg@10, 0.5000 on test, 25.0 % above SASRec (0.4000)."),
        ((0.50001, 0.5, 0.4), "HeLLM and SASRec have the highest ndcg@10, 0.5000 on test, 25.0 % above "),
        ((0.5, 0.50001, 0.5), f"SASRec, HeLLM and {HOSTILE} have the highest ndcg@10, 0.5000 on test."),
    ],
)
def test_numbers_that_print_alike_have_the_first_place_together(comparison, means, said):
    assert sentences.in_short(with_means(comparison, *means), "amazon-toys")[0].startswith(said)


def test_limit_of_minutes_says_what_it_counts(comparison):
    row = comparison.rows[0]
    both = replace(row, protocol={**row.protocol, "fitted_on": "train+valid"})
    limit = "Training time per cell: no epoch starts that would end after 10 minutes, stages included"
    assert f"{limit}." in sentences.protocol_sentences([row])
    assert f"{limit}, the second fit on train+valid not counted." in sentences.protocol_sentences([both])
