"""Everything that is known of one data set, before it is put into words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from recbole_hellm.data.fingerprint import digest_of, folder_digests
from recbole_hellm.data.inspect.events import EventFacts, event_facts
from recbole_hellm.data.inspect.images import Pictures, find_images, thumbnail
from recbole_hellm.data.inspect.items import CatalogueFacts, Example, FeatureFacts, catalogue_facts, feature_facts
from recbole_hellm.data.interactions import Events, read_events
from recbole_hellm.data.manifest import MANIFEST, difference, read_manifest
from recbole_hellm.data.published import compare_with_published
from recbole_hellm.data.records import Counts
from recbole_hellm.errors import DataError, nearest

_N_EXAMPLES = 12


@dataclass(frozen=True)
class Facts:
    """One data set."""

    name: str
    folder: Path
    events: EventFacts
    columns: tuple[str, ...]
    """Header cells of the ``.inter`` file."""
    catalogue: CatalogueFacts | None
    """``None`` without an ``.item`` file."""
    features: Sequence[FeatureFacts]
    n_images: int | None
    """Items of the interactions that have a picture; ``None`` without a folder of pictures."""
    examples: Sequence[Example]
    digests: Mapping[str, Any]
    """As ``fingerprint.folder_digests``; empty if a feature matrix is broken."""
    manifest: Mapping[str, Any] = field(default_factory=dict)
    """Empty for a data set that was not prepared by this package."""
    manifest_problem: str = ""
    """Why the manifest is not there, cannot be read, or no longer fits the files."""
    published: str = ""
    """How it compares with published sequences of a data set of its size."""
    other_files: Sequence[str] = ()
    """Further atomic files, such as ``x.user``, of which nothing is said."""


def gather(name: str, data_path: Path, images: Path | None = None) -> Facts:
    """Read a RecBole data set.

    Args:
        name: Of the folder in ``data_path`` and of the files in it.
        data_path: Folder of data sets.
        images: Folder or ``.zip`` of item pictures; by default where runs look for them.

    Raises:
        DataError: If there is no such data set, or its interactions or item texts are broken.
    """
    folder = dataset_folder(name, data_path)
    events = read_events(folder / f"{name}.inter")
    pictures = find_images(folder, images, events.item_tokens.tolist())
    tokens = _chosen(events, pictures)
    item_file, catalogue, texts = folder / f"{name}.item", None, dict[str, dict[str, str]]()
    if item_file.is_file():
        catalogue, texts = catalogue_facts(item_file, events, tokens)
    count_of = dict(zip(events.item_tokens, events.counts, strict=True)) if tokens else {}
    manifest, problem = _manifest(folder)
    features = feature_facts(folder, events)
    broken = any(feature.problem for feature in features)
    counts = Counts(len(events.user_tokens), len(events.item_tokens), len(events.user))
    known = {f"{name}.{suffix}" for suffix in ("inter", "item", "yaml")}
    return Facts(
        name=name,
        folder=folder,
        events=event_facts(events),
        columns=events.columns,
        catalogue=catalogue,
        features=features,
        n_images=None if pictures is None else len(pictures.names),
        examples=[
            Example(token, int(count_of[token]), texts.get(token, {}), _thumbnail(pictures, token)) for token in tokens
        ],
        digests={} if broken else folder_digests(folder, name, digest_of(events)),
        manifest=manifest,
        manifest_problem=problem,
        published=compare_with_published(folder / f"{name}.inter", counts),
        other_files=sorted(path.name for path in folder.glob(f"{name}.*") if path.name not in known),
    )


def dataset_folder(name: str, data_path: Path) -> Path:
    """Return the folder of a data set.

    Raises:
        DataError: If it, or its ``.inter`` file, is not there.
    """
    if not name or Path(name).name != name:
        raise DataError(f"data set {name!r} must be the name of a folder in {data_path}: give the rest as --data-path")
    if not data_path.is_dir():
        raise DataError(f"folder of data sets {data_path} does not exist: give --data-path the folder that has {name}/")
    folder = data_path / name
    if not folder.is_dir():
        near = nearest(name, [path.name for path in data_path.iterdir() if path.is_dir()])
        raise DataError(f"no data set {name!r} in {data_path}{near}: run recbole-hellm prepare, or give --data-path")
    if not (folder / f"{name}.inter").is_file():
        there = ", ".join(sorted(path.name for path in folder.iterdir())[:5]) or "nothing"
        raise DataError(f"file {folder / f'{name}.inter'} is missing; the folder has: {there}")
    return folder


def _thumbnail(pictures: Pictures | None, token: str) -> str:
    return thumbnail(pictures, token) if pictures is not None and token in pictures.names else ""


def _chosen(events: Events, pictures: Pictures | None) -> list[str]:
    """Choose items from the most to the least used; those with a picture if there are pictures."""
    ranked = events.item_tokens[np.argsort(-events.counts, kind="stable")]
    if pictures is not None and pictures.names:
        ranked = np.array([token for token in ranked if token in pictures.names], dtype=object)
    places = np.unique(np.geomspace(1, len(ranked), min(_N_EXAMPLES, len(ranked))).round().astype(int))
    return [str(ranked[place - 1]) for place in places]


def _manifest(folder: Path) -> tuple[dict[str, Any], str]:
    """Return the manifest, and what is wrong with it."""
    if not (folder / MANIFEST).is_file():
        return {}, f"no {MANIFEST}: not prepared by this package, so its source and options are not known"
    try:
        manifest = read_manifest(folder)
    except DataError as error:
        return {}, str(error)
    changed = difference(folder, {})
    return manifest, f"{changed} since the data set was prepared" if changed else ""
