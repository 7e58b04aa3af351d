"""No validation or test event can reach anything trained: change them all, and every tensor stays the same bit."""

from pathlib import Path

import pytest
import torch
from recbole.data import create_dataset, data_preparation

from recbole_hellm.config.recbole_config import HellmConfig
from recbole_hellm.run_record import events_fingerprint
from recbole_hellm.testing import CHECKERBOARD, write_checkerboard
from recbole_hellm.testing.building import build
from recbole_hellm.trainer.staged import TrainBatches

LENGTH = 8
CHOSEN = {"fusion.weights", "fusion.worth"}
"""What is chosen on validation, as the epoch is."""


def rewrite(root, change):
    """Write the toy data with ``change(step, item)`` as the item of an event; return how many events differ."""
    file = write_checkerboard(root) / f"{CHECKERBOARD}.inter"
    head, *rows = file.read_text().splitlines()
    cells = [row.split("\t") for row in rows]
    new = [(user, change(user, int(step), item), step) for user, item, step in cells]
    file.write_text("\n".join([head, *("\t".join(row) for row in new)]) + "\n")
    return sum(row[1] != item for row, (_, item, _) in zip(new, cells, strict=True))


def other(item):
    return f"i{(int(item[1:]) + 7) % 20}"


@pytest.fixture
def held_out_changed(tmp_path):
    """Two data folders that differ in all validation and test events, and in nothing else."""
    write_checkerboard(tmp_path / "a")
    changed = rewrite(tmp_path / "b", lambda user, step, item: other(item) if step >= LENGTH - 2 else item)
    assert changed == 2 * 40
    return [str(tmp_path / name) for name in "ab"]


def trained(model, settings, epochs=2):
    """Train for a fixed number of epochs, validating but never choosing by it, each time from an empty store."""
    built = build(model, {**settings, "epochs": epochs})
    built.trainer.fit(built.train, built.valid, saved=False, show_progress=False)
    return built


def stage_results(built):
    """Return name of folder (which holds the key) and bytes of every stage."""
    return [
        (record.path.rpartition("/")[2], (Path(record.path) / "tensors.safetensors").read_bytes())
        for record in built.trainer.stage_records
    ]


SETTINGS = [
    ("HeLLM", {}, 3),
    ("HeLLM", {"fusion": "learned"}, 3),
    ("HeLLM", {"finetune_targets": "last"}, 3),
    ("HeLLM", {"finetune_targets": "last", "loss_type": "BPR"}, 3),
    ("MMHCL", {}, 1),
]


@pytest.mark.parametrize(("model", "changes", "n_stages"), SETTINGS)
def test_held_out_events_reach_nothing_trained(model, changes, n_stages, toy, tmp_path, held_out_changed):
    one, two = (
        trained(model, toy(**changes, data_path=path, stage_cache_dir=str(tmp_path / f"stages{index}")))
        for index, path in enumerate(held_out_changed)
    )
    held = [
        [batch[0]["item_id"] if "item_id" in batch[0].interaction else batch[3] for batch in built.test]
        for built in (one, two)
    ]
    assert not torch.equal(torch.cat(held[0]), torch.cat(held[1])), "the test events are not different at all"
    assert len(stage_results(one)) == n_stages
    assert stage_results(one) == stage_results(two)
    before, after = one.model.state_dict(), two.model.state_dict()
    assert len(before) == len(after) > 0
    assert CHOSEN & {*before} == (CHOSEN if "fusion" in changes else set())
    for name, tensor in before.items():
        assert name in CHOSEN or torch.equal(tensor, after[name]), name
    assert list(one.trainer.train_loss_dict.values()) == list(two.trainer.train_loss_dict.values())


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize(
    "parts", [["llm", "transitions", "neighbours", "graph", "repeat"], ["llm", "neighbours", "graph", "repeat"]]
)
def test_a_test_event_reaches_nothing_chosen_on_validation(parts, residual, toy, tmp_path):
    write_checkerboard(tmp_path / "a")
    assert rewrite(tmp_path / "b", lambda user, step, item: other(item) if step == LENGTH - 1 else item) == 40
    fused = {"fusion": "learned", "fusion_parts": parts, "finetune_residual": residual}
    one, two = (
        trained("HeLLM", toy(**fused, data_path=str(tmp_path / name), stage_cache_dir=str(tmp_path / f"stages {name}")))
        for name in "ab"
    )
    n_cases, alone, fused = one.model.fusion.worth.tolist()
    assert n_cases == 40
    # The toy leaves nothing to choose to weights that were fitted before: those have to be equal.
    assert fused > alone or residual, "nothing was chosen"
    if residual:
        assert torch.equal(one.model.residual.scales, two.model.residual.scales)
    before, after = one.model.state_dict(), two.model.state_dict()
    assert {*before} > CHOSEN
    assert {*before} == {*after}
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert one.trainer.epoch_records[-1].valid == two.trainer.epoch_records[-1].valid


def test_held_out_events_reach_no_count_of_the_fusion(toy, held_out_changed):
    one, two = (
        build("HeLLM", toy(fusion="learned", data_path=path)).model.fusion.transitions for path in held_out_changed
    )
    assert one.table.nnz > 0
    assert (one.table != two.table).nnz == 0


def test_held_out_events_reach_no_count(toy, held_out_changed):
    one, two = (build("TransitionCounts", toy(data_path=path)) for path in held_out_changed)
    assert one.model.table.nnz > 0
    assert (one.model.table != two.model.table).nnz == 0


def test_held_out_events_are_in_no_training_batch(toy, held_out_changed):
    batches = []
    for path in held_out_changed:
        train = build("HeLLM", toy(data_path=path)).train
        batches.append(list(TrainBatches(train, False, torch.Generator().manual_seed(0))))
    assert sum(len(batch) for batch in batches[0]) == 40 * (LENGTH - 3)
    for one, two in zip(*batches, strict=True):
        assert all(torch.equal(one[field], two[field]) for field in ("user_id", "item_id_list", "item_id"))


@pytest.mark.parametrize("step", [0, LENGTH - 3])
def test_one_training_event_changes_graph_and_sequence(step, toy, tmp_path):
    write_checkerboard(tmp_path / "a")
    assert rewrite(tmp_path / "b", lambda user, at, item: other(item) if (user, at) == ("u3", step) else item) == 1
    one, two = (build("HeLLM", toy(data_path=str(tmp_path / name))) for name in "ab")
    paths = [{record.name: record.path for record in built.trainer.stage_records} for built in (one, two)]
    assert paths[0]["graph"] != paths[1]["graph"]
    assert paths[0]["sequence"] != paths[1]["sequence"]
    assert [record.status for record in two.trainer.stage_records] == ["ran"] * 3
    assert not torch.equal(one.model.core.graph_vectors, two.model.core.graph_vectors)
    assert not torch.equal(one.model.core.sequence_vectors, two.model.core.sequence_vectors)


@pytest.mark.parametrize("step", [0, LENGTH - 1])
def test_the_data_fingerprint_knows_every_event_and_no_model(step, toy, tmp_path):
    """Stages must not see a test event; the fingerprint in the result file must see all of them."""
    write_checkerboard(tmp_path / "a")
    assert rewrite(tmp_path / "b", lambda user, at, item: other(item) if (user, at) == ("u3", step) else item) == 1
    prints = {}
    for name in "ab":
        for model in ("MMHCL", "HeLLM", "SASRec", "BPR"):
            config = HellmConfig(model, CHECKERBOARD, config_dict=toy(data_path=str(tmp_path / name)))
            data = create_dataset(config)
            data_preparation(config, data)
            prints[name, model] = events_fingerprint(data)
    assert len({prints["a", model] for model in ("MMHCL", "HeLLM", "SASRec", "BPR")}) == 1
    assert len({prints["b", model] for model in ("MMHCL", "HeLLM", "SASRec", "BPR")}) == 1
    assert prints["a", "HeLLM"] != prints["b", "HeLLM"]
