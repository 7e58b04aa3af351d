"""The report in a real browser, at the width of a desk and of a phone."""

import html
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from recbole_hellm.benchmark.page import write_page
from recbole_hellm.benchmark.summary import compare

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit"))
from benchmark_lines import make_results, read_results  # noqa: E402

HOSTILE = "BERT4Rec, full cross-entropy <script>document.title='run'</script> & $x_1$ | 0.123456"
MODELS = ("HeLLM", "SASRec", "GRU4Rec", "LightGCN", "TransitionCounts", "MMHCL", HOSTILE)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--hide-scrollbars"),
)
MEASURE = """
addEventListener("load", () => {
  const all = (what) => [...document.querySelectorAll(what)];
  const boxes = (what) => all(what).map((e) => e.getBoundingClientRect());
  const name = (e) => `${e.className} ${e.textContent.trim()}`;
  parent.postMessage({
    inner: innerWidth,
    wide: document.documentElement.scrollWidth,
    fetched: performance.getEntriesByType("resource").length,
    scripts: document.scripts.length,
    pictures: boxes("svg, img").map((b) => [b.width, b.height]),
    letters: boxes("svg text").map((b) => b.height),
    outside: all("h1, h2, h3, p, li, svg text, .scroll").filter((e) => {
      const b = e.getBoundingClientRect();
      return b.left < -0.5 || b.right > innerWidth + 0.5;
    }).map(name),
    cut: all("th, td").filter((e) => e.scrollWidth > e.clientWidth + 1).map(name),
    tables: all(".scroll").length,
    dead: all("a[href^='#']").filter((a) => !document.querySelector(a.getAttribute("href"))).map(name),
  }, "*");
});
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page with all that a report can have."""
    folder = tmp_path_factory.mktemp("report")
    path = make_results(
        folder, MODELS, (2020, 2021, 2022), ("amazon-toys", "amazon-beauty"), n_users=60, ablation=True, failed=True,
        reported=True, change=_masked,
    )  # fmt: skip
    header, lines = read_results(path)
    return write_page(compare(lines, header, folder), folder / "report.html").read_text(encoding="utf-8")


def _masked(line, arrays):
    line["protocol"]["history_masked"] = line["label"] == "MMHCL"


@pytest.fixture(scope="module")
def chromium():
    """The path of a browser."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no chromium on this machine (apt-get install chromium)")
    return found


def measured(chromium, page, folder, width):
    """Return what :data:`MEASURE` finds in a window of ``width``: a frame, as a browser's own has a least width."""
    open_page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    open_page = open_page.replace("</body>", f"<script>{MEASURE}</script></body>")
    assert open_page != page
    (folder / "page.html").write_text(open_page, encoding="utf-8")
    # What the frame reports stands in an attribute, which the dump escapes: names in it cannot end it early.
    listen = "addEventListener('message', (e) => document.body.setAttribute('data-found', JSON.stringify(e.data)))"
    frame = f"<iframe src='page.html' style='border: 0; width: {width}px; height: 900px'></iframe>"
    (folder / "frame.html").write_text(f"<!doctype html><body><script>{listen}</script>{frame}</body>")
    command = [chromium, *FLAGS, f"--user-data-dir={folder / 'profile'}", "--window-size=1400,1000"]
    command += ["--virtual-time-budget=20000", "--dump-dom", (folder / "frame.html").as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    return json.loads(html.unescape(re.search(r'data-found="([^"]*)"', dom)[1]))


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_clipped_and_nothing_is_fetched(chromium, page, tmp_path, width):
    found = measured(chromium, page, tmp_path, width)
    assert found["inner"] == width
    assert found["wide"] <= width
    assert found["outside"] == []
    assert found["cut"] == []
    assert found["dead"] == []
    assert found["fetched"] == 0
    assert found["scripts"] == 1, "only the one that measures: a label's must stay text"
    assert found["tables"] == 14
    assert len(found["pictures"]) == 20
    assert all(wide > 250 and tall > 100 for wide, tall in found["pictures"])
    assert len(found["letters"]) > 200
    assert min(found["letters"]) >= 10, "a letter's box on the screen, in pixels"


def test_page_names_no_other_file(page):
    links = re.findall(r"""(?:src|href|action|data|srcset)\s*=\s*["']?([^"'\s>]*)""", page)
    assert len(links) > 100
    assert {link[:1] for link in links} <= {"#", "d"}
    assert [link for link in links if not link.startswith("#")] == ["data:,"]
    assert not re.search(r"url\((?!#)|@import|<script|<link(?! rel=\"icon\")", page)


def test_page_counts_on_its_own_policy(page):
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
