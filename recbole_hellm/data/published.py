"""Tells whether a data set has exactly the sequences that others published, whatever its ids are called."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd

from recbole_hellm.data.interactions import ITEM, TIME, USER
from recbole_hellm.data.records import Counts

PUBLISHED: dict[Counts, tuple[str, str]] = {
    Counts(22_363, 12_101, 198_502): (
        "Beauty.txt",
        "226cce9c3105299ca0db9615d7d3fb32b3175e90da43100ae352599f0f0107b8",
    ),
    Counts(35_598, 18_357, 296_337): (
        "Sports_and_Outdoors.txt",
        "2a095e0648872beb9982408958290f5d655db5be2911c3756b5446de9f0b8de2",
    ),
    Counts(19_412, 11_924, 167_597): (
        "Toys_and_Games.txt",
        "176c680c688d497598c4a89a03b402c0fe78d795e5db335c2e78dd5f2d778a3f",
    ),
}
"""Sizes to name and SHA-256 of the sequence files in S3-Rec's repository (github.com/RUCAIBox/CIKM2020-S3Rec, data/),
which E4SRec and others use unchanged."""


def compare_with_published(path: Path, counts: Counts) -> str:
    """Say whether the sequences are those that were published for a data set of this size.

    Args:
        path: ``.inter`` file.
        counts: Its sizes.

    Returns:
        ``""`` if no data set of this size is known.
    """
    if counts not in PUBLISHED:
        return ""
    name, known = PUBLISHED[counts]
    same = hashlib.sha256(as_sequences(path).encode()).hexdigest() == known
    return f"{'the same sequences as' if same else 'other sequences than'} S3-Rec's {name}"


def as_sequences(path: Path) -> str:
    """Return the interactions as S3-Rec writes them: a line ``user item item ...`` a user, oldest first.

    S3-Rec numbers users in the order of the reviews file and items as these users take them, so the numbers follow
    from the sequences alone.
    """
    header = path.open(encoding="utf-8").readline().rstrip("\n").split("\t")
    cells = {cell.split(":")[0]: cell for cell in header}
    wanted = [cells[name] for name in (USER, ITEM, TIME) if name in cells]
    frame = pd.read_csv(path, sep="\t", usecols=wanted, dtype={cells[USER]: str, cells[ITEM]: str})
    user, _ = pd.factorize(frame[cells[USER]])
    times = [frame[cells[TIME]].to_numpy(np.float32)] if TIME in cells else []
    order = np.lexsort([*times, user])
    item, _ = pd.factorize(frame[cells[ITEM]].to_numpy()[order])
    ends = np.cumsum(np.bincount(user))[:-1]
    lines = (
        f"{number} {' '.join(map(str, items))}\n" for number, items in enumerate(np.split(item + 1, ends), start=1)
    )
    return "".join(lines)
