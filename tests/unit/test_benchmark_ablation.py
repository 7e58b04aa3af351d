"""Every part of HeLLM that can be taken off is really gone then, and nothing else is."""

import logging

import pytest
import torch
from safetensors.torch import load_file

from recbole_hellm.benchmark.ablation import FULL, PARTS, parts_of, plan
from recbole_hellm.benchmark.plan import Protocol
from recbole_hellm.config.recbole_config import HellmConfig
from recbole_hellm.config.specs import SPECS
from recbole_hellm.errors import ConfigError
from recbole_hellm.models import mmhcl_core
from recbole_hellm.testing import CHECKERBOARD
from recbole_hellm.testing.building import build

EVERY = ["user_hypergraph", "item_hypergraph", "text", "image", "contrast", "sequence_vectors", "graph_vectors",
         "prefix_graph", "prefix", "lora", "pretrained", "llm_layers", "residual", "fusion", "fusion_llm",
         "fusion_transitions", "fusion_neighbours", "fusion_graph", "fusion_repeat", "fusion_llm_mean"]  # fmt: skip
WHOLE = {
    "stages": {"features", "graph", "sequence"},
    "user hypergraph": True,
    "feature tables": 2,
    "contrasts": {"user", "item"},
    "slot width": 16,
    "prefix": "graph",
    "LoRA": True,
    "layers": 2,
    "weights": "of the file",
    "fusion": {"llm", "transitions", "neighbours text", "neighbours image", "graph", "repeat", "llm mean"},
    "trained on": ("transitions", "neighbours text", "neighbours image", "repeat"),
}
"""What there is on the toy data set, and below what differs without each part."""
WITHOUT = {
    "user_hypergraph": {"user hypergraph": False, "contrasts": {"item"}},
    "item_hypergraph": {"feature tables": 0, "contrasts": {"user"}},
    "text": {"feature tables": 1, "fusion": WHOLE["fusion"] - {"neighbours text"},
             "trained on": ("transitions", "neighbours image", "repeat")},
    "image": {"feature tables": 1, "fusion": WHOLE["fusion"] - {"neighbours image"},
              "trained on": ("transitions", "neighbours text", "repeat")},
    "contrast": {"contrasts": set()},
    "sequence_vectors": {"stages": {"features", "graph"}, "slot width": 8},
    "graph_vectors": {"slot width": 8},
    "prefix_graph": {"prefix": "learned"},
    "prefix": {"prefix": None},
    "lora": {"LoRA": False},
    "pretrained": {"weights": "random"},
    "llm_layers": {"prefix": None, "LoRA": False, "layers": 0, "weights": None},
    "residual": {"fusion": WHOLE["fusion"] - {"llm mean"}, "trained on": None},
    "fusion": {"fusion": None, "trained on": None},
    "fusion_llm": {"stages": {"features", "graph"}, "fusion": WHOLE["fusion"] - {"llm", "llm mean"},
                   "trained on": None},
    "fusion_transitions": {"fusion": WHOLE["fusion"] - {"transitions"},
                           "trained on": ("neighbours text", "neighbours image", "repeat")},
    "fusion_neighbours": {"fusion": WHOLE["fusion"] - {"neighbours text", "neighbours image"},
                          "trained on": ("transitions", "repeat")},
    "fusion_graph": {"fusion": WHOLE["fusion"] - {"graph"}},
    "fusion_repeat": {"fusion": WHOLE["fusion"] - {"repeat"},
                      "trained on": ("transitions", "neighbours text", "neighbours image")},
    "fusion_llm_mean": {"fusion": WHOLE["fusion"] - {"llm mean"}},
}  # fmt: skip


@pytest.fixture
def toy(toy):
    """The toy's settings with fused scores, which it has not by itself."""
    return lambda **changes: toy(**{"fusion": "learned", **changes})


class Watched:
    """Counts what stage 1 builds and computes."""

    def __init__(self, monkeypatch):
        self.users, self.tables, self.contrasts, self.sizes = 0, 0, set(), {}
        builders = mmhcl_core.shared_item_hypergraph, mmhcl_core.nearest_neighbour_hypergraph
        contrast, forward = mmhcl_core.synergistic_contrast, mmhcl_core.MMHCLLoss.forward

        def shared(users, items, n_users, n_items):
            self.users += 1
            return builders[0](users, items, n_users, n_items)

        def nearest(features, *args, **kwargs):
            self.tables = len(features)
            return builders[1](features, *args, **kwargs)

        def contrasted(one, two, *args, **kwargs):
            side = [name for name, rows in self.sizes.items() if any(torch.equal(one, kept) for kept in rows)]
            assert len(side) == 1
            self.contrasts.update(side)
            return contrast(one, two, *args, **kwargs)

        def loss(self_, out, users, positive, negative):
            self.sizes = {"user": [out.user[torch.unique(users)]], "item": [out.item[torch.unique(positive)]]}
            assert (out.user_hyper is None) == (self.users == 0)
            assert (out.item_hyper is None) == (self.tables == 0)
            return forward(self_, out, users, positive, negative)

        monkeypatch.setattr(mmhcl_core, "shared_item_hypergraph", shared)
        monkeypatch.setattr(mmhcl_core, "nearest_neighbour_hypergraph", nearest)
        monkeypatch.setattr(mmhcl_core, "synergistic_contrast", contrasted)
        monkeypatch.setattr(mmhcl_core.MMHCLLoss, "forward", loss)


def weights_of(backbone, llm):
    if backbone is None:
        return None
    file = load_file(llm / "model.safetensors")["model.embed_tokens.weight"]
    return "of the file" if torch.equal(backbone.model.embed_tokens.weight, file) else "random"


def described(settings, llm, watched):
    built = build("HeLLM", settings)
    core = built.model.core
    prefix = None if core.prefix is None else "graph" if core.prefix.graph_dim else "learned"
    return {
        "stages": {record.name for record in built.trainer.stage_records},
        "user hypergraph": watched.users == 1,
        "feature tables": watched.tables,
        "contrasts": watched.contrasts,
        "slot width": core.item_tokens.projection[0].in_features,
        "prefix": prefix,
        "LoRA": any("lora_" in name for name, _ in core.named_parameters()),
        "layers": core.backbone.n_layers if core.backbone is not None else 0,
        "weights": weights_of(core.backbone, llm),
        "fusion": None if built.model.fusion is None else {*built.model.fusion.parts},
        "trained on": None if built.model.residual is None else built.model.residual.parts[:-1],
    }


def test_the_toy_has_every_part(toy, llm, monkeypatch):
    assert described(toy(), llm, Watched(monkeypatch)) == WHOLE
    assert list(WITHOUT) == EVERY == list(parts_of(CHECKERBOARD, toy()))


@pytest.mark.parametrize("name", EVERY)
def test_a_part_that_is_off_is_gone_and_nothing_else_is(name, toy, llm, monkeypatch):
    part = parts_of(CHECKERBOARD, toy())[name]
    found = described(toy(**part.settings), llm, Watched(monkeypatch))
    assert found == {**WHOLE, **WITHOUT[name]}


@pytest.mark.parametrize("name", EVERY)
def test_the_start_of_the_log_names_what_is_off(name, toy):
    part = parts_of(CHECKERBOARD, toy())[name]
    lines = [line.partition(":")[0] for line in build("HeLLM", toy(**part.settings)).model.departures()]
    if name in ("text", "image"):
        return  # which features there are is the data set's own affair
    if name == "residual":
        assert not any(line.startswith("finetune_residual") for line in lines)
        return
    if name.startswith("fusion"):  # the paper has none: the log names what there is
        said = [line for line in build("HeLLM", toy(**part.settings)).model.departures() if line.startswith("fusion")]
        gone = {"fusion_llm": " llm,", "fusion_transitions": "transitions", "fusion_neighbours": "neighbours",
                "fusion_graph": "graph", "fusion_repeat": "repeat", "fusion_llm_mean": "llm mean"}  # fmt: skip
        assert len(said) == (name != "fusion")
        assert not any(gone[name] in line or "learned" not in line for line in said)
        return
    key, value = next(iter(part.settings.items()))
    assert (f"{key}={value:g}" if name == "contrast" else f"{key}={value}") in lines


@pytest.fixture
def run(toy):
    """Settings of the toy data set that may stand in a plan."""
    return lambda **changes: {key: value for key, value in toy(**changes).items() if key != "result_file"}


def test_the_plan_holds_the_whole_model_first(run):
    made = plan(CHECKERBOARD, seeds=(3, 4), settings=run())
    labels = ["full", "without user hypergraph", "without item hypergraph", "without text", "without image",
              "without contrast", "without sequence vectors", "without graph vectors", "without graph in the prefix",
              "without prefix", "without LoRA", "without pretrained weights", "without layers",
              "without residual training",
              "without fusion", "fusion without the model", "fusion without counts", "fusion without features",
              "fusion without graph vectors", "fusion without repeats", "fusion without mean logits"]  # fmt: skip
    assert [entry.label for entry in made.entries] == labels
    assert (made.name, made.datasets, made.seeds) == ("ablation-checkerboard", (CHECKERBOARD,), (3, 4))
    assert {(entry.model, entry.group) for entry in made.entries} == {("HeLLM", "ablation")}
    assert made.entries[0].settings == {}
    cells = made.cells()
    assert len(cells) == 42
    for cell in cells:
        HellmConfig(cell.model, cell.dataset, config_dict=cell.settings)


def test_a_data_sets_own_yaml_says_which_features_there_are():
    made = plan("amazon-toys", ["image", "text"])
    assert [(entry.label, dict(entry.settings)) for entry in made.entries] == [
        (FULL, {}),
        ("without image", {"item_features": ["text"]}),
        ("without text", {"item_features": ["image"]}),
    ]
    assert made.protocol == Protocol()
    assert "image" not in parts_of("ml-100k")


def test_a_feature_file_stays_with_its_feature():
    parts = parts_of("ml-100k", {"item_features": ["text", "poster=a/b.npy"]})
    assert parts["text"].settings == {"item_features": ["poster=a/b.npy"]}
    assert parts["poster"].label == "without poster"


@pytest.mark.parametrize(
    ("settings", "left_out", "reason"),
    [
        ({"prefix_len": 0}, {"prefix", "prefix_graph"}, "it is off already"),
        ({"prefix_graph": False}, {"prefix_graph"}, "it is off already"),
        ({"lora_r": 0}, {"lora"}, "it is off already"),
        ({"llm_pretrained": False}, {"pretrained"}, "it is off already"),
        ({"graph_user_hypergraph": False}, {"user_hypergraph"}, "it is off already"),
        ({"graph_item_hypergraph": False}, {"item_hypergraph"}, "it is off already"),
        (
            {"graph_item_hypergraph": False, "fusion": "off"},
            {"item_hypergraph", "text", "image", "residual", "fusion"},
            "it is off already",
        ),
        ({"item_features": []}, {"item_hypergraph", "fusion_neighbours"}, "it is off already"),
        (
            {"item_features": ["text"], "fusion_parts": ["llm", "transitions", "repeat"]},
            {"text"},
            "it makes the same model as 'without item hypergraph'",
        ),
        ({"item_features": ["text"]}, set(), ""),
        ({"graph_item_layers": 0}, set(), ""),
        (
            {"graph_item_layers": 0, "fusion_parts": ["llm", "transitions"]},
            {"text", "image"},
            "it is off already",
        ),
        (
            {"fusion_parts": ["transitions", "neighbours", "repeat"]},
            {name for name in EVERY if name not in ("text", "image") and not name.startswith("fusion")},
            "it is off already",
        ),
        ({"graph_alpha_user": 0, "graph_alpha_item": 0.0}, {"contrast"}, "it is off already"),
        (
            {"graph_user_hypergraph": False, "graph_alpha_item": 0.0},
            {"user_hypergraph", "contrast"},
            "it is off already",
        ),
        ({"sequence_vectors": False}, {"sequence_vectors", "graph_vectors"}, "the item slots would be empty"),
        (
            {"llm_layers": 0, "prefix_len": 0, "lora_r": 0},
            {"llm_layers", "pretrained", "prefix", "prefix_graph", "lora"},
            "it is off already",
        ),
        (
            {
                "finetune_graph_vectors": False,
                "prefix_graph": False,
                "fusion_parts": ["llm", "transitions", "neighbours", "repeat"],
            },
            {"user_hypergraph", "item_hypergraph", "contrast", "prefix_graph", "graph_vectors", "sequence_vectors"},
            "it is off already",
        ),
    ],
)  # fmt: skip
def test_what_changes_nothing_is_left_out_with_a_line(settings, left_out, reason, run, caplog):
    with caplog.at_level(logging.INFO, logger="recbole_hellm.benchmark.ablation"):
        made = plan(CHECKERBOARD, settings=run(**settings))
    known = parts_of(CHECKERBOARD, run(**settings))
    kept = {entry.label for entry in made.entries}
    assert {name for name, part in known.items() if part.label not in kept} == left_out
    named = [record.getMessage() for record in caplog.records if "is left out" in record.getMessage()]
    assert len(named) == len(left_out)
    assert not named or any(reason in message for message in named)


def test_a_prefix_without_graph_is_all_that_needs_no_graph(run):
    """Without graph vectors in the slots the graph stage still serves the prefix: its parts stay in the plan."""
    made = plan(CHECKERBOARD, ["contrast", "image"], settings=run(finetune_graph_vectors=False))
    assert len(made.entries) == 3


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (["imge"], "unknown part 'imge' of HeLLM (did you mean 'image'?); known: user_hypergraph, item_hypergraph, t"),
        (["lora", "lora"], "part 'lora' of HeLLM is named twice"),
        (["prefix"], "nothing is left to take off HeLLM on checkerboard: 'prefix' (it is off already)"),
        ([], "nothing is left to take off HeLLM on checkerboard: no part named"),
    ],
)
def test_bad_parts_are_refused(parts, message, run):
    with pytest.raises(ConfigError) as error:
        plan(CHECKERBOARD, parts, settings=run(prefix_len=0))
    assert message in str(error.value)


def test_wrong_settings_are_refused_before_anything_runs(run):
    with pytest.raises(ConfigError, match="unknown setting 'prefix_lenn'"):
        plan(CHECKERBOARD, settings=run(prefix_lenn=0))
    with pytest.raises(ConfigError, match="'finetune_targets' = 'all'"):
        plan(CHECKERBOARD, protocol=Protocol(loss="BPR"), settings=run())


def test_parts_change_settings_that_exist_and_are_off_by_them_alone(run):
    known = {key for spec in SPECS for key in spec.keys()}  # noqa: SIM118
    assert len(PARTS) == 12
    for part in PARTS.values():
        assert set(part.settings) <= known | {"epochs", "eval_step"}
        assert part.what.endswith(".")
    paper = run(prompt_template="alpaca", finetune_targets="last", llm_gradient_checkpointing=True, prefix_len=0)
    assert "without layers" in {entry.label for entry in plan(CHECKERBOARD, settings=paper).entries}
