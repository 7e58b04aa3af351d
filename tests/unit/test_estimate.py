"""Sizes from files and settings, refusal before work, batch sizes by free memory, the command's answer."""

import json
from pathlib import Path

import pytest
import torch

from recbole_hellm import cli
from recbole_hellm.config.recbole_config import HellmConfig
from recbole_hellm.costs.efficiency import Machine
from recbole_hellm.costs.fusion import table_memory
from recbole_hellm.costs.run import run_costs
from recbole_hellm.errors import ConfigError, DataError, MissingModelError
from recbole_hellm.estimate.admission import MOST_USERS, admit, resolve_batches
from recbole_hellm.estimate.answer import Estimate, StageEstimate, duration, size
from recbole_hellm.estimate.cached import reused_stages
from recbole_hellm.estimate.networks import decoder_shape
from recbole_hellm.estimate.planning import BASE, estimate
from recbole_hellm.estimate.sizes import run_shape
from recbole_hellm.llm.prompt import build_prompt
from recbole_hellm.quick_start import run_recbole_hellm
from recbole_hellm.testing import CHECKERBOARD
from recbole_hellm.testing.building import build
from recbole_hellm.trainer.staged import TrainBatches

MACHINE = Machine(bf16=1e11, fp32=1e11, copied=1e10)


@pytest.fixture(autouse=True)
def _a_process_of_its_own(monkeypatch):
    """What other tests left in this process would count as held before the run."""
    monkeypatch.setattr("recbole_hellm.estimate.planning.resident_bytes", lambda: 0)


def config(toy, model="HeLLM", **changes):
    return HellmConfig(model, CHECKERBOARD, config_dict=toy(**changes))


@pytest.mark.parametrize("changes", [{}, {"llm_layers": 0, "prefix_len": 0, "lora_r": 0}, {"prefix_rank": 3},
                                     {"prefix_graph": False}, {"lora_targets": ["q_proj", "v_proj", "o_proj"]},
                                     {"finetune_graph_vectors": False}, {"sequence_vectors": False}])  # fmt: skip
def test_sizes_are_those_of_what_is_built(toy, changes):
    built = build("HeLLM", toy(**changes))
    run = run_shape(built.config)
    trained = sum(p.numel() for p in built.model.parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in built.model.parameters() if not p.requires_grad and p.dim() > 1)
    assert run.tune.trained(run.data.n_items) == trained
    assert run.tune.decoder.weights == frozen
    dataset = built.train._dataset
    assert (run.data.n_users, run.data.n_items) == (dataset.user_num, dataset.item_num)
    assert run.data.prefixes.rows == len(dataset.inter_feat)
    assert run.data.prefixes.tokens == int(dataset.inter_feat["item_length"].sum())
    assert run.data.windows.rows == sum(
        len(rows) for rows in TrainBatches(built.train, True, torch.Generator()).batches
    )
    assert run.data.tested.rows == len(built.test._dataset)
    assert run.data.n_train == 40 * 6
    assert [feature.width for feature in run.features] == ([256, 8] if "graph" in built.model.needs else [])
    assert (run.sequence is not None) == ("sequence" in built.model.needs)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"fusion_parts": ["llm", "neighbours"], "graph_item_hypergraph": False},
        {"fusion_parts": ["transitions", "graph"], "finetune_graph_vectors": False, "prefix_graph": False},
    ],
)
def test_sizes_of_the_fusion_are_those_of_what_is_built(toy, changes):
    built = build("HeLLM", toy(fusion="learned", **changes))
    run, fusion = run_shape(built.config), built.model.fusion
    assert run.fusion.parts == len(fusion.parts)
    assert run.fusion.widths == tuple(fusion.vectors(part).size(1) for part in fusion.cosines)
    vectors = sum(t.numel() * t.element_size() for name, t in fusion.named_buffers() if name[:4] in ("vect", "rows"))
    told = table_memory(run.fusion, run.data)
    assert told["vectors of the fusion"] == vectors
    counted = fusion.transitions.table.nnz if fusion.transitions else 0
    assert 8 * counted <= told["transition counts"]
    assert (counted > 0) == (told["transition counts"] > 0)
    names = [cost.name for cost in run_costs(run)]
    assert {*names} - {"data and model", "training", "evaluation"} == {
        record.name for record in built.trainer.stage_records
    }


def test_where_nothing_is_trained_validations_are_all_there_is(toy):
    parts = {"fusion": "learned", "fusion_parts": ["transitions", "repeat"], "eval_step": 1}
    one, ten = (run_costs(run_shape(config(toy, epochs=epochs, **parts)))[-2:] for epochs in (1, 10))
    assert [cost.name for cost in one] == ["training", "evaluation"]
    assert one[0].own == one[1].own
    assert ten[0].work.scored == pytest.approx(10 * one[0].work.scored)
    assert ten[0].work.scored > 0


def test_there_is_nothing_of_a_fusion_that_is_off(toy):
    assert run_shape(build("HeLLM", toy(fusion="off")).config).fusion is None


def test_sizes_of_a_general_model(toy):
    built = build("MMHCL", toy(item_features=["image"]))
    run = run_shape(built.config)
    encoder = built.model.encoder
    assert run.graph_is_model
    assert run.data.n_train == len(built.train._dataset.inter_feat)
    assert run.evaluation.rows == 1  # 16 scores at a time are less than one user's
    convs = [encoder.ui_conv.neighbours, encoder.user_conv.to_edges, encoder.user_conv.to_nodes]
    convs += [encoder.item_conv.to_edges, encoder.item_conv.to_nodes]
    from recbole_hellm.costs.stages import graph_pairs

    assert sum(graph_pairs(run.data, run.graph)) >= sum(conv.col.numel() for conv in convs)
    assert sum(graph_pairs(run.data, run.graph)[:2]) == sum(conv.col.numel() for conv in convs[:3])


def test_the_template_is_about_as_long_as_assumed(tmp_path, monkeypatch):
    from recbole_hellm.estimate.sizes import TEMPLATE_TOKENS

    class Words:
        def encode(self, text, add_special_tokens):
            return text.split()

    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", lambda path, **_: Words())
    instruction = HellmConfig("HeLLM", "ml-100k")["prompt_instruction"]
    prompt = build_prompt("alpaca", instruction, lambda: "", 1)
    assert TEMPLATE_TOKENS * 0.7 < len(prompt.before) + len(prompt.after) < TEMPLATE_TOKENS * 1.3


def test_a_run_that_fits_is_let_through_and_one_that_does_not_is_refused(toy, tmp_path):
    admit(config(toy, memory_limit_gb=4))
    with pytest.raises(ConfigError) as error:
        run_recbole_hellm("HeLLM", CHECKERBOARD, config_dict=toy(memory_limit_gb=0.1))
    message = str(error.value)
    assert message.startswith("the run of HeLLM on checkerboard does not fit in 102 MB free: ")
    assert "memory_limit_gb=N runs it as if there were N GB" in message
    assert "\n" not in message
    assert not (tmp_path / "stages").exists(), "refused before anything is done"


@pytest.mark.parametrize(
    ("changes", "helps"),
    [
        ({"eval_batch_size": 2**30}, "eval_batch_size="),
        ({"train_batch_size": 2**30, "llm_layers": -1}, "train_rows_at_once="),
        ({"sequence_batch_size": 2**30}, "sequence_batch_size="),
        ({"pretrain_batch_size": 2**30}, "pretrain_batch_size="),
        ({"MAX_ITEM_LIST_LENGTH": 200_000}, "MAX_ITEM_LIST_LENGTH="),
    ],
)
def test_a_refusal_names_the_setting_that_helps(toy, tmp_path, changes, helps):
    settings = toy(**changes)
    folder = tmp_path / "data" / CHECKERBOARD
    many = 3000 if "MAX_ITEM_LIST_LENGTH" not in changes else 40
    rows = [f"u{user}\ti{(user * 7 + step) % 20_000}\t{step}" for user in range(many) for step in range(20)]
    (folder / f"{CHECKERBOARD}.inter").write_text("\n".join(["user_id:token\titem_id:token\ttimestamp:float", *rows]))
    items = helps == "pretrain_batch_size="  # whose contrast over items is what it stresses
    settings = {**settings, "graph_item_hypergraph": items}
    free = BASE + (700 if items else 480) * 2**20
    given = HellmConfig("HeLLM", CHECKERBOARD, config_dict={**settings, "memory_limit_gb": free / 2**30})
    found = estimate(given)
    if found.fits:
        pytest.fail(f"the case does not stress memory: {found}")
    assert [setting for setting in found.helps if setting.startswith(helps)], str(found)
    with pytest.raises(ConfigError, match=f"the setting that helps: .*{helps}[0-9]+"):
        admit(given)
    after = dict(setting.split("=") for setting in found.helps)
    again = HellmConfig("HeLLM", CHECKERBOARD, config_dict={
        **settings, "memory_limit_gb": free / 2**30, **{key: int(value) for key, value in after.items()}
    })  # fmt: skip
    admit(again)


def test_auto_takes_the_models_own_training_batch_whatever_memory_there_is(toy):
    own = 256
    for limit in (1.0, 100.0):
        given = config(toy, train_batch_size="auto", eval_batch_size="auto", memory_limit_gb=limit)
        resolve_batches(given)
        assert given["train_batch_size"] == own
        assert given["eval_batch_size"] == MOST_USERS
    preset = HellmConfig("HeLLM", CHECKERBOARD, config_dict={**toy(), "preset": "paper", "train_batch_size": "auto"})
    resolve_batches(preset)
    assert preset["train_batch_size"] == 7
    general = config(toy, "MMHCL", eval_batch_size="auto", train_batch_size="auto")
    resolve_batches(general)
    assert (general["train_batch_size"], general["eval_batch_size"]) == (4096, MOST_USERS * 21)


def test_auto_leaves_numbers_alone(toy):
    given = config(toy, eval_batch_size="auto")
    resolve_batches(given)
    assert given["train_batch_size"] == 16


def test_auto_takes_fewer_rows_where_memory_is_short(toy, monkeypatch):
    need = {"train_rows_at_once": 0, "eval_batch_size": 0}

    def peak(run):
        rows = run.tune.rows_at_once or run.tune.batch_size
        need["train_rows_at_once"], need["eval_batch_size"] = rows, run.evaluation.rows
        return rows * 100 + run.evaluation.rows

    monkeypatch.setattr("recbole_hellm.estimate.admission.peak_bytes", peak)
    monkeypatch.setattr("recbole_hellm.estimate.admission.free_bytes", lambda config: 3000)  # 2400 with the margin
    given = config(toy, train_batch_size="auto", eval_batch_size="auto")
    resolve_batches(given)
    assert (given["train_batch_size"], given["train_rows_at_once"]) == (256, 16)
    assert given["eval_batch_size"] == 512  # 1600 + 512


def test_a_run_with_auto_is_the_run_with_the_numbers(toy):
    settings = {"epochs": 1, "preset": "demo"}
    auto = run_recbole_hellm("HeLLM", CHECKERBOARD, config_dict=toy(
        **settings, train_batch_size="auto", eval_batch_size="auto", fit_on="train+valid"))  # fmt: skip
    stored = json.loads(Path(auto["result_file"]).read_text())["settings"]
    assert (stored["train_batch_size"], stored["eval_batch_size"]) == (32, MOST_USERS)
    plain = run_recbole_hellm("HeLLM", CHECKERBOARD, config_dict=toy(
        **settings, train_batch_size=32, eval_batch_size=40, fit_on="train+valid"))  # fmt: skip
    assert auto["test_result"] == plain["test_result"]


def test_another_word_than_auto_is_refused(toy):
    with pytest.raises(ConfigError, match="setting 'train_batch_size' must be of type int, got 'automatic'"):
        config(toy, train_batch_size="automatic")


def test_finished_stages_are_told_and_cost_no_time(toy):
    settings = toy()
    run_recbole_hellm("HeLLM", CHECKERBOARD, config_dict={**settings, "train_stage": "pretrain"})
    needs = ("features", "graph", "sequence")
    given = config(toy)
    assert reused_stages(given, needs, 320) == set(needs)
    assert reused_stages(config(toy, pretrain_epochs=3), needs, 320) == {"features", "sequence"}
    assert reused_stages(config(toy, stage_cache_dir="elsewhere"), needs, 320) == set()
    found = {stage.name: stage for stage in estimate(given, MACHINE, reused_stages(given, needs, 320)).stages}
    assert [name for name, stage in found.items() if stage.reused] == list(needs)
    assert found["graph"].seconds == 0
    assert found["training"].seconds > 0


def test_a_missing_data_set_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere.inter does not exist: run 'recbole-hellm prepare nowhere'"):
        estimate(HellmConfig("HeLLM", "nowhere", config_dict={"data_path": str(tmp_path)}))


@pytest.mark.parametrize("model", ["HeLLM", "MMHCL", "SASRec", "BPR", "TransitionCounts"])
def test_the_command_prints_a_table_and_a_verdict(toy, capsys, model):
    settings = toy()
    keys = {"data_path", "llm_path", "load_col", "MAX_ITEM_LIST_LENGTH", "topk", "valid_metric", "text_encoder"}
    keys = keys - (set() if model in ("HeLLM", "MMHCL") else {"llm_path", "text_encoder"})
    keys = keys - ({"llm_path"} if model == "MMHCL" else set())
    given = [f"--{key}={json.dumps(settings[key])}" for key in keys]
    assert cli.main(["estimate", f"--model={model}", f"--dataset={CHECKERBOARD}", *given]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{model} on checkerboard, times with ")
    assert lines[1].split() == ["stage", "memory", "time", "most", "of", "it"]
    names = [line.split("  ")[0] for line in lines[2:-2]]
    assert names[0] == "data and model"
    assert names[-1] == "evaluation"
    assert ("training" in names) == (model in ("HeLLM", "MMHCL"))
    assert lines[-1].startswith("fits in ")


def test_the_answer_in_words():
    stages = (
        StageEstimate("graph", True, 2**30, (("graphs", 5),), 0.0, "2 x 3 steps"),
        StageEstimate("training", False, 3 * 2**30, (("logits", 2 * 2**30), ("rest", 1)), 4000.0, "at most 9 steps"),
    )
    found = Estimate("M", "d", stages, 2 * 2**30, ("a=1", "b=2"), 2**30, 2)
    lines = str(found).splitlines()
    assert [" ".join(line.split()) for line in lines[:5]] == [
        "M on d, times with 2 threads",
        "stage memory time most of it",
        "graph 1.0 GB reused 2 x 3 steps graphs 0 MB",
        "training 3.0 GB 1 h 06 min at most 9 steps logits 2.0 GB",
        "all 3.0 GB 1 h 06 min",
    ]
    verdict = "does not fit in 2.0 GB free: training needs 3.0 GB (logits 2.0 GB); the setting that helps: a=1 b=2 "
    assert lines[5:] == [verdict + "(then 1.0 GB)"]
    assert found.verdict().endswith("the setting that helps: a=1 b=2 (then 1.0 GB)")
    assert "no setting makes it fit" in Estimate("M", "d", stages, 2 * 2**30).verdict()
    assert "still too much" in Estimate("M", "d", stages, 2**29, ("a=1",), 2**30).verdict()
    assert Estimate("M", "d", stages, None).verdict() == "needs 3.0 GB; this system does not tell its free memory"
    assert (duration(59), duration(61), duration(3 * 3600 + 300)) == ("59 s", "1 min", "3 h 05 min")
    assert (size(5 * 2**20), size(1.5 * 2**30)) == ("5 MB", "1.5 GB")


def test_a_family_that_names_its_sizes_otherwise_is_read(tmp_path):
    from transformers import GPT2Config

    GPT2Config(n_embd=48, n_layer=3, n_head=4, vocab_size=100).save_pretrained(tmp_path)
    shape = decoder_shape(str(tmp_path), -1)
    assert (shape.width, shape.layers, shape.heads, shape.head_width, shape.vocabulary) == (48, 3, 4, 12, 100)


def test_a_broken_model_is_named_as_a_run_names_it(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(MissingModelError, match=r"^setting 'llm_path': .* cannot be loaded"):
        decoder_shape(str(tmp_path), -1)
