"""Builders of the two hypergraphs of HeLLM's first stage: users who share items, items that look alike."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from tqdm import tqdm

from recbole_hellm.errors import ConfigError, DataError
from recbole_hellm.hypergraph.structure import Hypergraph

SPARE = 32
"""Candidates proposed in float32 beyond the neighbours asked for: enough that a doubt is rare."""


def shared_item_hypergraph(users: Tensor, items: Tensor, n_users: int, n_items: int) -> Hypergraph:
    """Join all users who took an item by one hyperedge per item.

    Source: HeLLM (arXiv 2504.10541) and MMHCL (arXiv 2504.16576), the user-level hypergraph ``R R^T``.

    Args:
        users: User of each training interaction, int64 ``[E]``; repeated interactions count once.
        items: Item of each training interaction, int64 ``[E]``.
        n_users: Number of users; they are the nodes.
        n_items: Number of items; they are the hyperedges.

    Returns:
        A hypergraph whose incidence matrix is the binary interaction matrix ``R``.

    Raises:
        DataError: If an id is out of range or the two vectors do not fit.
    """
    return Hypergraph(node=users, edge=items, n_nodes=n_users, n_edges=n_items)


def nearest_neighbour_hypergraph(
    modalities: Sequence[Tensor],
    k: int,
    present: Sequence[Tensor] | None = None,
    block_rows: int = 256,
    show_progress: bool = False,
) -> Hypergraph:
    """Join items by their nearest neighbours in each modality, one hyperedge per item and modality.

    Source: MMHCL (arXiv 2504.16576), the item-level hypergraph. ``A_m[i, j] = 1`` if ``j`` is among the ``k``
    items of largest positive cosine similarity to ``i``, ``i`` itself included (and always first);
    ``H = [A_1 | A_2 | ...]``. So the node is the row ``i`` that looks for neighbours and hyperedge
    ``m * n_items + j`` holds every item that chose ``j`` in modality ``m``.

    Exact: similarities are computed in float64, ``block_rows`` items at a time (memory
    ``block_rows * n_items``), and compared as float32; among equal ones the smaller id wins, so
    duplicated vectors have the same neighbours whatever the block size. A product in float32 leaves out those
    that cannot be among the nearest.

    Args:
        modalities: One feature matrix per modality, each ``[n_items, d_m]``.
        k: Neighbours per item and modality, the item itself included.
        present: Per modality a bool vector ``[n_items]``, False where the item has no such feature.
            A missing item, like one with an all-zero vector, has no neighbours and is nobody's
            neighbour in that modality. Without it only all-zero vectors are missing: mark a padding
            row here unless it is zero.
        block_rows: Items compared with all others at a time.
        show_progress: Whether to draw a progress bar.

    Returns:
        A hypergraph with ``n_items`` nodes and ``len(modalities) * n_items`` hyperedges.

    Raises:
        ConfigError: If ``k`` or ``block_rows`` is below 1.
        DataError: If there is no modality, shapes do not fit or a feature is not finite.
    """
    if k < 1:
        raise ConfigError(f"the number of neighbours k must be >= 1, got {k}")
    if block_rows < 1:
        raise ConfigError(f"block_rows must be >= 1, got {block_rows}")
    if not modalities:
        raise DataError("an item hypergraph needs at least one modality; leave the item hypergraph out instead")
    if present is not None and len(present) != len(modalities):
        raise DataError(f"{len(modalities)} modalities need as many 'present' masks, got {len(present)}")
    n_items = modalities[0].shape[0]
    nodes, edges = [], []
    for m, features in enumerate(modalities):
        mask = None if present is None else present[m]
        ids, unit = _unit_rows(features, mask, n_items, m)
        rough, starts = unit.float(), range(0, ids.numel(), block_rows)
        room = _Room(unit, min(block_rows, ids.numel()), k)
        for start in tqdm(starts, desc=f"neighbours, modality {m + 1}", disable=not show_progress):
            row, column = _block_neighbours(unit, rough, start, min(start + block_rows, ids.numel()), k, room)
            nodes.append(ids[row])
            edges.append(ids[column] + m * n_items)
    device = modalities[0].device
    empty = torch.empty(0, dtype=torch.int64, device=device)
    return Hypergraph(
        node=torch.cat([empty, *nodes]),
        edge=torch.cat([empty, *edges]),
        n_nodes=n_items,
        n_edges=len(modalities) * n_items,
    )


def _unit_rows(features: Tensor, present: Tensor | None, n_items: int, modality: int) -> tuple[Tensor, Tensor]:
    """Return the ids of the items that have a feature and their unit vectors (float64)."""
    if features.dim() != 2 or features.shape[0] != n_items:
        raise DataError(
            f"modality {modality} must have shape [{n_items}, d] as the first one, got {tuple(features.shape)}"
        )
    usable = torch.ones(n_items, dtype=torch.bool, device=features.device)
    if present is not None:
        if present.dtype != torch.bool or present.shape != usable.shape:
            raise DataError(
                f"the 'present' mask of modality {modality} must be bool with shape [{n_items}], "
                f"got {present.dtype} with shape {tuple(present.shape)}"
            )
        usable &= present.to(features.device)
    # Only usable rows are read: a missing row may hold anything.
    ids = usable.nonzero().squeeze(1)
    rows = features.detach()[ids].double()
    if not bool(torch.isfinite(rows).all()):
        bad = ids[~torch.isfinite(rows).all(dim=1)]
        raise DataError(
            f"modality {modality} has {bad.numel()} rows that are not finite, the first is item {int(bad[0])}"
        )
    norms = rows.norm(dim=1)
    nonzero = norms > 0
    return ids[nonzero], rows[nonzero] / norms[nonzero, None]


class _Room:
    """Memory for the large matrices of a block, taken once: glibc before 2.38 does not reuse what was freed aligned.

    Without it the process grew by the matrices of a block with every block, in some runs and not in others.

    Args:
        unit: Unit vectors, ``[n, d]``.
        rows: Rows of a block, at most.
        k: Neighbours of a row.
    """

    def __init__(self, unit: Tensor, rows: int, k: int) -> None:
        n, width = unit.shape
        self.similarity = torch.empty(rows, n, device=unit.device)
        self.candidates = unit.new_empty(rows * min(k + SPARE, n), width)

    def similarities(self, left: Tensor, right: Tensor) -> Tensor:
        """Return ``left @ right.T``, valid until the next call."""
        return torch.mm(left, right.T, out=self.similarity[: len(left)])

    def rows(self, unit: Tensor, places: Tensor) -> Tensor:
        """Return the rows of ``unit`` at ``places [b, c]`` as ``[b, c, d]``, valid until the next call."""
        found = torch.index_select(unit, 0, places.flatten(), out=self.candidates[: places.numel()])
        return found.view(*places.shape, -1)


def _block_neighbours(unit: Tensor, rough: Tensor, start: int, stop: int, k: int, room: _Room) -> tuple[Tensor, Tensor]:
    """Return (row, column) pairs of the ``k`` most similar rows for rows ``start..stop``.

    A product in float32 proposes candidates, float64 decides among them; where the proposal's error bound leaves a
    doubt, float64 decides among all.

    Args:
        unit: Unit vectors, float64 ``[n, d]``.
        rough: The same in float32.
        start: First row.
        stop: Row after the last.
        k: Neighbours of a row, itself included.
        room: Memory for the block.
    """
    n = unit.shape[0]
    if k + SPARE >= n:
        return _all_compared(unit, torch.arange(start, stop, device=unit.device), k)
    similarity = room.similarities(rough[start:stop], rough)
    rows = torch.arange(start, stop, device=unit.device)
    similarity[rows - start, rows] = torch.inf  # an item is its own nearest neighbour
    values, columns = similarity.topk(k + SPARE, dim=1)
    columns = columns.sort(dim=1).values  # among equal similarities the smaller id wins: the sort below is stable
    exact = torch.bmm(room.rows(unit, columns), unit[start:stop].unsqueeze(2)).squeeze(2).float()
    exact[columns == rows.unsqueeze(1)] = torch.inf
    exact, order = exact.sort(dim=1, descending=True, stable=True)
    columns = columns.gather(1, order)
    # |fl(x y) - x y| <= d u |x| |y| for unit vectors in float32, u = 2^-24 (Higham 2002, 3.5), and as much for rounding
    # the vectors themselves: whoever was not proposed lies below this.
    others = values[:, -1] + 4 * unit.shape[1] * 2.0**-24
    sure = exact[:, k - 1] > others.clamp(min=0)
    keep = (exact[:, :k] > 0) & sure.unsqueeze(1)
    row, place = keep.nonzero(as_tuple=True)
    found = row + start, columns[row, place]
    if bool(sure.all()):
        return found
    others_found = _all_compared(unit, rows[~sure], k)
    return torch.cat([found[0], others_found[0]]), torch.cat([found[1], others_found[1]])


def _all_compared(unit: Tensor, rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return (row, column) pairs of the ``k`` most similar rows, every similarity in float64."""
    # float64 products rounded to float32: duplicated vectors tie exactly, whatever order BLAS sums in.
    similarity = (unit[rows] @ unit.T).float()
    similarity[torch.arange(len(rows), device=unit.device), rows] = torch.inf
    values, columns = similarity.topk(min(k, unit.shape[0]), dim=1)
    least = values[:, -1:]
    chosen = torch.zeros_like(similarity, dtype=torch.bool).scatter_(1, columns, values > 0)
    # topk may take any of several equal values: where more than k qualify, take the smaller ids.
    crowded = ((similarity >= least).sum(dim=1) > k) & (least[:, 0] > 0)
    if bool(crowded.any()):
        above, tied = similarity[crowded] > least[crowded], similarity[crowded] == least[crowded]
        room = k - above.sum(dim=1, keepdim=True)
        chosen[crowded] = above | (tied & (tied.cumsum(dim=1) <= room))
    row, column = chosen.nonzero(as_tuple=True)
    return rows[row], column
