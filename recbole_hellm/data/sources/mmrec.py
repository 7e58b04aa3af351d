"""``mmrec``: folders of MMRec and its followers: numbered ``.inter``, feature matrices in the order of the numbers."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from recbole_hellm.data.event_table import Batch
from recbole_hellm.data.features import FeatureTable
from recbole_hellm.data.filters import TAKE_ALL
from recbole_hellm.data.reading import read_lines
from recbole_hellm.data.sources.base import OpenSource, SourceOptions
from recbole_hellm.data.sources.csv_table import CsvTable
from recbole_hellm.data.sources.recbole_files import inter_files, one_inter_file
from recbole_hellm.data.sources.vectors import load_array, named_table
from recbole_hellm.errors import DataError, nearest

_COLUMNS = {"user": "userID", "item": "itemID", "time": "timestamp", "rating": "rating"}
_MAPS = {"user": ("u_id_mapping.csv", "userID"), "item": ("i_id_mapping.csv", "itemID")}
_SUFFIX = "_feat.npy"


class MMRecFormat:
    """``<name>.inter`` with userID, itemID, timestamp, x_label; ``image_feat.npy``, ``text_feat.npy``; id maps."""

    name = "mmrec"
    about = "<name>.inter with userID and itemID, <modality>_feat.npy, u_id_mapping.csv, i_id_mapping.csv"

    def recognise(self, path: Path) -> str:
        """Say why ``path`` may be of this format."""
        for file in inter_files(path):
            try:
                cells = next(read_lines(file))[1].split("\t")
            except (DataError, StopIteration):
                continue
            if {"userID", "itemID"} <= set(cells):
                return f"{file.name} has userID and itemID"
        return ""

    def open(self, path: Path, options: SourceOptions) -> OpenSource:
        """Find the interactions, the maps and the matrices."""
        events = one_inter_file(path)
        folder = events.parent
        table = CsvTable(events, "\t", header=True, quoted=False)
        for column in (_COLUMNS["user"], _COLUMNS["item"]):
            if column not in table.names:
                near = nearest(column, table.names)
                raise DataError(f"{events}:1: no column {column!r}{near}; there are: {', '.join(table.names)[:400]}")
        columns = {target: name for target, name in _COLUMNS.items() if name in table.names}
        maps = {target: folder / file for target, (file, _) in _MAPS.items() if (folder / file).is_file()}
        matrices = sorted(file for file in folder.glob(f"*{_SUFFIX}") if file.stem.split("_")[0].isidentifier())
        if matrices and "item" not in maps:
            raise DataError(
                f"file {folder / _MAPS['item'][0]} is missing: without it nothing says which item a row of "
                f"{matrices[0].name} belongs to; add it, or move the matrices away and give --features"
            )
        return OpenSource(
            files=(events, *maps.values(), *matrices),
            batches=partial(_batches, table, columns, maps),
            features=lambda: _features(matrices, maps),
            filters=TAKE_ALL,
        )


def _batches(table: CsvTable, columns: dict[str, str], maps: dict[str, Path]) -> Iterator[Batch]:
    """Yield the interactions with the ids that the maps give back."""
    known = {target: read_map(path, _MAPS[target][1]) for target, path in maps.items()}
    for batch in table.batches(columns):
        frame = batch.frame
        for target, names in known.items():
            ids = frame[target].replace_strict(list(names), list(names.values()), default=None)
            lost = ids.is_null() & frame[target].is_not_null()
            if lost.any():
                row = int(lost.arg_max() or 0)
                raise DataError(
                    f"{batch.place(row)}: {target} {frame[target][row]!r} is not in {maps[target].name}: take both "
                    "from one source"
                )
            frame = frame.with_columns(ids.alias(target))
        yield Batch(frame, batch.place)


def read_map(path: Path, column: str) -> dict[str, str]:
    """Read a tab- or comma-separated map: number in MMRec's files to the id before it was numbered.

    Raises:
        DataError: If the header lacks ``column``, or a number or id comes twice.
    """
    names: dict[str, str] = {}
    ids: set[str] = set()
    place, separator = 0, "\t"
    for line_number, line in read_lines(path):
        if line_number == 1:
            separator = "\t" if "\t" in line else ","
            header = line.split(separator)
            if column not in header or len(header) != 2:
                raise DataError(f"{path}:1: expected two columns, one {column!r}, got {line[:80]!r}")
            place = header.index(column)
            continue
        cells = line.split(separator)
        if len(cells) != 2 or not all(cells):
            raise DataError(f"{path}:{line_number}: expected two cells, got {line[:80]!r}")
        number, name = cells[place], cells[1 - place]
        if number in names or name in ids:
            raise DataError(f"{path}:{line_number}: {number!r} or {name!r} comes a second time: a map has each once")
        names[number] = name
        ids.add(name)
    return names


def _features(matrices: list[Path], maps: dict[str, Path]) -> list[FeatureTable]:
    """Read the matrices, whose row ``n`` is item number ``n``."""
    if not matrices:
        return []
    names = read_map(maps["item"], _MAPS["item"][1])
    tables = []
    for path in matrices:
        matrix = load_array(path)
        if len(matrix.shape) != 2 or len(matrix) != len(names) or set(names) != {str(n) for n in range(len(names))}:
            raise DataError(
                f"{path}: shape {list(matrix.shape)} does not fit the {len(names)} items of {maps['item'].name}, "
                "numbered from 0: the rows would belong to other items; take both from one source"
            )
        ids = tuple(names[str(number)] for number in range(len(names)))
        tables.append(named_table(path.name.removesuffix(_SUFFIX), path, matrix, ids))
    return tables
