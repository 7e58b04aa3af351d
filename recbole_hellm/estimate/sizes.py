"""The sizes of a run, from its settings and the heads of its files; nothing is loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from recbole_hellm.config.specs import (
    BackboneSpec,
    FeatureSpec,
    FinetuneSpec,
    FusionSpec,
    GraphSpec,
    LoraSpec,
    PrefixSpec,
    PretrainSpec,
    PromptSpec,
    RunSpec,
    SequenceSpec,
    TransitionSpec,
)
from recbole_hellm.costs.rows import DataShape, Lengths
from recbole_hellm.costs.shapes import (
    EvaluationShape,
    FeatureShape,
    FusionShape,
    GraphShape,
    RunShape,
    SequenceShape,
    TuneShape,
)
from recbole_hellm.data.inter import check_inter_file
from recbole_hellm.errors import DataError
from recbole_hellm.estimate.networks import decoder_shape, feature_shape, linear_widths
from recbole_hellm.models.hellm import HeLLM
from recbole_hellm.models.mmhcl import MMHCL
from recbole_hellm.pipeline.modalities import find_modalities
from recbole_hellm.precision import use_bf16

TEMPLATE_TOKENS = 60
"""Tokens of the Alpaca template with its instruction."""


def run_shape(config: Any) -> RunShape:
    """Return the sizes of a run.

    Args:
        config: Its settings (:class:`~recbole_hellm.config.recbole_config.HellmConfig`).

    Raises:
        HellmError: If a file that decides them is missing or broken.
    """
    settings, data, kind = config.final_config_dict, data_shape(config), config.model_class
    epochs, step = int(config["epochs"]), int(config["eval_step"])
    rows = int(config["eval_batch_size"])
    evaluation = EvaluationShape(
        rows=rows if data.sequential else max(1, rows // data.n_items),
        validations=epochs // step if step else 0,
        sorts=any(metric.lower() == "gauc" for metric in config["metrics"]),
    )
    if issubclass(kind, MMHCL):
        features = _graph_features(config)
        graph = graph_shape(settings, features, epochs, int(config["train_batch_size"]))
        return RunShape(data, features, graph, None, None, evaluation, graph_is_model=True)
    if issubclass(kind, HeLLM):
        return _hellm_shape(config, data, evaluation)
    return RunShape(data, (), None, None, None, evaluation)


def _hellm_shape(config: Any, data: DataShape, evaluation: EvaluationShape) -> RunShape:
    settings = config.final_config_dict
    tune, prefix = FinetuneSpec.from_config(settings), PrefixSpec.from_config(settings)
    spec, trained = SequenceSpec.from_config(settings), PretrainSpec.from_config(settings)
    fused = FusionSpec.from_config(settings)
    graph: GraphShape | None = None
    sequence: SequenceShape | None = None
    learns = fused.uses_llm  # else what the language model reads is not made either
    read = tune.graph_vectors or (prefix.len > 0 and prefix.graph)
    uses_graph = (learns and read) or fused.has("graph")
    in_graph = uses_graph and GraphSpec.from_config(settings).item_hypergraph
    features = _features(config) if in_graph or fused.has("neighbours") else ()
    if uses_graph:
        graph = graph_shape(settings, features if in_graph else (), trained.epochs, trained.batch_size)
    if learns and spec.vectors:
        sizes = (spec.embedding_size, spec.n_layers, spec.n_heads, spec.inner_size, spec.epochs, spec.batch_size)
        sequence = SequenceShape(*sizes)
    alone = RunSpec.from_config(settings).only_pretrains
    fusion = fusion_shape(settings, features if fused.has("neighbours") else ()) if fused.learned else None
    shape = tune_shape(config) if learns else replace(tune_shape(config), epochs=0)
    return RunShape(data, features, graph, sequence, shape, evaluation, fusion=fusion, only_stages=alone)


def fusion_shape(settings: Any, features: tuple[FeatureShape, ...]) -> FusionShape:
    """Return the sizes of the sum of scores.

    Args:
        settings: Flat settings.
        features: Those whose cosines are parts.
    """
    spec = FusionSpec.from_config(settings)
    graph = (GraphSpec.from_config(settings).embedding_size,) if spec.has("graph") else ()
    gaps = TransitionSpec.from_config(settings).max_gap if spec.has("transitions") else 0
    others = sum(spec.has(part) for part in ("llm", "transitions", "repeat"))
    others += spec.has("llm") and spec.fusion_llm_mean and FinetuneSpec.from_config(settings).residual
    widths = (*(feature.width for feature in features), *graph)
    return FusionShape(widths, gaps, len(widths) + others, spec.fusion_users)


def data_shape(config: Any) -> DataShape:
    """Return the sizes of the data set, from two columns of its ``.inter`` file; RecBole's filters are not applied.

    Raises:
        DataError: If the columns cannot be read.
    """
    file = Path(config["data_path"]) / f"{config['dataset']}.inter"
    if not file.is_file():
        raise DataError(f"{file} does not exist: run 'recbole-hellm prepare {config['dataset']}', or set data_path")
    user, item, separator = config["USER_ID_FIELD"], config["ITEM_ID_FIELD"], config["field_separator"]
    try:
        with file.open(encoding=config["encoding"] or "utf-8") as handle:
            cells = handle.readline().rstrip("\r\n").split(separator)
        kinds = dict(cell.partition(":")[::2] for cell in cells)
        wanted = [f"{name}:{kinds[name]}" for name in (user, item)]
        table = pd.read_csv(file, sep=separator, usecols=wanted, dtype="category", quoting=3, encoding_errors="replace")
        counts = table[wanted[0]].value_counts().value_counts()
        n_items = int(table[wanted[1]].cat.categories.size)
    except (OSError, KeyError, ValueError) as error:
        check_inter_file(file, [user, item], separator)  # names row and rule
        raise DataError(
            f"{file} cannot be counted: {' '.join(str(error).split())}; check its header and rows"
        ) from error
    chosen = (config["load_col"] or {}).get("inter") if isinstance(config["load_col"], dict) else None
    listed = [kinds.get(name, "token") for name in (chosen or kinds) if name != user]
    leave = {"valid_and_test": 2, "test_only": 1, "valid_only": 1}
    return DataShape(
        n_users=int(counts.sum()) + 1,
        n_items=n_items + 1,
        events=Lengths.of((int(length), int(users)) for length, users in counts.items()),
        max_length=int(config["MAX_ITEM_LIST_LENGTH"] or 0) or 1,
        held_out=leave.get(str((config["eval_args"].get("split") or {}).get("LS")), 0),
        sequential=config["MODEL_TYPE"].name == "SEQUENTIAL",
        list_bytes=sum(4 if kind == "float" else 8 for kind in listed),
    )


def graph_shape(settings: Any, features: tuple[FeatureShape, ...], epochs: int, batch_size: int) -> GraphShape:
    """Return the sizes of stage 1."""
    spec = GraphSpec.from_config(settings)
    return GraphShape(
        width=spec.embedding_size,
        ui_layers=spec.ui_layers,
        user_layers=spec.user_layers,
        item_layers=spec.item_layers,
        neighbours=spec.neighbours,
        user_hypergraph=spec.user_hypergraph,
        modalities=features,
        contrast_users=spec.user_hypergraph and spec.alpha_user > 0,
        contrast_items=bool(features) and spec.alpha_item > 0,
        all_nodes=spec.contrast == "all",
        epochs=epochs,
        batch_size=batch_size,
    )


def tune_shape(config: Any) -> TuneShape:
    """Return the sizes of stage 2."""
    settings = config.final_config_dict
    llm, lora = BackboneSpec.from_config(settings), LoraSpec.from_config(settings)
    prefix, tune = PrefixSpec.from_config(settings), FinetuneSpec.from_config(settings)
    graph, sequence = GraphSpec.from_config(settings), SequenceSpec.from_config(settings)
    decoder = decoder_shape(llm.path, llm.layers)
    graph_width, sequence_width = graph.embedding_size, sequence.embedding_size if sequence.vectors else 0
    return TuneShape(
        decoder=decoder,
        slot_width=(graph_width if tune.graph_vectors else 0) + sequence_width,
        graph_width=graph_width,
        lora_weights=decoder.layers * sum(lora.r * sum(linear_widths(decoder, name)) for name in lora.targets),
        prefix=prefix.len if decoder.layers else 0,
        prefix_context=(prefix.rank or graph_width) ** 2 if prefix.graph else 0,
        prefix_rank=prefix.rank if prefix.graph else 0,
        text_tokens=1 + (TEMPLATE_TOKENS if PromptSpec.from_config(settings).template != "none" else 0),
        all_targets=tune.targets == "all",
        bf16=decoder.layers > 0 and use_bf16(llm.precision, config["device"]),
        epochs=int(config["epochs"]),
        batch_size=int(config["train_batch_size"]),
        rows_at_once=RunSpec.from_config(settings).train_rows_at_once,
    )


def _graph_features(config: Any) -> tuple[FeatureShape, ...]:
    return _features(config) if GraphSpec.from_config(config.final_config_dict).item_hypergraph else ()


def _features(config: Any) -> tuple[FeatureShape, ...]:
    settings = config.final_config_dict
    spec, folder = FeatureSpec.from_config(settings), Path(config["data_path"])
    item_file = folder / f"{config['dataset']}.item"
    return tuple(
        feature_shape(spec, found, item_file) for found in find_modalities(spec, item_file, folder / "features")
    )
