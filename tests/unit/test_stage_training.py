"""The stages that train do what a plain loop does, learn, and depend on nothing but their arguments."""

import math

import pytest
import torch

from recbole_hellm.errors import DataError
from recbole_hellm.models.mmhcl_core import MMHCLLoss, build_encoder
from recbole_hellm.nn.batching import length_batches
from recbole_hellm.pipeline.base import StageContext, isolated_random_state, order_stages
from recbole_hellm.pipeline.graph import negative_sampler, step_loss
from recbole_hellm.pipeline.sequence import next_item_loss
from recbole_hellm.testing import checkerboard_settings
from recbole_hellm.testing.building import build
from recbole_hellm.views import TrainView, train_view


@pytest.fixture(scope="module")
def made(tmp_path_factory, llm):
    """Settings of the toy, and its training view."""
    folder = tmp_path_factory.mktemp("stages")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        settings = checkerboard_settings(folder, llm, item_features=["image"])
        built = build("TransitionCounts", settings)
    return built.config.final_config_dict, train_view(built.train._dataset), folder / "data" / "checkerboard"


def context(made):
    return StageContext(made[1], made[2] / "checkerboard.item", made[2] / "features")


def hellm_settings(made, **changes):
    from recbole_hellm.config.recbole_config import read_yaml
    from recbole_hellm.config.resources import properties_dir

    return {**read_yaml(properties_dir() / "model" / "HeLLM.yaml"), **made[0], **changes}


@pytest.mark.parametrize("loss", ["bpr", "softmax"])
@pytest.mark.parametrize("schedule", ["cosine", "exponential"])
def test_the_graph_stage_is_the_textbook_loop(loss, schedule, made):
    settings = hellm_settings(
        made, pretrain_epochs=3, pretrain_learning_rate=0.05, graph_loss=loss, pretrain_schedule=schedule,
        graph_user_hypergraph=schedule == "cosine",
    )  # fmt: skip
    features, stage = order_stages(["graph"], settings)
    with isolated_random_state(1):
        found = features.run(context(made), {})
    with isolated_random_state(int(settings["seed"])):
        result = stage.run(context(made), {"features": found})

    train, spec = made[1], stage.graph
    with isolated_random_state(int(settings["seed"])):
        encoder = build_encoder(spec, train.user, train.item, train.n_users, train.n_items,
                                [(found["image"], found["image.present"])])  # fmt: skip
        sampler, generator = negative_sampler(train), torch.Generator().manual_seed(int(settings["seed"]))
        optimizer = torch.optim.Adam(encoder.parameters())
        losses, step, n_steps = [], 0, 3 * math.ceil(len(train.user) / 64)
        for epoch in range(3):
            total = 0.0
            for rows in torch.randperm(len(train.user), generator=generator).split(64):
                users, items = train.user[rows], train.item[rows]
                negative = sampler.sample_by_user_ids(users.numpy(), items.numpy(), 1) if loss == "bpr" else None
                cosine = (1 + math.cos(math.pi * step / n_steps)) / 2
                optimizer.param_groups[0]["lr"] = 0.05 * (cosine if schedule == "cosine" else 0.96 ** (epoch / 50))
                step += 1
                encoder.zero_grad()
                value = MMHCLLoss(spec)(encoder(), users, items, negative)
                value.backward()
                optimizer.step()
                total += value.item() * len(rows)
            losses.append(total / len(train.user))
        out = encoder()
    torch.testing.assert_close(result["loss"], torch.tensor(losses), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(result["item"][1:], out.item[1:].detach(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(result["user"][1:], out.user[1:].detach(), atol=1e-5, rtol=1e-4)
    assert losses[-1] < losses[0]


def test_the_sequence_stage_is_the_textbook_loop(made):
    settings = hellm_settings(
        made, sequence_epochs=3, sequence_dropout=0.0, sequence_learning_rate=0.01, sequence_precision="fp32"
    )
    (stage,) = order_stages(["sequence"], settings)
    with isolated_random_state(int(settings["seed"])):
        result = stage.run(context(made), {})
    with isolated_random_state(int(settings["seed"])):
        model, losses = stage._model(made[1].n_items), []
        rows, lengths = made[1].windows(10)
        optimizer, generator = torch.optim.Adam(model.parameters(), lr=0.01), torch.Generator().manual_seed(
            int(settings["seed"])
        )  # fmt: skip
        for _ in range(3):
            total = 0.0
            for index in length_batches(lengths, 16, generator):
                model.zero_grad()
                loss = next_item_loss(model, rows[index])
                loss.backward()
                optimizer.step()
                total += loss.item() * len(index)
            losses.append(total / len(rows))
    torch.testing.assert_close(result["loss"], torch.tensor(losses), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(result["item"], model.item_embedding.weight.detach(), atol=1e-5, rtol=1e-4)


def test_the_sequence_stage_learns_the_next_item(made):
    settings = hellm_settings(made, sequence_epochs=80, sequence_dropout=0.0, sequence_learning_rate=0.02)
    (stage,) = order_stages(["sequence"], settings)
    with isolated_random_state(0):
        losses = stage.run(context(made), {})["loss"]
    assert losses[0] > 2.5  # log(21) = 3.04
    assert losses[-1] < 0.1


def test_the_loss_of_a_batch_is_recboles_loss_of_every_row(made):
    """One causal pass gives the mean of RecBole's SASRec loss over all (history, next item) rows."""
    (stage,) = order_stages(["sequence"], hellm_settings(made, sequence_dropout=0.0))
    with isolated_random_state(0):
        model = stage._model(21)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(0, 0.5)
    rows = torch.tensor([[3, 4, 5, 6], [7, 8, 0, 0]])
    losses = []
    for row in rows.tolist():
        for end in range(1, sum(item > 0 for item in row)):
            batch = {"item_id_list": torch.tensor([row[:end] + [0] * (10 - end)]), "item_length": torch.tensor([end]),
                     "item_id": torch.tensor([row[end]])}  # fmt: skip
            losses.append(model.calculate_loss(batch))
    assert len(losses) == 4
    torch.testing.assert_close(next_item_loss(model, rows), torch.stack(losses).mean(), atol=1e-5, rtol=1e-5)


def test_no_sequence_of_two_is_refused(made):
    view = TrainView(torch.tensor([1, 2]), torch.tensor([1, 2]), ("[PAD]", "u", "v"), ("[PAD]", "i", "j"))
    (stage,) = order_stages(["sequence"], hellm_settings(made))
    with pytest.raises(DataError, match="no user has two training interactions"):
        stage.run(StageContext(view, made[2], made[2]), {})


@pytest.mark.parametrize("loss", ["bpr", "softmax"])
@pytest.mark.parametrize("user_hypergraph", [True, False])
def test_batches_that_share_a_propagation_give_the_gradient_of_their_mean(loss, user_hypergraph, made):
    settings = hellm_settings(made, graph_loss=loss, graph_contrast_nodes=0, graph_user_hypergraph=user_hypergraph)
    features, stage = order_stages(["graph"], settings)
    with isolated_random_state(1):
        found = features.run(context(made), {})
    train, spec = made[1], stage.graph
    features = [(found["image"], found["image.present"])]
    encoder = build_encoder(spec, train.user, train.item, train.n_users, train.n_items, features)
    batches = torch.arange(len(train.user)).split(70)
    assert len(batches) > 2
    assert len(batches[-1]) < 70
    sampler = negative_sampler(train) if loss == "bpr" else None
    with isolated_random_state(2):
        total = step_loss(encoder, MMHCLLoss(spec), train, batches, sampler)
    shared = [parameter.grad.clone() for parameter in encoder.parameters()]
    encoder.zero_grad()
    want = 0.0
    with isolated_random_state(2):
        for rows in batches:
            negative = None
            if sampler is not None:
                negative = sampler.sample_by_user_ids(train.user[rows].numpy(), train.item[rows].numpy(), 1)
            value = MMHCLLoss(spec)(encoder(), train.user[rows], train.item[rows], negative)
            (value * len(rows) / len(train.user)).backward()
            want += value.item() * len(rows)
    assert total == pytest.approx(want, rel=1e-5)
    for one, parameter in zip(shared, encoder.parameters(), strict=True):
        torch.testing.assert_close(one, parameter.grad, rtol=1e-4, atol=1e-7)
        assert one.abs().sum() > 0


def test_a_step_takes_several_batches_beyond_the_most_steps(made):
    settings = hellm_settings(made, pretrain_epochs=2, pretrain_max_steps=2, pretrain_batch_size=20)
    features, stage = order_stages(["graph"], settings)
    found = features.run(context(made), {})
    steps = []
    with pytest.MonkeyPatch.context() as patch:
        adam = torch.optim.Adam.step
        patch.setattr(torch.optim.Adam, "step", lambda self: (steps.append(1), adam(self))[1])
        stage.run(context(made), {"features": found})
    assert len(made[1].user) > 40
    assert len(steps) == 2 * 2


@pytest.mark.parametrize(("user_hypergraph", "left"), [(True, "user hypergraph stands alone"), (False, "interactions")])
def test_the_log_says_what_is_left_without_an_item_hypergraph(user_hypergraph, left, made, caplog):
    settings = hellm_settings(
        made, pretrain_epochs=1, graph_item_hypergraph=False, graph_user_hypergraph=user_hypergraph
    )
    (stage,) = order_stages(["graph"], settings)
    with caplog.at_level("INFO", logger="recbole_hellm.pipeline.graph"):
        stage.run(context(made), {})
    assert any("no item hypergraph" in line and left in line for line in caplog.messages)
