"""Metadata of Amazon products, as its three versions have it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recbole_hellm.data.sources.base import ItemRow
from recbole_hellm.data.sources.records import Parse, Record, identity, parse_json, parse_literal, read_records

_SCRIPT = "getTime"
"""In a title of 2018: not the title but a piece of the page's code."""
_SIZES = ("large", "hi_res", "thumb")
_BRAND_KEYS = ("Brand", "Brand Name", "Manufacturer")


def rows_2014(path: Path) -> Iterator[ItemRow]:
    """Yield the items of ``meta_*.json.gz`` in Python notation.

    Raises:
        DataError: Naming file and line, if a record is broken.
    """
    for number, record, item in _records(path, "asin", parse_literal):
        texts = {key: record.get(key) for key in ("title", "brand", "categories", "description")}
        yield _row(path, number, item, texts, _first(record.get("imUrl")))


def rows_2018(path: Path) -> Iterator[ItemRow]:
    """Yield the items of ``meta_*.json.gz`` of 2018 (JSON lines).

    Raises:
        DataError: Naming file and line, if a record is broken.
    """
    for number, record, item in _records(path, "asin", parse_json):
        title = record.get("title")
        texts = {
            "title": None if isinstance(title, str) and _SCRIPT in title else title,
            "brand": record.get("brand"),
            "categories": record.get("category") or record.get("categories"),
            "description": record.get("description"),
            "features": record.get("feature"),
        }
        image = next((url for key in ("imageURLHighRes", "imageURL", "image") if (url := _first(record.get(key)))), "")
        yield _row(path, number, item, texts, image)


def rows_2023(path: Path) -> Iterator[ItemRow]:
    """Yield the items of ``meta_*.jsonl.gz`` of 2023, named by ``parent_asin``.

    Raises:
        DataError: Naming file and line, if a record is broken.
    """
    for number, record, item in _records(path, "parent_asin", parse_json):
        details = record.get("details")
        if isinstance(details, str):  # some distributors keep it as JSON within the JSON
            details = parse_json(path, number, details) if details.strip() else None
        brand = (
            next((details[key] for key in _BRAND_KEYS if details.get(key)), None) if isinstance(details, dict) else None
        )
        texts = {
            "title": record.get("title"),
            "brand": brand or record.get("store"),
            "categories": record.get("categories") or record.get("main_category"),
            "description": record.get("description"),
            "features": record.get("features"),
        }
        yield _row(path, number, item, texts, _image_2023(record.get("images")))


def _records(path: Path, key: str, parse: Parse) -> Iterator[tuple[int, Record, str]]:
    for number, record in read_records(path, parse):
        value = record.get(key)
        if value is None or isinstance(value, str):
            yield number, record, value or ""
        else:
            yield number, record, identity(f"{path}:{number}", key, value)


def _row(path: Path, number: int, item: str, texts: dict[str, Any], image: str) -> ItemRow:
    return ItemRow(item, lambda: f"{path}:{number}", texts, image)


def _first(value: Any) -> str:
    """Return an address, or the first one of a list."""
    if isinstance(value, list) and value:
        value = value[0]
    return value if isinstance(value, str) else ""


def _image_2023(images: Any) -> str:
    """Return the large main picture of ``[{large, hi_res, thumb, variant}, ...]`` or of the same as lists by key."""
    if isinstance(images, dict):
        return next((url for key in _SIZES if (url := _first(images.get(key)))), "")
    entries = [entry for entry in images if isinstance(entry, dict)] if isinstance(images, list) else []
    entries.sort(key=lambda entry: entry.get("variant") != "MAIN")  # stable: else the first one
    return next(
        (url for entry in entries for key in ("large", "hi_res", "thumb") if (url := _first(entry.get(key)))), ""
    )
