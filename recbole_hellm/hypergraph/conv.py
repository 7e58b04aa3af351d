"""Propagation over user-item graphs and hypergraphs; the only module that imports dgl.

Every operator is written once on top of `NeighbourSum`, an unweighted sum over neighbours with
two equal backends. Nodes are scaled before and after it: edge weights are several times slower.
No ``N x N`` matrix and no list of user pairs or item pairs is ever built.
"""

from __future__ import annotations

import os
import warnings
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from recbole_hellm.errors import ConfigError, nearest
from recbole_hellm.hypergraph.structure import Hypergraph, UserItemGraph

BACKENDS = ("auto", "dgl", "torch")


@cache
def _load_dgl() -> Any:
    """Import dgl with its pytorch backend; None when it is not installed or does not load."""
    os.environ.setdefault("DGLBACKEND", "pytorch")  # dgl reads it at import and else asks or writes a file
    try:
        import dgl
    except (ImportError, OSError):  # OSError: a wheel whose shared library does not fit this machine
        return None
    return dgl


def resolve_backend(backend: str, device: torch.device | str = "cpu") -> str:
    """Return ``"dgl"`` or ``"torch"`` for tensors on ``device``.

    Args:
        backend: ``"auto"`` (dgl when it is installed and the device is the CPU, else torch), ``"dgl"`` or ``"torch"``.
        device: Where the node vectors are.

    Raises:
        ConfigError: If the name is unknown, dgl is asked for and not installed, or dgl is asked for on a
            device other than the CPU (its wheels are CPU builds).
    """
    if backend not in BACKENDS:
        raise ConfigError(
            f"unknown graph backend {backend!r}{nearest(backend, BACKENDS)}; known: {', '.join(BACKENDS)}"
        )
    on_cpu = torch.device(device).type == "cpu"
    if backend == "torch" or (backend == "auto" and not on_cpu):
        return "torch"
    if backend == "dgl" and not on_cpu:
        raise ConfigError(
            f"graph backend 'dgl' runs on the CPU only, got tensors on {str(device)!r}; use backend 'torch' (or 'auto')"
        )
    if _load_dgl() is not None:
        return "dgl"
    if backend == "dgl":
        raise ConfigError("graph backend 'dgl' needs the package dgl (pip install dgl==1.1.3); or use backend 'torch'")
    return "torch"


class _CsrSum(torch.autograd.Function):
    """``A x`` for a binary CSR matrix, whose backward multiplies by a given transposed CSR matrix.

    Plain autograd transposes the matrix at every step and takes about twice as long.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, crow: Tensor, col: Tensor, back_crow: Tensor, back_col: Tensor) -> Tensor:
        ctx.save_for_backward(back_crow, back_col)
        ctx.shape = (x.shape[0], crow.numel() - 1)
        return _csr_matmul(crow, col, x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        back_crow, back_col = ctx.saved_tensors
        return _csr_matmul(back_crow, back_col, grads[0]), None, None, None, None


def _csr_matmul(crow: Tensor, col: Tensor, x: Tensor) -> Tensor:
    """Multiply the binary CSR matrix (crow, col) by ``x [n_columns, D]``."""
    ones = torch.ones(col.numel(), dtype=x.dtype, device=x.device)
    shape = (crow.numel() - 1, x.shape[0])
    with warnings.catch_warnings(), torch.autocast(x.device.type, enabled=False):
        # torch says once per process that CSR is in beta and that invariants are not checked; ours are by construction.
        warnings.filterwarnings("ignore", message=r".*[Ss]parse.*", category=UserWarning)
        matrix = torch.sparse_csr_tensor(crow, col, ones, shape, check_invariants=False)
        return matrix @ x.contiguous()


class NeighbourSum(nn.Module):
    """Sum of neighbour vectors: ``out[target] += x[source]`` over all (source, target) pairs.

    Holds no parameter and puts nothing into ``state_dict``; it moves with ``.to(device)``.

    Args:
        source: Source of each pair, int64 ``[E]``.
        target: Target of each pair, int64 ``[E]``.
        n_sources: Rows of the input.
        n_targets: Rows of the output.
        backend: See `resolve_backend`; ``"auto"`` is decided at each call from the device of ``x``.
    """

    crow: Tensor
    col: Tensor
    back_crow: Tensor
    back_col: Tensor

    def __init__(self, source: Tensor, target: Tensor, n_sources: int, n_targets: int, backend: str = "auto") -> None:
        super().__init__()
        resolve_backend(backend)
        self.n_sources, self.n_targets, self.backend = n_sources, n_targets, backend
        crow, col = _compress(target, source, n_targets)
        back_crow, back_col = _compress(source, target, n_sources)
        if torch.equal(crow, back_crow) and torch.equal(col, back_col):
            back_crow, back_col = crow, col  # a symmetric matrix is its own transpose: keep one copy
        for name, value in (("crow", crow), ("col", col), ("back_crow", back_crow), ("back_col", back_col)):
            self.register_buffer(name, value, persistent=False)
        self._dgl_graph: Any = None

    def forward(self, x: Tensor) -> Tensor:
        """Sum the vectors of each target's sources.

        Args:
            x: Source vectors ``[n_sources, D]``; half precision is summed in float32.

        Returns:
            Shape ``[n_targets, D]``, dtype of ``x``; a target without sources gives zeros.

        Raises:
            ValueError: If ``x`` is not a matrix with ``n_sources`` rows.
            ConfigError: If backend "dgl" meets a tensor that is not on the CPU.
        """
        if x.dim() != 2 or x.shape[0] != self.n_sources:
            raise ValueError(f"expected node vectors of shape [{self.n_sources}, D], got {tuple(x.shape)}")
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        if resolve_backend(self.backend, x.device) == "dgl":
            out = _load_dgl().ops.copy_u_sum(self._graph(), wide)
        else:
            out = _CsrSum.apply(wide, self.crow, self.col, self.back_crow, self.back_col)
        return out.to(x.dtype)

    def _graph(self) -> Any:
        """Return the dgl graph, built at the first call on the CPU."""
        if self._dgl_graph is None:
            dgl = _load_dgl()
            target = torch.repeat_interleave(torch.arange(self.n_targets), self.crow.cpu().diff())
            self._dgl_graph = dgl.heterograph(
                {("source", "to", "target"): (self.col.cpu(), target)},
                {"source": self.n_sources, "target": self.n_targets},
            )
        return self._dgl_graph

    def extra_repr(self) -> str:
        return f"{self.n_sources} -> {self.n_targets}, {self.col.numel()} pairs, backend={self.backend!r}"


class SymmetricUserItemSum(nn.Module):
    """One LightGCN propagation ``D^-1/2 A D^-1/2 X`` with ``A = [[0, R], [R^T, 0]]``, users before items.

    Source: He et al. 2020 (arXiv 2002.02126), equation 8, as used by MMHCL. No self loops.
    """

    scale: Tensor

    def __init__(self, graph: UserItemGraph, backend: str = "auto") -> None:
        super().__init__()
        size = graph.n_users + graph.n_items
        items = graph.items + graph.n_users
        source, target = torch.cat([graph.users, items]), torch.cat([items, graph.users])
        self.neighbours = NeighbourSum(source, target, size, size, backend)
        degrees = torch.cat([graph.user_degrees, graph.item_degrees])
        self.register_buffer("scale", _power(degrees, -0.5), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Propagate ``x [n_users + n_items, D]``; a node without interactions gets zeros."""
        scale = self.scale.to(x.dtype)
        return self.neighbours(x * scale) * scale


class SharedEdgeMean(nn.Module):
    """Mean over the other nodes that share hyperedges: ``D^-1 (H (H^T X) - deg * X)``.

    That is ``H H^T`` with its diagonal set to zero, row-normalised (``D`` its row sums): a neighbour
    counts once per shared hyperedge. Source: MMHCL (arXiv 2504.16576), user-level hypergraph.
    """

    degrees: Tensor
    scale: Tensor

    def __init__(self, graph: Hypergraph, backend: str = "auto") -> None:
        super().__init__()
        self.to_edges, self.to_nodes = _both_ways(graph, backend)
        self.register_buffer("degrees", graph.node_degrees[:, None], persistent=False)
        self.register_buffer("scale", _power(graph.walk_counts() - graph.node_degrees, -1.0), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Propagate ``x [n_nodes, D]``; a node that shares no hyperedge gets zeros."""
        shared = self.to_nodes(self.to_edges(x)) - self.degrees * x
        return shared * self.scale.to(x.dtype)


class SymmetricHypergraphSum(nn.Module):
    """Propagation ``D^-1/2 H H^T D^-1/2 X`` with ``D`` the row sums of ``H H^T``, the diagonal kept.

    Source: MMHCL (arXiv 2504.16576), item-level hypergraph.
    """

    scale: Tensor

    def __init__(self, graph: Hypergraph, backend: str = "auto") -> None:
        super().__init__()
        self.to_edges, self.to_nodes = _both_ways(graph, backend)
        self.register_buffer("scale", _power(graph.walk_counts(), -0.5), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Propagate ``x [n_nodes, D]``; a node in no hyperedge gets zeros."""
        scale = self.scale.to(x.dtype)
        return self.to_nodes(self.to_edges(x * scale)) * scale


def _both_ways(graph: Hypergraph, backend: str) -> tuple[NeighbourSum, NeighbourSum]:
    """Return the sums ``H^T x`` (nodes to hyperedges) and ``H y`` (hyperedges to nodes)."""
    to_edges = NeighbourSum(graph.node, graph.edge, graph.n_nodes, graph.n_edges, backend)
    to_nodes = NeighbourSum(graph.edge, graph.node, graph.n_edges, graph.n_nodes, backend)
    return to_edges, to_nodes


def _compress(row: Tensor, column: Tensor, n_rows: int) -> tuple[Tensor, Tensor]:
    """Return (row pointers, columns) of the pairs, sorted by row and then column."""
    order = torch.argsort(column, stable=True)
    order = order[torch.argsort(row[order], stable=True)]
    pointers = torch.bincount(row, minlength=n_rows).cumsum(0)
    return torch.cat([pointers.new_zeros(1), pointers]), column[order]


def _power(counts: Tensor, exponent: float) -> Tensor:
    """Return ``counts ** exponent`` as a float64 column, zero where the count is zero."""
    return torch.where(counts > 0, counts.clamp(min=1).double() ** exponent, 0.0)[:, None]
