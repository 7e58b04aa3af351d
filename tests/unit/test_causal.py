"""Causal training of HeLLM never lets a position see a later item, and agrees with scoring the last position."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_hellm.testing.building import build

LENGTH, N_ITEMS = 7, 21


@pytest.fixture(scope="module")
def model(tmp_path_factory, llm):
    from recbole_hellm.testing import checkerboard_settings

    folder = tmp_path_factory.mktemp("causal")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        built = build("HeLLM", checkerboard_settings(folder, llm))
    net, generator = built.model.eval(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if "lora_B" in name:  # zero at the start: LoRA would do nothing
                parameter.normal_(0, 0.1, generator=generator)
        net.core.graph_vectors.normal_(generator=generator)
        net.core.prefix.learned_keys.normal_(generator=generator)
    return net


def histories(seed, batch=3):
    generator = torch.Generator().manual_seed(seed)
    items = torch.randint(1, N_ITEMS, (batch, LENGTH), generator=generator)
    return items, torch.ones(batch, LENGTH, dtype=torch.bool)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, LENGTH - 2), st.data())
def test_no_position_sees_a_later_item(model, position, data):
    context_len = data.draw(st.integers(1, position + 1))
    items, mask = histories(data.draw(st.integers(0, 99)))
    changed = items.clone()
    changed[:, position + 1 :] = changed[:, position + 1 :] % (N_ITEMS - 1) + 1
    context = torch.arange(LENGTH).expand_as(items) < context_len
    with torch.no_grad():
        one, two = model.core.hidden(items, mask, context), model.core.hidden(changed, mask, context)
    torch.testing.assert_close(one[:, : position + 1], two[:, : position + 1], atol=1e-6, rtol=1e-6)
    assert not torch.allclose(one[:, position + 1], two[:, position + 1], atol=1e-3)


def test_the_prefix_is_what_the_context_says(model):
    """Items of the context reach every position through the prefix: a context that is too long would leak."""
    items, mask = histories(0)
    changed = items.clone()
    changed[:, -1] = changed[:, -1] % (N_ITEMS - 1) + 1
    with torch.no_grad():
        one, two = model.core.hidden(items, mask), model.core.hidden(changed, mask)
    assert not torch.allclose(one[:, 0], two[:, 0], atol=1e-4)


@pytest.mark.parametrize("context_len", [1, 3, LENGTH])
def test_the_prefix_gets_the_first_items_only(model, context_len, monkeypatch):
    seen = []
    forward = model.core.prefix.forward
    monkeypatch.setattr(model.core.prefix, "forward", lambda vectors: seen.append(vectors) or forward(vectors))
    items, mask = histories(0)
    length = torch.full((len(items),), context_len)
    model.core.causal_loss(items, mask, items, length, 0.0)
    assert len(seen) == 1
    assert torch.equal(seen[0][:, :context_len], model.core.graph_vectors[items[:, :context_len]])
    assert not seen[0][:, context_len:].any()


def test_positions_before_the_context_ends_are_not_scored(model):
    items, mask = histories(1)
    targets, length = items.roll(-1, 1), torch.tensor([3, 3, 3])
    other = targets.clone()
    other[:, :2] = 1
    assert torch.equal(*(model.core.causal_loss(items, mask, t, length, 0.0) for t in (targets, other)))
    other[:, 2] = other[:, 2] % (N_ITEMS - 1) + 1
    assert not torch.equal(*(model.core.causal_loss(items, mask, t, length, 0.0) for t in (targets, other)))


def test_the_whole_history_as_context_is_the_loss_of_the_last_position(model):
    items, _ = histories(2)
    lengths = torch.tensor([LENGTH, 2, 4])
    mask = torch.arange(LENGTH) < lengths.unsqueeze(1)
    items, target = items * mask, torch.tensor([5, 6, 7])
    targets = torch.zeros_like(items)
    targets[torch.arange(3), lengths - 1] = target
    causal = model.core.causal_loss(items, mask, targets, lengths, 0.1)
    plain = model.core.loss(model.core.last_hidden(items, mask), target, 0.1)
    torch.testing.assert_close(causal, plain, atol=1e-6, rtol=1e-6)


def test_every_next_item_is_the_target_of_its_position(model, monkeypatch):
    calls = []
    monkeypatch.setattr(model.core, "causal_loss", lambda *args: calls.append(args) or torch.zeros(()))
    lengths = torch.tensor([4, 1, 2])
    item_seq = torch.tensor([[3, 4, 5, 6, 0], [7, 0, 0, 0, 0], [8, 9, 0, 0, 0]])
    rows = {model.ITEM_SEQ: item_seq, model.ITEM_SEQ_LEN: lengths, model.POS_ITEM_ID: torch.tensor([11, 12, 13])}
    for _ in range(50):
        model.calculate_loss(rows)
    items, mask, targets, _, _, offset_of = calls[0]
    assert offset_of is None, "scores are not fused here"
    assert items.shape == (3, 4)
    assert targets[mask].tolist() == [4, 5, 6, 11, 12, 9, 13]
    contexts = torch.stack([call[3] for call in calls])
    assert contexts.min() == 1
    assert (contexts <= lengths).all()
    assert contexts[:, 0].unique().tolist() == [1, 2, 3, 4]
    assert contexts[:, 2].unique().tolist() == [1, 2]
