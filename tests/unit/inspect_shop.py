"""A small prepared data set with everything the page of ``inspect`` shows."""

import re

import numpy as np
from PIL import Image

from recbole_hellm.data.atomic import Contents, write_dataset
from recbole_hellm.data.features import FeatureTable
from recbole_hellm.data.inspect.report import inspect_dataset
from recbole_hellm.data.records import CatalogueItem, UserSequence

HOSTILE = '<script>alert("1")</script>&amp;'


def make_shop(tmp_path):
    """A prepared data set of 3 users and 4 items with pictures, one of them broken, one cold item."""
    target = tmp_path / "data" / "shop"
    sequences = [
        UserSequence("1", ("10", "20", "30"), (1, 2, 8), (0.0, 0.0, 5.0)),
        UserSequence("2", ("20", "30"), (1, 2), (0.0, 3.0)),
        UserSequence("3", ("30", "20", "40", "10"), (1, 2, 3, 4), (0.0, 1.0, 1.0, 0.0)),
    ]
    items = [
        CatalogueItem("10", {"title": HOSTILE, "description": "a long text " * 60}),
        CatalogueItem("20", {"title": "train", "categories": "Toys_&_Games Dolls"}),
        CatalogueItem("30", {"title": "W" * 300}),
        CatalogueItem("40"),
        CatalogueItem("50", {"title": "nobody took it"}),
    ]
    image = FeatureTable("image", np.array([[1, 2], [3, 4], [0, 0]], dtype=np.float32), ("10", "50", "30"))
    inputs = {
        "format": 1,
        "name": "shop",
        "source": {"layout": "s3rec", "sha256": {"shop.txt": "abc"}},
        "options": {"missing_text": "empty"},
    }
    write_dataset(target, Contents(sequences, items, [image], missing_text="empty"), inputs)
    folder = target / "images"
    folder.mkdir()
    Image.new("RGB", (900, 300), "red").save(folder / "10.jpg")
    Image.new("RGBA", (30, 30)).save(folder / "20_B00X.png")
    (folder / "30.jpg").write_bytes(b"")
    (folder / "notes.txt").write_text("no picture")
    return target


def page_of(folder, tmp_path, **options):
    text = inspect_dataset(folder.name, folder.parent, tmp_path / "page.html", **options)
    return text, (tmp_path / "page.html").read_text(encoding="utf-8")


def rows_of(text):
    return dict(
        re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in text.splitlines() if re.match(r"  \w.*  ", line)
    )
