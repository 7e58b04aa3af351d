"""A run with fused scores: chosen on validation, kept by the checkpoint, reported with and without."""

import json
import logging
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from recbole_hellm import signals
from recbole_hellm.errors import ConfigError
from recbole_hellm.models.fused_scoring import MEAN_ROWS
from recbole_hellm.models.score_fusion import ScoreFusion
from recbole_hellm.quick_start import run_recbole_hellm
from recbole_hellm.report import metrics_table
from recbole_hellm.testing import CHECKERBOARD
from recbole_hellm.testing.building import build, scores
from recbole_hellm.views import train_view

WEIGHTS = [1.0, 0.5, 2.0, 0.7, 0.4, -3.0]


@pytest.fixture
def toy(toy):
    """The toy's settings with fused scores of a model trained by itself."""
    return lambda **changes: toy(**{"fusion": "learned", "finetune_residual": False, **changes})


def rows(built):
    return built.train._dataset.inter_feat[:11]


def test_off_is_the_models_own_score_to_the_bit(toy):
    off, on = build("HeLLM", toy(fusion="off")), build("HeLLM", toy())
    off.model.eval()
    with torch.no_grad():
        own = off.model.core.head(off.model._last_hidden(rows(off)))
    assert torch.equal(scores(off, rows(off)), own)
    assert off.model.fusion is None
    assert not [name for name in off.model.state_dict() if name.startswith("fusion")]
    with on.model.without_fusion():
        assert torch.equal(scores(on, rows(on)), own)
    assert torch.equal(scores(on, rows(on))[:, 1:], own[:, 1:]), "before a choice the model stands alone"
    on.model.fusion.weights.copy_(torch.tensor(WEIGHTS))
    assert not torch.allclose(scores(on, rows(on))[:, 1:], own[:, 1:])


def test_training_is_the_same_with_and_without(toy):
    losses = []
    for fusion in ("learned", "off"):
        built = build("HeLLM", toy(fusion=fusion))
        built.trainer.fit(built.train, built.valid, saved=False)
        losses.append((list(built.trainer.train_loss_dict.values()), built.model.core.head.weight))
    assert losses[0][0] == losses[1][0]
    assert torch.equal(losses[0][1], losses[1][1])


def test_a_model_trained_on_the_rest_starts_from_the_loss_of_the_rest(toy):
    """With a head of zeros the loss is the cross-entropy of the other parts, made here from the fusion's own scores."""
    built = build("HeLLM", toy(finetune_residual=True, lora_dropout=0.0))
    built.trainer.run_stages(built.train)
    model, batch = built.model, rows(built)
    model.before_training()
    assert sum(scale != 0 for scale in model.residual.scales.tolist()) >= 2
    assert model.fusion.used() == dict(zip(model.fusion.parts, model.fusion.given, strict=True))
    assert model.fusion.used()["llm"] == 1
    assert model.fusion.used()["graph"] == 0
    torch.nn.init.zeros_(model.core.head.weight)
    histories, lengths, targets = batch["item_id_list"], batch["item_length"], batch["item_id"]
    want = torch.zeros(len(targets), model.n_items)
    scales, mine = model.residual.scales.tolist(), (torch.arange(len(targets)), targets)
    for part, scale in zip(model.residual.parts[:-1], scales, strict=False):
        model.fusion.add(want, part, scale, histories)
    want[mine] -= scales[0] * model.fusion.transitions.own_share(histories, lengths, targets)
    counts = torch.bincount(train_view(built.train._dataset).item, minlength=model.n_items).float()
    popular = counts.log1p().repeat(len(targets), 1)
    popular[mine] = (counts[targets] - 1).log1p()
    want += scales[-1] * popular
    want[:, 0] = 0
    want = torch.nn.functional.cross_entropy(want, targets)
    model.tune = replace(model.tune, targets="last")
    assert float(model.calculate_loss(batch).detach()) == pytest.approx(float(want), abs=2e-3)


def test_a_model_trained_on_the_rest_is_not_read_alone(toy, caplog):
    with caplog.at_level(logging.INFO, logger="recbole_hellm"):
        result = run_recbole_hellm("HeLLM", CHECKERBOARD, config_dict=toy(finetune_residual=True, state="INFO"))
    text = "\n".join(record.getMessage() for record in caplog.records)
    assert result["test_result_without_fusion"] is None
    assert "added to the logits in training: transitions" in text
    assert "against the weights of training" in text
    alone = run_recbole_hellm("HeLLM", CHECKERBOARD, config_dict=toy())
    heads = [run["trainer"].model.core.head.weight for run in (result, alone)]
    assert not torch.equal(*heads)


def test_without_validation_the_sum_has_the_weights_of_training(toy):
    result = run_recbole_hellm("HeLLM", CHECKERBOARD, config_dict=toy(finetune_residual=True, eval_step=0))
    model = result["trainer"].model
    assert model.fusion.weights.tolist() == pytest.approx(list(model.fusion.given))
    assert any(model.fusion.given[1:])


def test_a_refit_trains_on_its_own_rest_and_keeps_the_weights(toy):
    settings = toy(finetune_residual=True)
    refit = run_recbole_hellm("HeLLM", CHECKERBOARD, config_dict={**settings, "fit_on": "train+valid"})
    once = run_recbole_hellm("HeLLM", CHECKERBOARD, config_dict=settings)
    two, one = (run["trainer"].model for run in (refit, once))
    assert two.fusion.weights.tolist() == one.fusion.weights.tolist()
    assert two.residual.scales.tolist() != one.residual.scales.tolist()


@pytest.mark.parametrize("changes", [{}, {"eval_step": 0}, {"fit_on": "train+valid"}])
def test_a_part_holds_each_items_mean_logit_over_training_histories(changes, toy):
    result = run_recbole_hellm("HeLLM", CHECKERBOARD, config_dict=toy(finetune_residual=True, **changes))
    trainer = result["trainer"]
    model, events = trainer.model.eval(), trainer._training_set.inter_feat
    assert len(events) < MEAN_ROWS, "all rows are taken, so the mean is exact"
    assert (model.fusion.parts[0], model.fusion.parts[-1]) == ("llm", "llm mean")
    with torch.no_grad():
        logits = model.core.head(model._last_hidden(events))
        model.fusion.weights.zero_()
        model.fusion.weights[0], model.fusion.weights[-1] = 2.0, -1.5
        found = model.full_sort_predict(events[:11])[:, 1:]
    assert logits.mean(0).abs().max() > 1e-3, "nothing is taken off"
    torch.testing.assert_close(found, (2 * logits[:11] - 1.5 * logits.mean(0))[:, 1:], rtol=1e-4, atol=1e-5)


def test_a_model_trained_by_itself_has_no_part_for_its_mean(toy):
    assert "llm mean" not in build("HeLLM", toy()).model.fusion.parts
    off = build("HeLLM", toy(finetune_residual=True, fusion_llm_mean=False)).model
    on = build("HeLLM", toy(finetune_residual=True)).model
    assert (*off.fusion.parts, "llm mean") == on.fusion.parts
    assert {*on.state_dict()} - {*off.state_dict()} == {"fusion.llm_mean"}
    assert off.residual.parts == on.residual.parts, "it is no part of what training leaves out"


@pytest.mark.parametrize("residual", [False, True])
def test_predict_is_the_column_of_full_sort_predict(residual, toy):
    built = build("HeLLM", toy(transition_popularity_penalty=0.1, finetune_residual=residual))
    if residual:
        built.model.fusion.llm_mean.copy_(torch.rand(built.model.n_items))
    built.model.fusion.weights.copy_(torch.tensor([*WEIGHTS, *([-0.6] if residual else [])]))
    catalogue, part = scores(built, rows(built)), rows(built)
    with torch.no_grad():
        single = built.model.predict(part)
    torch.testing.assert_close(single, catalogue[torch.arange(11), part["item_id"]], atol=1e-5, rtol=1e-5)
    assert torch.isneginf(catalogue[:, 0]).all()


def test_the_result_file_holds_both_and_the_weights(toy, caplog):
    with caplog.at_level(logging.INFO, logger="recbole_hellm"):
        result = run_recbole_hellm("HeLLM", CHECKERBOARD, config_dict=toy(state="INFO"))
    written = json.loads(Path(result["result_file"]).read_text())
    assert written["test_result"] == result["test_result"]
    alone = written["test_result_without_fusion"]
    assert set(alone) == set(result["test_result"])
    assert alone != result["test_result"]
    assert set(written["fusion"]["weights"]) == {
        "llm", "transitions", "neighbours text", "neighbours image", "graph", "repeat"
    }  # fmt: skip
    chosen = written["fusion"]["chosen_on"]
    assert (chosen["split"], chosen["histories"]) == ("valid", 40)
    assert chosen["ndcg@5_fused"] > chosen["ndcg@5_alone"]
    assert result["best_valid_result"]["ndcg@5"] == pytest.approx(chosen["ndcg@5_fused"], abs=1e-4)
    text = "\n".join(record.getMessage() for record in caplog.records)
    assert "test without fusion: recall@5" in text
    assert "against llm alone" in text
    assert "without fusion" in metrics_table(result)
    off = run_recbole_hellm("HeLLM", CHECKERBOARD, config_dict=toy(fusion="off"))
    assert off["test_result_without_fusion"] is None
    assert "without fusion" not in metrics_table(off)


def test_the_second_reading_of_test_changes_nothing(toy):
    result = run_recbole_hellm("HeLLM", CHECKERBOARD, config_dict=toy())
    trainer, test = result["trainer"], result["loaders"][2]
    ranks = trainer.ranks["rank"].tolist()
    assert trainer.evaluate(test, load_best_model=False) == result["test_result"]
    assert trainer.ranks["rank"].tolist() == ranks


def test_a_refit_keeps_the_weights(toy):
    result = run_recbole_hellm("HeLLM", CHECKERBOARD, config_dict=toy(fit_on="train+valid"))
    once = run_recbole_hellm("HeLLM", CHECKERBOARD, config_dict=toy())
    refit, first = (run["trainer"].model.fusion for run in (result, once))
    assert refit.weights.tolist() == first.weights.tolist()
    assert first.worth[2] > first.worth[1], "nothing was chosen"
    assert refit.transitions.table.nnz > first.transitions.table.nnz, "the refit counts the validation events"


@pytest.mark.parametrize(
    "changes",
    [
        {"fusion_parts": ["transitions", "neighbours", "repeat"]},
        {"fusion_parts": ["graph"], "prefix_graph": False, "finetune_graph_vectors": False},
        {"fusion_parts": ["llm", "repeat"]},
        {"item_features": []},
        {"finetune_targets": "last", "loss_type": "BPR"},
        {"fusion_users": 3},
        {"eval_args": {"mode": "uni5"}, "topk": [3], "valid_metric": "MRR@3"},
        {"mask_history": "yes"},
        {"eval_step": 0},
        {"finetune_residual": True, "finetune_targets": "last"},
        {"finetune_residual": True, "finetune_targets": "last", "loss_type": "BPR"},
        {"finetune_residual": True, "finetune_negatives": 5},
        {"finetune_residual": True, "fusion_parts": ["llm", "graph"]},
        {"finetune_residual": True, "fusion_parts": ["llm", "repeat"]},
        {"finetune_residual": True, "item_features": []},
        {"finetune_residual": True, "mask_history": "yes"},
    ],
)
def test_it_runs_under(changes, toy):
    result = run_recbole_hellm("HeLLM", CHECKERBOARD, config_dict=toy(**changes))
    assert all(0 <= value <= 1 for value in result["test_result"].values())
    model = result["trainer"].model
    alone = model.residual is None and "llm" in model.fusion.parts  # else its own scores mean nothing
    assert (result["test_result_without_fusion"] is not None) == alone
    n_cases = 0 if changes.get("eval_step") == 0 else changes.get("fusion_users", 40)
    assert model.fusion.worth[0] == n_cases


@pytest.mark.parametrize(
    ("parts", "stages"),
    [
        (["transitions", "neighbours", "graph", "repeat"], {"features", "graph"}),
        (["transitions", "neighbours"], {"features"}),
        (["transitions"], set()),
    ],
)
def test_without_the_model_nothing_is_trained_that_has_no_say(parts, stages, toy):
    settings = toy(fusion_parts=parts, epochs=2)
    result = run_recbole_hellm("HeLLM", CHECKERBOARD, config_dict=settings)
    model, untrained = result["trainer"].model, build("HeLLM", settings).model
    assert {record.name for record in result["trainer"].stage_records} == stages
    trained = dict(model.named_parameters())
    assert all(torch.equal(parameter, trained[name]) for name, parameter in untrained.named_parameters())
    *others, last = model.departures()
    assert "nothing is trained" in last
    assert all(line.startswith(("graph_", "feature_")) for line in others)
    assert model.fusion.worth[0] == 40
    written = json.loads(Path(result["result_file"]).read_text())
    assert written["parameters"]["trained"] == 0
    assert written["training_samples_per_second"] is None


def test_a_run_that_trains_nothing_goes_on_after_a_signal(toy, monkeypatch):
    settings = toy(fusion_parts=["transitions"], epochs=1)
    whole = run_recbole_hellm("HeLLM", CHECKERBOARD, config_dict=settings, saved=False)
    choose = ScoreFusion.choose

    def hit(self, *args):
        signal.raise_signal(signal.SIGTERM)
        choose(self, *args)

    with monkeypatch.context() as patched:
        patched.setattr(ScoreFusion, "choose", hit)
        with pytest.raises(signals.Stopped), signals.watch():
            run_recbole_hellm("HeLLM", CHECKERBOARD, config_dict=settings)
    again = run_recbole_hellm("HeLLM", CHECKERBOARD, config_dict={**settings, "resume": "yes"})
    assert again["test_result"] == whole["test_result"]


def test_the_preset_without_the_language_model_is_the_sum_of_the_others(toy):
    settings = toy(preset="without-llm")
    for key in ("llm_layers", "prefix_len", "lora_r", "epochs", "eval_step"):
        settings.pop(key, None)
    result = run_recbole_hellm("HeLLM", CHECKERBOARD, config_dict=settings)
    assert result["trainer"].model.core.backbone is None
    assert "llm" not in result["trainer"].model.fusion.parts


def test_a_sum_of_nothing_is_refused(toy):
    with pytest.raises(ConfigError, match="'fusion_parts' = \\['neighbours'\\] needs 'item_features'"):
        build("HeLLM", toy(fusion_parts=["neighbours"], item_features=[]))
