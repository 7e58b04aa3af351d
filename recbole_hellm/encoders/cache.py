"""Vectors that were encoded before, kept on disk by content, and encoding that continues where it was stopped."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path
from secrets import token_hex
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from tqdm import tqdm

from recbole_hellm.encoders.base import Encoder
from recbole_hellm.errors import ArtifactError, DataError

logger = getLogger(__name__)

_DIGEST_BYTES = 32
_CHUNK_ROWS = 4096
_FLUSH_SECONDS = 30.0


class EncodingCache:
    """Vectors of one encoder under the digest of what they were made of.

    A folder of ``chunk-*.safetensors`` files, each with ``vectors`` (float32, ``[n, dim]``) and ``digests`` (uint8,
    ``[n, 32]``, the SHA-256 of the text or image file of each row). A chunk appears when it is complete and never
    changes, so several processes may add to one cache.

    Args:
        root: Folder of the caches of all encoders.
        encoder: Whose vectors; its fingerprint is part of the folder's name.
    """

    def __init__(self, root: Path, encoder: Encoder) -> None:
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", encoder.name) or "encoder"
        self.folder = root / f"{name}-{encoder.fingerprint()[:16]}"
        self.dim = encoder.dim

    def read(self, digests: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return the vectors that are there, shape ``[n, dim]`` with zeros elsewhere, and which those are."""
        vectors, found = np.zeros((len(digests), self.dim), dtype=np.float32), np.zeros(len(digests), dtype=np.bool_)
        rows: dict[bytes, int] = {bytes.fromhex(digest): row for row, digest in enumerate(digests)}
        for chunk_digests, chunk_vectors in self._chunks():
            places = [(rows[key], at) for at, key in enumerate(chunk_digests) if key in rows]
            if places:
                into, out_of = (list(column) for column in zip(*places, strict=True))
                vectors[into], found[into] = chunk_vectors[out_of], True
        return vectors, found

    def _chunks(self) -> Iterator[tuple[list[bytes], NDArray[np.float32]]]:
        for path in sorted(self.folder.glob("chunk-*.safetensors")):
            try:
                with safe_open(path, framework="numpy") as file:
                    digests, vectors = file.get_tensor("digests"), file.get_tensor("vectors")
            except (OSError, SafetensorError) as error:
                # Only content of known digests is lost: it is encoded again.
                logger.warning("%s cannot be read (%s): left out, its content is encoded again", path, error)
                continue
            if digests.shape == (len(vectors), _DIGEST_BYTES) and vectors.shape[1:] == (self.dim,):
                yield [row.tobytes() for row in digests], vectors

    def add(self, digests: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """Write a chunk.

        Raises:
            ArtifactError: If it cannot be written.
        """
        rows = np.frombuffer(b"".join(bytes.fromhex(digest) for digest in digests), dtype=np.uint8)
        scratch = self.folder / f".{token_hex(8)}.part"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            save_file({"digests": rows.reshape(-1, _DIGEST_BYTES), "vectors": np.ascontiguousarray(vectors)}, scratch)
            scratch.replace(self.folder / f"chunk-{token_hex(8)}.safetensors")
        except (OSError, SafetensorError) as error:
            raise ArtifactError(
                f"encoded vectors cannot be written to {self.folder} ({error}); free space there, or set "
                "stage_cache_dir to a folder that can be written to"
            ) from error
        finally:
            with suppress(OSError):  # a folder that could not be made has no file either
                scratch.unlink(missing_ok=True)


@dataclass(frozen=True)
class Things:
    """What is to be encoded.

    Attributes:
        digests: SHA-256 of each thing, in hexadecimal; equal ones are encoded once.
        load: Places in ``digests`` to the things that stand there, in that order; ``None`` for one that is broken.
        batch: Things that are in memory at once.
        unit: What they are, in the plural, for logs.
    """

    digests: Sequence[str]
    load: Callable[[Sequence[int]], Sequence[Any | None]]
    batch: int
    unit: str


def encode_cached(
    encoder: Any, things: Things, cache: EncodingCache, show_progress: bool = False
) -> NDArray[np.float32]:
    """Return one vector a thing, encoding only what the cache does not have.

    What is finished is kept at least every half minute: a run that was killed continues there and gives the same bits,
    because the same things always stand in the same batch.

    Args:
        encoder: A text or image encoder.
        things: In the order in which they are encoded; things of like length should stand together.
        cache: Of this encoder.
        show_progress: Whether to draw a progress bar.

    Returns:
        Shape ``[n, dim]``; zeros for a broken thing.

    Raises:
        ArtifactError: If the cache cannot be written to.
        DataError: If the encoder gives NaN or infinity.
    """
    distinct = list(dict.fromkeys(things.digests))
    first = {digest: place for place, digest in reversed(list(enumerate(things.digests)))}
    vectors, found = cache.read(distinct)
    n_there, n_done, started = int(found.sum()), 0, time.perf_counter()
    writer = _Writer(cache)
    with tqdm(total=len(distinct), initial=n_there, desc=encoder.name, unit=f" {things.unit}",
              disable=not show_progress) as bar, writer:  # fmt: skip
        for start in range(0, len(distinct), things.batch):
            rows = start + np.flatnonzero(~found[start : start + things.batch])
            loaded = things.load([first[distinct[row]] for row in rows]) if len(rows) else []
            good = [(row, thing) for row, thing in zip(rows, loaded, strict=True) if thing is not None]
            if good:
                places = [row for row, _ in good]
                vectors[places] = _finite(encoder, encoder.encode([thing for _, thing in good]))
                writer.add([distinct[row] for row in places], vectors[places])
            n_done += len(good)
            bar.update(len(rows))
    seconds = time.perf_counter() - started
    logger.info(
        "%s: %d of %d distinct %s encoded in %.1f s (%.0f/s), %d were in %s, %d broken",
        encoder.name, n_done, len(distinct), things.unit, seconds, n_done / max(seconds, 1e-9), n_there, cache.folder,
        len(distinct) - n_there - n_done,
    )  # fmt: skip
    row_of = {digest: row for row, digest in enumerate(distinct)}
    return vectors[[row_of[digest] for digest in things.digests]]


def _finite(encoder: Encoder, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    if not np.isfinite(vectors).all():
        raise DataError(f"encoder {encoder.name} gave NaN or infinity: its weights are broken, or need float32")
    return vectors


class _Writer:
    """Gathers finished batches into chunks; what was gathered is written at the end, an interrupt included."""

    def __init__(self, cache: EncodingCache) -> None:
        self._cache = cache
        self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()

    def _start(self) -> None:
        self._digests: list[str] = []
        self._vectors: list[NDArray[np.float32]] = []
        self._since = time.monotonic()

    def add(self, digests: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """Take a batch, and write what was gathered if it is much or long ago."""
        self._digests += digests
        self._vectors.append(vectors)
        if len(self._digests) >= _CHUNK_ROWS or time.monotonic() - self._since >= _FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what was gathered."""
        if self._digests:
            self._cache.add(self._digests, np.concatenate(self._vectors))
        self._start()
