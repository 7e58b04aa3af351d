"""One run on several processes: who is who, and what they tell each other. Alone, every function is a no-op."""

from recbole_hellm.distributed.group import (
    PeerLost,
    gather,
    is_main,
    joined,
    launched,
    local_rank,
    main_first,
    maxima,
    of_main,
    on_this_machine,
    rank,
    sums,
    wait,
    world_size,
)
from recbole_hellm.distributed.tensors import check_equal, even_rows, mesh, own_rows, spread, sum_gradients

__all__ = [
    "PeerLost",
    "check_equal",
    "even_rows",
    "gather",
    "is_main",
    "joined",
    "launched",
    "local_rank",
    "main_first",
    "maxima",
    "mesh",
    "of_main",
    "on_this_machine",
    "own_rows",
    "rank",
    "spread",
    "sum_gradients",
    "sums",
    "wait",
    "world_size",
]
