"""Memory and operations of the parts before the language model: data, item features, stage 1, stage 1b.

Sizes in letters: U users, I items, E training interactions, D width, B rows of a batch, L history, k neighbours.
"""

from __future__ import annotations

import math

from recbole_hellm.costs.rows import DataShape
from recbole_hellm.costs.shapes import FeatureShape, GraphShape, SequenceShape
from recbole_hellm.costs.work import StageCost, Work

FLOAT, DOUBLE, INT = 4, 8, 8
ADAM = 4
"""Tensors of a trained weight: itself, gradient, two moments."""
TABLE_ROW = 350
"""Bytes of an interaction while RecBole reads it: pandas columns of text, their codes, row numbers."""
PAIR = 64
"""Bytes of a neighbour pair: both directions as compressed rows (16) and DGL's graph with its compressed forms (48)."""
ENCODER_ITEM = 3
"""Copies of a modality's vectors while they are aligned and stored."""
NEIGHBOUR_ROWS = 256
"""Rows of a block of the search for neighbours."""
NEIGHBOUR_BYTES = 2 * DOUBLE + FLOAT + 3
"""Bytes of a similarity in such a block: product in fp64, fp32, and masks."""
NEIGHBOUR_KEPT, NEIGHBOUR_KEPT_MOST = 92, 300 * 2**20
"""What the allocator keeps of earlier blocks, per similarity and at most: it gives large ones back."""
NEIGHBOUR_MOVED = 40
"""Bytes read and written of a similarity: product, conversion, choice of the best, masks."""
CONTRAST_ROWS = 512
"""Rows of a block of the contrast over all nodes."""
CONTRAST_COPIES = 3
"""Similarities of a contrast kept for the backward pass, and their gradient."""
SCORE_COPIES = 3
"""Logits, their log-softmax and gradient, fp32."""
PASSES_ADAM = 7
"""Times Adam reads or writes a weight-sized tensor."""
BACKWARD = 3
"""Operations of forward and backward together, in forwards, where every factor is trained."""


def data_cost(data: DataShape) -> StageCost:
    """Return what reading and splitting costs: RecBole cuts every prefix of a history into a row ``[N, L]``.

    The whole and its split parts are both kept, and a third copy is made while they are sorted.
    """
    row = data.list_bytes * data.max_length + 4 * INT if data.sequential else 3 * INT
    table = data.n_rows * row
    return StageCost(
        "data and model",
        held={"RecBole's rows [N, L], whole and split": 2 * table},
        own={"reading and sorting": table + TABLE_ROW * data.events.tokens},
        work=Work(read_rows=data.events.tokens, moved=6 * table),
        about=f"{data.events.tokens:,} interactions",
    )


def features_cost(data: DataShape, features: tuple[FeatureShape, ...]) -> StageCost:
    """Return what reading or encoding the item features costs; encodings kept from earlier runs save the encoding."""
    vectors = data.n_items * sum(feature.width for feature in features) * FLOAT
    encoder = max((feature.encoder_bytes for feature in features), default=0)
    narrow = data.n_items * sum(feature.flops for feature in features if feature.bf16)
    wide = data.n_items * sum(feature.flops for feature in features if not feature.bf16)
    return StageCost(
        "features",
        held={"item features": vectors},
        own={"encoder": encoder, "vectors being aligned": (ENCODER_ITEM - 1) * vectors},
        work=Work(decoder_flops=narrow, flops=wide, moved=2 * ENCODER_ITEM * vectors, bf16=True),
        about=", ".join(f"{feature.name} [I, {feature.width}]" for feature in features),
    )


def graph_pairs(data: DataShape, graph: GraphShape) -> tuple[int, int, int]:
    """Return neighbour pairs of a single propagation over the user-item graph, user and item hypergraph."""
    users = 2 * data.n_train if graph.user_hypergraph else 0
    items = 2 * data.n_items * graph.neighbours * len(graph.modalities)
    return 2 * data.n_train, users, items


def graph_memory(data: DataShape, graph: GraphShape) -> tuple[dict[str, int], dict[str, int]]:
    """Return bytes of graphs and tables, and of a step, by what takes them."""
    users, items, width = data.n_users, data.n_items, graph.width
    modalities = len(graph.modalities)
    tables = (users + items + (users if graph.user_hypergraph else 0) + (items if modalities else 0)) * width
    built = {
        "graphs": PAIR * sum(graph_pairs(data, graph)),
        "tables with Adam's moments": ADAM * FLOAT * tables,
    }
    if modalities:
        built["kept of the search for neighbours"] = min(NEIGHBOUR_KEPT_MOST, NEIGHBOUR_KEPT * _block(data))
    layers = 3 * (users + items) * (graph.ui_layers + 1)
    if graph.user_hypergraph:
        layers += (3 * users + items) * graph.user_layers + 2 * users
    if modalities:
        layers += (3 + modalities) * items * graph.item_layers + 2 * items
    step = {"vectors of every layer": layers * width * FLOAT}
    for name, wanted, nodes in (
        ("users", graph.contrast_users, users), ("items", graph.contrast_items, items)
    ):  # fmt: skip
        if wanted:
            seen = nodes if graph.all_nodes else min(graph.batch_size, nodes)
            rows = CONTRAST_ROWS if graph.all_nodes else seen
            step[f"contrast over {name}"] = CONTRAST_COPIES * min(rows, seen) * 2 * seen * FLOAT
    return built, step


def neighbour_memory(data: DataShape, graph: GraphShape) -> int:
    """Return bytes of the search for neighbours: unit vectors in fp64 and one block of similarities."""
    widest = max((feature.width for feature in graph.modalities), default=0)
    return (2 * data.n_items * widest * DOUBLE + NEIGHBOUR_BYTES * _block(data)) if widest else 0


def _block(data: DataShape) -> int:
    """Return the similarities of a block of the search for neighbours."""
    return min(NEIGHBOUR_ROWS, data.n_items) * data.n_items


def neighbour_work(data: DataShape, graph: GraphShape) -> Work:
    """Return the operations of the search for neighbours: every pair of items in every modality."""
    pairs = float(data.n_items) ** 2
    flops = sum(2 * pairs * feature.width for feature in graph.modalities)
    return Work(double_flops=flops, moved=NEIGHBOUR_MOVED * pairs * len(graph.modalities))


def graph_step(data: DataShape, graph: GraphShape) -> Work:
    """Return the operations of one step of stage 1."""
    around, of_users, of_items = graph_pairs(data, graph)
    pairs = around * graph.ui_layers + of_users * graph.user_layers + of_items * graph.item_layers
    built, step = graph_memory(data, graph)
    flops, similar = 0.0, 0.0
    for wanted, nodes in ((graph.contrast_users, data.n_users), (graph.contrast_items, data.n_items)):
        if wanted:
            seen = nodes if graph.all_nodes else min(graph.batch_size, nodes)
            flops += 2 * 2.0 * seen * seen * graph.width * (BACKWARD + (1 if graph.all_nodes else 0))
            similar += 2.0 * seen * seen * FLOAT
    moved = built["tables with Adam's moments"] / ADAM * PASSES_ADAM + 4 * step["vectors of every layer"] + 8 * similar
    return Work(flops=flops, moved=moved, gathered=2 * pairs * graph.width * FLOAT, steps=1)


def graph_cost(data: DataShape, graph: GraphShape) -> StageCost:
    """Return what stage 1 costs inside a HeLLM run."""
    built, step = graph_memory(data, graph)
    search = neighbour_memory(data, graph)
    own = {**built, **step} if sum(step.values()) > search else {**built, "search for neighbours": search}
    steps = math.ceil(data.n_train / graph.batch_size)
    work = graph_step(data, graph).times(steps * graph.epochs).plus(neighbour_work(data, graph))
    return StageCost("graph", own=own, work=work, about=f"{graph.epochs} x {steps} steps", epochs=graph.epochs)


def sequence_cost(data: DataShape, spec: SequenceShape) -> StageCost:
    """Return what stage 1b costs: one causal pass a user, scores of the whole catalogue at every position."""
    rows, tokens, length = data.windows.longest_batch(spec.batch_size)
    width, padded = spec.width, rows * length
    weights = data.n_items * width + spec.layers * (4 * width * width + 2 * width * spec.inner)
    layer = padded * (14 * width + 3 * spec.inner) * FLOAT + 4 * rows * spec.heads * length * length * FLOAT
    own = {
        "scores of the largest batch": SCORE_COPIES * tokens * data.n_items * FLOAT,
        "activations": spec.layers * layer,
        "weights with Adam's moments": (ADAM + 1) * FLOAT * weights,
    }
    seen = data.windows.tokens
    layers = 2.0 * spec.layers * (4 * width * width + 2 * width * spec.inner + 2 * width * length)
    scores = float(seen) * data.n_items
    steps = math.ceil(data.windows.rows / spec.batch_size)
    epoch = Work(
        flops=BACKWARD * (seen * layers + 2 * scores * width),
        moved=6 * scores * FLOAT + steps * weights * FLOAT * PASSES_ADAM + 2.0 * layer / max(padded, 1) * seen,
        steps=steps,
    )
    about = f"{spec.epochs} x {steps} steps"
    return StageCost("sequence", own=own, work=epoch.times(spec.epochs), about=about, epochs=spec.epochs)
