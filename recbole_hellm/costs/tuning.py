"""Memory and operations of the language model's training, and of evaluation.

Sizes in letters: I items, D width, F inner width, T tokens of a row, P prefix, M scored positions, B rows.
"""

from __future__ import annotations

import math

from recbole_hellm.costs.fusion import choice_memory, sum_work
from recbole_hellm.costs.rows import DataShape
from recbole_hellm.costs.shapes import DecoderShape, EvaluationShape, GraphShape, RunShape, TuneShape
from recbole_hellm.costs.stages import (
    ADAM,
    BACKWARD,
    FLOAT,
    PASSES_ADAM,
    graph_memory,
    graph_step,
    neighbour_memory,
    neighbour_work,
)
from recbole_hellm.costs.work import StageCost, Work

WIDE, INNER = 32, 16
"""Bytes kept for the backward pass per token and layer, times D and F, with bf16 products: residual stream and norms in
fp32, projections in bf16, LoRA's share. Fits SmolLM2-135M, LoRA on its MLP, 32 rows of 24 tokens, 4 to 30 layers.
"""
ALLOCATED = 1.5
"""What the allocator holds between two returns to the system, relative to what is in use: every batch has another
length, so that its blocks seldom fit the next one. Measured on Toys over 96 steps."""
FP32 = 1.5
"""The same with fp32 products, relative to bf16."""
LOGIT = {True: 16, False: 12}
"""Bytes of a logit in training, by whether the product is bf16: it, its fp32 copy, log-softmax, gradients."""
SCORED = 0.5
"""Share of the positions that are scored when the graph prefix ends at a random one of them."""
AT_THE_END = 2
"""Rankings after training: validation and test."""
PASS_ROWS = 128
"""Rows the model scores in one pass."""
SCORE = 9
"""Bytes of a score in evaluation: it, the copy it is compared with or RecBole's matrix of targets, a mask."""
SORTED_SCORE = 36
"""The same where a metric sorts the whole ranking."""
UNUSED_OPTIMISER = 1
"""Weight-sized temporary of AdamW, for its largest weight."""


def _tokens(tune: TuneShape, length: int) -> int:
    return length + tune.text_tokens


def weights_memory(tune: TuneShape, n_items: int) -> dict[str, int]:
    """Return bytes of all weights: the frozen decoder and what is trained, without its optimiser."""
    vectors = n_items * (tune.slot_width + tune.graph_width)
    return {
        "language model": FLOAT * tune.decoder.weights,
        "trained weights and item vectors": FLOAT * (tune.trained(n_items) + vectors),
    }


def layer_memory(tune: TuneShape, rows: int, length: int) -> int:
    """Return bytes one layer keeps of a batch for the backward pass."""
    decoder, tokens = tune.decoder, _tokens(tune, length)
    scale = 1.0 if tune.bf16 else FP32
    dense = rows * tokens * (WIDE * decoder.width + INNER * decoder.inner)
    attention = rows * decoder.heads * tokens * (tokens + tune.prefix) * (3 * FLOAT)
    prefix = 2 * rows * tune.prefix * (decoder.width + decoder.kv_heads * decoder.head_width) * FLOAT
    return int(scale * dense) + attention + prefix


def step_memory(data: DataShape, tune: TuneShape, rows_at_once: int = 0) -> dict[str, int]:
    """Return bytes of the largest batch by what takes them.

    Args:
        data: Sizes of the data set.
        tune: Sizes of stage 2.
        rows_at_once: Rows of a batch run at a time; 0: all.
    """
    lengths = data.windows if tune.all_targets else data.prefixes
    rows, tokens, length = lengths.longest_batch(min(tune.batch_size, rows_at_once or tune.batch_size))
    scored = math.ceil(SCORED * (tokens + rows)) if tune.all_targets else rows
    return {
        "activations of the largest batch": int(
            ALLOCATED * (tune.decoder.layers + 1) * layer_memory(tune, rows, length)
        ),
        "logits of the largest batch": LOGIT[tune.bf16] * scored * data.n_items,
    }


def decoder_flops(tune: TuneShape, tokens: float, length: float) -> float:
    """Return the operations of the decoder's layers in a forward pass over ``tokens`` in rows of ``length``."""
    decoder = tune.decoder
    attention = 2 * 2 * decoder.heads * decoder.head_width * (length + tune.prefix)
    return decoder.layers * tokens * (2.0 * decoder.layer_weights + attention)


def tuning_cost(data: DataShape, tune: TuneShape) -> StageCost:
    """Return what training stage 2 costs, at all its epochs."""
    trained = tune.trained(data.n_items)
    lengths = data.windows if tune.all_targets else data.prefixes
    steps = math.ceil(lengths.rows / tune.batch_size)
    tokens = lengths.tokens + lengths.rows * tune.text_tokens
    scored = SCORED * (lengths.tokens + lengths.rows) if tune.all_targets else float(lengths.rows)
    logits = 2.0 * scored * data.n_items * tune.decoder.width
    lora = 2.0 * tune.lora_weights * tokens
    mean = lengths.tokens / max(lengths.rows, 1)
    # Frozen matrices have no gradient of their own: their backward pass is one product, that of LoRA and head two.
    epoch = Work(
        decoder_flops=2 * decoder_flops(tune, tokens, mean) + BACKWARD * (lora + logits),
        moved=steps * trained * FLOAT * PASSES_ADAM
        + 2 * scored * data.n_items * LOGIT[tune.bf16]
        + 2.0 * tune.decoder.layers * layer_memory(tune, 1, math.ceil(mean)) * lengths.rows,
        steps=steps,
        bf16=tune.bf16,
    )
    return StageCost(
        "training",
        held={"gradients and AdamW's moments": (ADAM - 1) * FLOAT * trained},
        own={
            **step_memory(data, tune, tune.rows_at_once),
            "AdamW's temporary": UNUSED_OPTIMISER * FLOAT * data.n_items * tune.decoder.width,
        },
        work=epoch.times(tune.epochs),
        about=f"at most {tune.epochs} x {steps} steps",
        epochs=tune.epochs,
    )


def score_memory(n_items: int, spec: EvaluationShape) -> int:
    """Return bytes of the scores of a batch of evaluation and of what is made of them."""
    return spec.rows * n_items * (SORTED_SCORE if spec.sorts else SCORE)


def evaluation_cost(run: RunShape) -> StageCost:
    """Return what ranking validation and test once costs: the scores of a batch of users, and the pass of the model."""
    data, tune, spec = run.data, run.tune, run.evaluation
    tested, own, work = data.tested, {"scores [B, I] and their ranking": 0}, Work(steps=0)
    rows = min(spec.rows, tested.rows)
    own["scores [B, I] and their ranking"] = score_memory(data.n_items, EvaluationShape(rows, 0, spec.sorts))
    width = run.graph.width if run.graph_is_model and run.graph else 0
    if tune is not None:
        width, length = tune.decoder.width, tested.longest
        own["one pass of the model"] = _pass_memory(tune.decoder, min(PASS_ROWS, rows), _tokens(tune, length), tune)
        tokens = tested.tokens + tested.rows * tune.text_tokens
        mean = tested.tokens / max(tested.rows, 1)
        work = Work(
            decoder_flops=decoder_flops(tune, tokens, mean) + 2.0 * tune.lora_weights * tokens,
            steps=math.ceil(tested.rows / PASS_ROWS),
            bf16=tune.bf16,
        )
    if run.fusion is not None:
        own["candidates the fusion's weights are chosen on"] = choice_memory(run.fusion, data)
        work = work.plus(sum_work(run.fusion, data, tested))
    scores = float(tested.rows) * data.n_items
    work = work.plus(Work(flops=2 * scores * width, scored=scores))
    return StageCost(
        "evaluation",
        own=own,
        work=work.times(AT_THE_END),
        about=f"{AT_THE_END} x {tested.rows:,} users",
    )


def _pass_memory(decoder: DecoderShape, rows: int, tokens: int, tune: TuneShape) -> int:
    """Return bytes of a forward pass without gradients: one layer at a time, and the cache of keys and values."""
    layer = rows * tokens * (WIDE * decoder.width + INNER * decoder.inner)
    cache = 2 * rows * (tokens + tune.prefix) * decoder.layers * decoder.kv_heads * decoder.head_width * FLOAT
    return layer + cache


def graph_training_cost(data: DataShape, graph: GraphShape) -> StageCost:
    """Return what training stage 1 as a model of its own (MMHCL) costs, with its graphs built before."""
    built, step = graph_memory(data, graph)
    steps = math.ceil(data.n_train / graph.batch_size)
    search = neighbour_memory(data, graph)
    return StageCost(
        "training",
        held=built,
        own=step if sum(step.values()) > search else {"search for neighbours": search},
        work=graph_step(data, graph).times(steps * graph.epochs).plus(neighbour_work(data, graph)),
        about=f"at most {graph.epochs} x {steps} steps",
        epochs=graph.epochs,
    )
