"""Small sources of every format, and a way to read back what was prepared from them."""

import gzip
import json
from pathlib import Path

import numpy as np

from recbole_hellm.data.prepare import prepare

NO_CORE = {"min_user": 0, "min_item": 0}
DAY = 86_400
START = 1_400_000_000


def write(path: Path, text: str | bytes) -> Path:
    """Write a file, packed where its name ends in .gz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    return path


def lines(records) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def events(folder: Path) -> dict[str, list[str]]:
    """Return user to items in the order of the timestamps, which must grow strictly."""
    rows = [line.split("\t") for line in (folder / f"{folder.name}.inter").read_text().splitlines()[1:]]
    found: dict[str, list[str]] = {}
    last: dict[str, int] = {}
    for user, item, time, gap in rows:
        assert last.get(user, 0) < int(time) < 2**24
        assert float(gap) >= 0
        last[user] = int(time)
        found.setdefault(user, []).append(item)
    return found


def gaps(folder: Path) -> dict[str, list[float]]:
    rows = [line.split("\t") for line in (folder / f"{folder.name}.inter").read_text().splitlines()[1:]]
    found: dict[str, list[float]] = {}
    for user, _, _, gap in rows:
        found.setdefault(user, []).append(float(gap))
    return found


def items(folder: Path) -> dict[str, dict[str, str]]:
    """Return item to column to text."""
    header, *rows = (folder / f"{folder.name}.item").read_text().split("\n")[:-1]
    names = [cell.split(":")[0] for cell in header.split("\t")]
    found = {}
    for row in rows:
        cells = row.split("\t")
        assert len(cells) == len(names)
        found[cells[0]] = {name: cell for name, cell in zip(names[1:], cells[1:], strict=True) if cell}
    return found


def manifest(folder: Path) -> dict:
    return json.loads((folder / "manifest.json").read_text())


def prepared(tmp_path: Path, source: Path, filters=None, **settings) -> Path:
    """Prepare ``source`` as ``mine`` without a core unless ``filters`` says otherwise."""
    return prepare("mine", source, tmp_path / "out", filters=NO_CORE if filters is None else filters, **settings)


def csv_source(folder: Path) -> Path:
    rows = ["uid,asin,ts,stars,name,photo"]
    rows += [
        f'u1,A,{START},5,"Doll, red",p/a.jpg',
        f"u1,B,{START + DAY},3,Car,p/b.jpg",
        f'u2,A,{START},1,"Doll, red",p/a.jpg',
    ]
    return write(folder / "ratings.csv", "\n".join(rows) + "\n")


CSV_COLUMNS = {"user": "uid", "item": "asin", "time": "ts", "rating": "stars", "title": "name", "image": "photo"}


def review_2014(user, item, time, rating=5.0):
    return {"reviewerID": user, "asin": item, "helpful": [0, 1], "reviewText": "x", "overall": rating,
            "summary": "s", "unixReviewTime": time, "reviewTime": "03 1, 2014"}  # fmt: skip


def amazon2014_source(folder: Path, reviews=None) -> Path:
    if reviews is None:
        reviews = [review_2014("U1", "A1", START), review_2014("U1", "A2", START), review_2014("U2", "A1", START + DAY)]
    write(folder / "reviews_Beauty_5.json.gz", lines(reviews))
    meta = [
        {"asin": "A1", "title": "It's \"5\" &amp; more", "imUrl": "http://x/a.jpg", "brand": "Acme",
         "categories": [["Beauty", "Hair Care"]], "related": {"also_bought": ["Q"]}, "price": 1.5},
        {"asin": "A2", "title": "Soap", "categories": [["Beauty"]], "description": "old\nsoap"},
        {"asin": "A9", "title": "Cold"},
    ]  # fmt: skip
    write(folder / "meta_Beauty.json.gz", "".join(repr(record) + "\n" for record in meta))
    return folder


def amazon2018_source(folder: Path) -> Path:
    reviews = [
        {
            "overall": 5.0,
            "verified": True,
            "reviewerID": user,
            "asin": item,
            "style": {},
            "unixReviewTime": START + time,
        }
        for user, item, time in (("U1", "A1", 0), ("U1", "A2", DAY), ("U2", "A1", 0))
    ]
    write(folder / "Prime_Pantry_5.json.gz", lines(reviews))
    meta = [
        {"asin": "A1", "title": "Tea", "brand": "Acme", "category": ["Pantry", "Hot Tea"], "description": ["a", "b"],
         "feature": ["green"], "imageURLHighRes": ["http://x/1.jpg"], "details": {"x": "y"}},
        {"asin": "A2", "title": "var aPageStart = (new Date()).getTime();", "category": [], "imageURL": []},
    ]  # fmt: skip
    write(folder / "meta_Prime_Pantry.json.gz", lines(meta))
    return folder


def amazon2023_source(folder: Path) -> Path:
    reviews = [
        {"rating": 4.0, "title": "t", "text": "x", "images": [], "asin": f"v{item}", "parent_asin": item,
         "user_id": user, "timestamp": (START + time) * 1000, "helpful_vote": 0, "verified_purchase": True}
        for user, item, time in (("U1", "P1", 0), ("U1", "P2", DAY), ("U2", "P1", 0))
    ]  # fmt: skip
    write(folder / "All_Beauty.jsonl.gz", lines(reviews))
    images = [{"thumb": "http://x/t.jpg", "large": "http://x/side.jpg", "variant": "PT01", "hi_res": None},
              {"thumb": "http://x/t.jpg", "large": "http://x/main.jpg", "variant": "MAIN", "hi_res": None}]  # fmt: skip
    meta = [
        {"main_category": "All Beauty", "title": "Brush", "features": ["soft", "round"], "description": ["d"],
         "images": images, "store": "Shop", "categories": [], "details": {"Brand": "Acme"}, "parent_asin": "P1"},
        {"main_category": "All Beauty", "title": "Comb", "features": [], "description": [], "images": {"large": ["u"]},
         "store": "Shop", "categories": ["Hair"], "details": json.dumps({"Color": "red"}), "parent_asin": "P2"},
    ]  # fmt: skip
    write(folder / "meta_All_Beauty.jsonl.gz", lines(meta))
    return folder


def mmrec_source(folder: Path) -> Path:
    rows = ["userID\titemID\trating\ttimestamp\tx_label"]
    rows += [f"0\t0\t5.0\t{START}\t0", f"0\t1\t5.0\t{START + DAY}\t1", f"1\t0\t4.0\t{START}\t2"]
    write(folder / "baby.inter", "\n".join(rows) + "\n")
    write(folder / "u_id_mapping.csv", "user_id\tuserID\nAU\t0\nBU\t1\n")
    write(folder / "i_id_mapping.csv", "asin\titemID\nB00X\t0\nB00Y\t1\n")
    np.save(folder / "image_feat.npy", np.array([[1.0, 2.0], [3.0, 4.0]]))
    np.save(folder / "text_feat.npy", np.array([[1.0], [0.0]]))
    return folder


def sequences_source(folder: Path) -> Path:
    write(folder / "Toys.txt", "1 1 2 3\n2 2 3\n")
    write(folder / "Toys_daygaps.txt.gz", "1 0 0 5\n2 0 7\n")
    write(folder / "item_text.jsonl.gz", lines({"id": i, "asin": f"A{i}", "title": f"t {i}"} for i in (1, 2, 3)))
    write(folder / "item2asin.tsv", "item_id\tasin\n1\tA1\n2\tA2\n3\tA3\n")
    return folder


def atomic_source(folder: Path) -> Path:
    rows = ["user_id:token\titem_id:token\trating:float\ttimestamp:float"]
    rows += [f"u1\ta\t5\t{START + 1}", f"u1\tb\t3\t{START}", f"u2\ta\t1\t{START}"]
    write(folder / "films.inter", "\n".join(rows) + "\n")
    write(
        folder / "films.item",
        'item_id:token\tmovie_title:token_seq\tclass:token_seq\na\tThe "A"\tDrama Crime\nb\tB\t\n',
    )
    return folder


SOURCES = {
    "csv": csv_source,
    "amazon2014": amazon2014_source,
    "amazon2018": amazon2018_source,
    "amazon2023": amazon2023_source,
    "mmrec": mmrec_source,
    "sequences": sequences_source,
    "atomic": atomic_source,
}
