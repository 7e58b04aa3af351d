"""Labels of any script in LaTeX."""

import shutil
import subprocess

import pytest

from recbole_hellm.benchmark.latex import escaped

EVERY = "".join(map(chr, [*range(0x20, 0x250), *range(0x370, 0x400), *range(0x1E00, 0x1F00), *range(0x2000, 0x2300)]))


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("Café – “SASRec”", r"Caf\'{e} -- ``SASRec''"),
        ("λ ≥ 0.5, β²", r"$\lambda$ $\ge$ 0.5, $\beta$$^2$"),
        ("Ω Α", r"$\Omega$ A"),
        ("模型 😀 \x07", "?? ? ?"),
        ("a_b & 50%", r"a\_b \& 50\%"),
        ("naïve Łódź", r"na\"{i}ve \L{}\'{o}d\'{z}"),
        ("½ ﬁ x\u00a0y", "? fi x y"),
        ("e\u0301", r"\'{e}"),
    ],
)
def test_usual_signs_stay_and_others_are_marked(text, made):
    assert escaped(text) == made


def test_every_sign_is_plain_ascii():
    assert escaped(EVERY).isascii()
    assert escaped(EVERY).count("?") < len(EVERY) / 1.5


def test_every_sign_compiles(tmp_path):
    compiler = shutil.which("pdflatex")
    if compiler is None:
        pytest.skip("no pdflatex on this machine (apt-get install texlive-latex-recommended)")
    lines = "\\\\\n".join(escaped(EVERY[i : i + 40]) for i in range(0, len(EVERY), 40))
    body = f"\\documentclass{{article}}\\begin{{document}}\\noindent {lines}\\end{{document}}\n"
    (tmp_path / "signs.tex").write_text(body, encoding="utf-8")
    command = [compiler, "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "signs.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-1500:]
