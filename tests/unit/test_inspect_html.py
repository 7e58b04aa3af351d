import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest
from inspect_shop import make_shop, page_of, rows_of
from PIL import Image

from recbole_hellm.data.images import open_source
from recbole_hellm.data.inspect.images import Pictures, find_images, thumbnail
from recbole_hellm.testing import CHECKERBOARD, write_checkerboard

PHONE, DESK = 390, 1280


@pytest.fixture
def prepared(tmp_path):
    return make_shop(tmp_path)


class Tags(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.found, self.open = [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_html_is_one_safe_file(prepared, tmp_path):
    _, page = page_of(prepared, tmp_path)
    tags = Tags(page)
    assert tags.open == []
    assert not {tag for tag, _ in tags.found} & {"script", "link", "iframe", "object", "embed"}
    assert not re.search(r"(?:src|href)=.?(?!\"?data:)", page)
    assert "&lt;script&gt;" in page
    assert "Content-Security-Policy" in page
    assert 'name="viewport"' in page
    images = [attributes["src"] for tag, attributes in tags.found if tag == "img"]
    assert len(images) == 2  # the third one is no picture
    assert all(src.startswith("data:image/jpeg;base64,") and len(src) < 12_000 for src in images)
    assert len([tag for tag, _ in tags.found if tag == "svg"]) >= 3
    assert "Toys &amp; Games, Dolls" in page
    assert sum(tag == "article" for tag, _ in tags.found) == 3


def test_words_of_the_terminal_are_those_of_the_page(prepared, tmp_path):
    text, page = page_of(prepared, tmp_path)
    plain = re.sub(r"<[^>]+>", "", page).replace("\xa0", " ")
    rows = rows_of(text)
    assert len(rows) > 30
    assert [value for value in rows.values() if value not in plain and '"' not in value] == []


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_no_sideways_scroll(prepared, tmp_path, width):
    """In a real browser: the script is added here, the page itself has none."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium")
    _, page = page_of(prepared, tmp_path)
    script = "<script>onload=()=>document.title=(d=>d.scrollWidth-d.clientWidth)(document.documentElement)</script>"
    page = re.sub(r"<meta http-equiv[^>]+>", script, page)
    (tmp_path / "inner.html").write_text(page)
    frame = f"<iframe id=f src=inner.html style='border:0;width:{width}px;height:900px'></iframe><script>onload=()=>"
    frame += "document.body.append('over='+document.getElementById('f').contentWindow.document.title)</script>"
    (tmp_path / "outer.html").write_text(frame)
    done = subprocess.run(
        [browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", "--dump-dom"]
        + [f"--user-data-dir={tmp_path / 'profile'}", (tmp_path / "outer.html").as_uri()],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    found = re.search(r"over=(\d+)", done.stdout)
    if found is None:
        pytest.skip("chromium does not run here")
    assert int(found[1]) == 0


def test_pictures_are_found_by_id_or_by_the_column_image(prepared, tmp_path):
    folder = prepared / "images"
    (folder / "sub").mkdir()
    shutil.copy(folder / "10.jpg", folder / "sub" / "photo.jpg")
    secret = tmp_path / "secret.jpg"
    shutil.copy(folder / "10.jpg", secret)
    named = {
        "40": "sub/photo.jpg",
        "50": "https://example.org/a/10.jpg",
        "20": "../../../secret.jpg",
        "60": str(secret),
        "70": "gone.jpg",
    }
    rows = "".join(f"{token}\t{named.get(token, '')}\n" for token in ("10", "20", "30", "40", "50", "60", "70"))
    (prepared / "shop.item").write_text(f"item_id:token\timage:token\n{rows}")
    found = find_images(prepared, None, ["10", "20", "30", "40", "50", "60", "70"])
    assert found.names == {
        "10": "10.jpg", "20": "20_B00X.png", "30": "30.jpg", "40": "sub/photo.jpg", "50": "10.jpg"
    }  # fmt: skip


def test_the_column_image_is_used(tmp_path):
    folder = write_checkerboard(tmp_path / "data")
    rows = "\n".join(f"i{i}\tphotos/p{i}.png" for i in range(20))
    (folder / f"{CHECKERBOARD}.item").write_text(f"item_id:token\timage:token\n{rows}\n")
    (tmp_path / "photos").mkdir()
    Image.new("L", (40, 40)).save(tmp_path / "photos" / "p7.png")
    text, page = page_of(folder, tmp_path, images=tmp_path / "photos")
    assert rows_of(text)["pictures"] == "1 items (5 %)"
    assert page.count("data:image/jpeg") == 1
    assert "<h3>item i7</h3>" in page


def test_pictures_that_would_harm_are_left_out(tmp_path, caplog):
    bomb = tmp_path / "bomb.png"
    Image.new("1", (20_000, 20_000)).save(bomb)
    assert bomb.stat().st_size < 100_000
    (tmp_path / "text.jpg").write_text("no picture")
    cut = tmp_path / "cut.jpg"
    Image.effect_noise((300, 300), 90).save(cut)
    cut.write_bytes(cut.read_bytes()[:3000])
    source = open_source(tmp_path)
    for name in ("bomb.png", "text.jpg", "cut.jpg", "gone.jpg"):
        assert thumbnail(Pictures(source, {"1": name}), "1") == ""
    assert len(caplog.records) == 4
    assert all(record.getMessage().count("\n") == 0 for record in caplog.records)
