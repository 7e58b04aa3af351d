"""The parts of the fused score on a small catalogue, as a whole and item by item."""

import numpy as np
import pytest
import torch

from recbole_hellm.config.specs import FusionSpec, TransitionSpec
from recbole_hellm.errors import ConfigError
from recbole_hellm.models import pctm
from recbole_hellm.models.score_fusion import ScoreFusion
from recbole_hellm.models.transitions import Transitions
from recbole_hellm.views import TrainView

N_ITEMS = 6
HISTORIES = torch.tensor([[1, 2, 0], [3, 0, 0], [4, 1, 4]])
ALL = ("llm", "transitions", "neighbours", "graph", "repeat")


def transitions(penalty=0.0):
    view = TrainView(
        torch.tensor([1, 1, 1, 2, 2]), torch.tensor([1, 2, 3, 2, 3]), ("[PAD]", "a", "b"), ("[PAD]", *"12345")
    )
    return Transitions(TransitionSpec(max_gap=1, tau=5.0, recency_decay=0.5, popularity_penalty=penalty), view)


def fusion(names=ALL, penalty=0.0, weights=None):
    made = ScoreFusion(names, ["text", "image"], transitions(penalty), N_ITEMS, 0.6)
    drawn = torch.Generator().manual_seed(0)
    features = {"text": torch.randn(N_ITEMS, 4, generator=drawn), "image": torch.randn(N_ITEMS, 3, generator=drawn)}
    made.attach(features, torch.randn(N_ITEMS, 5, generator=drawn))
    if weights is not None:
        made.weights.copy_(torch.tensor(weights))
    return made


@pytest.fixture
def logits():
    return torch.randn(3, N_ITEMS, generator=torch.Generator().manual_seed(1))


def test_the_parts_and_where_they_start(logits):
    made = fusion()
    assert made.parts == ("llm", "transitions", "neighbours text", "neighbours image", "graph", "repeat")
    assert made.used() == {**dict.fromkeys(made.parts, 0.0), "llm": 1.0}
    scores = made(logits.clone(), HISTORIES)
    assert torch.equal(scores[:, 1:], logits[:, 1:])
    assert torch.isneginf(scores[:, 0]).all()


def test_transitions_by_hand():
    # neighbours only: 1 -> 2 once, 2 -> 3 twice; 5 items, tau 5: log(1 + count)
    made = fusion(weights=[0.0, 2.0, 0.0, 0.0, 0.0, 0.0])
    assert not made.uses_llm
    scores = made(None, HISTORIES)
    want = torch.zeros(3, N_ITEMS)
    want[0, 3], want[0, 2] = 2 * np.log(3), 2 * 0.5 * np.log(2)  # history 1, 2: the newest weighs 1
    want[2, 2] = 2 * 0.5 * np.log(2)  # history 4, 1, 4: item 1 is one old
    torch.testing.assert_close(scores[:, 1:], want[:, 1:])


def test_all_parts_are_a_dense_sum(logits):
    weights = [0.5, 1.5, 2.0, 0.25, 0.75, -3.0]
    made = fusion(penalty=0.1, weights=weights)
    parts = [logits]
    table = made.transitions
    history, by_age = table.weigh(HISTORIES, (HISTORIES > 0).sum(1))
    parts.append(torch.from_numpy(pctm.score(history, by_age, table.table, table.offset)))
    age = torch.tensor([[1, 0, -1], [0, -1, -1], [2, 1, 0]])
    recent = torch.where(age >= 0, 0.6 ** age.float(), 0.0)
    recent = recent / recent.sum(1, keepdim=True)
    for part in ("neighbours text", "neighbours image", "graph"):
        rows = made.vectors(part)
        torch.testing.assert_close(rows[1:].norm(dim=1), torch.ones(N_ITEMS - 1), atol=1e-3, rtol=0)
        parts.append((rows[HISTORIES] * recent.unsqueeze(-1)).sum(1) @ rows.T)
    seen = torch.zeros(3, N_ITEMS)
    for row, items in enumerate(HISTORIES.tolist()):
        seen[row, [item for item in items if item]] = 1
    parts.append(seen)
    want = sum(weight * part for weight, part in zip(weights, parts, strict=True))
    scores = made(logits.clone(), HISTORIES)
    torch.testing.assert_close(scores[:, 1:], want[:, 1:])
    for item in range(1, N_ITEMS):
        chosen = torch.full((3,), item)
        single = made.of_items(logits[:, item], HISTORIES, chosen)
        torch.testing.assert_close(single, scores[:, item], atol=1e-6, rtol=1e-5)


def test_a_part_without_features_needs_only_its_own_vectors():
    made = ScoreFusion(("graph", "repeat"), ["text"], None, N_ITEMS, 0.6)
    made.attach({}, torch.eye(N_ITEMS))
    scores = made(None, torch.tensor([[1, 0], [2, 3]]))
    assert made.parts == ("graph", "repeat")
    torch.testing.assert_close(scores[:, 1:], torch.tensor([[1.0, 0, 0, 0, 0], [0, 0.6 / 1.6, 1 / 1.6, 0, 0]]))


def test_padding_and_company_change_no_score(logits):
    made = fusion(weights=[1.0, 1.0, 1.0, 1.0, 1.0, -1.0])
    whole = made(logits.clone(), HISTORIES)
    wide = made(logits.clone(), torch.nn.functional.pad(HISTORIES, (0, 4)))
    torch.testing.assert_close(wide, whole)
    for row in range(3):
        alone = made(logits[row : row + 1].clone(), HISTORIES[row : row + 1])
        torch.testing.assert_close(alone, whole[row : row + 1])


def test_a_new_object_scores_as_the_stored_state_to_the_bit(logits):
    made = fusion(weights=[1.0, 0.5, 2.0, 1.0, 0.7, -1.0])
    made.worth.copy_(torch.tensor([7.0, 0.1, 0.2]))
    state = made.state_dict()
    assert {name: tensor.dtype for name, tensor in state.items() if "vectors" in name} == {
        "vectors_0": torch.float16,
        "vectors_1": torch.float16,
        "vectors_2": torch.float16,
    }
    new = ScoreFusion(ALL, ["text", "image"], transitions(), N_ITEMS, 0.6)
    new.load_state_dict(state)
    assert torch.equal(new(logits.clone(), HISTORIES), made(logits.clone(), HISTORIES))
    assert new.in_words(10) == made.in_words(10)
    other = ScoreFusion(ALL, ["text", "image"], transitions(), N_ITEMS + 1, 0.6)
    with pytest.raises(RuntimeError, match="size mismatch"):
        other.load_state_dict(state)


def cycle(n_cases, n_items, seed=0):
    """Histories of two items whose target always follows the second in training, and a model that knows nothing."""
    drawn = torch.Generator().manual_seed(seed)
    first = torch.randint(1, n_items - 2, (n_cases,), generator=drawn)
    item = torch.cat([torch.arange(1, n_items)] * 2)
    user = torch.cat([torch.full((n_items - 1,), 1), torch.full((n_items - 1,), 2)])
    view = TrainView(user, item, ("[PAD]", "a", "b"), ("[PAD]", *map(str, range(1, n_items))))
    table = Transitions(TransitionSpec(max_gap=1, tau=1.0), view)
    logits = torch.randn(n_cases, n_items, generator=drawn)
    return table, (logits, torch.stack([first, first + 1], dim=1), first + 2)


@pytest.mark.parametrize("cells", [1, 70, 2**21])
def test_targets_that_follow_transitions_give_transitions_the_weight(cells, monkeypatch):
    monkeypatch.setattr("recbole_hellm.models.score_fusion.CELLS", cells)
    monkeypatch.setattr("recbole_hellm.models.score_fusion.NEAREST", 8)
    table, case = cycle(200, 30)
    made = ScoreFusion(("llm", "transitions", "repeat"), [], table, 30, 0.6)
    half = [tuple(tensor[rows] for tensor in case) for rows in torch.arange(200).split(120)]
    made.choose(half, 10)
    n_cases, alone, fused = made.worth.tolist()
    assert n_cases == 200
    assert fused == pytest.approx(1.0, abs=1e-3) or fused > 0.95
    assert alone < 0.4
    parts = {part: made._margins(*case)[0][index].square().mean().sqrt() for index, part in enumerate(made.parts)}
    strength = {part: float(made.used()[part] * size) for part, size in parts.items()}
    assert strength["transitions"] > 2 * strength["llm"]
    ranked = made(case[0].clone(), case[1]).argmax(1)
    assert (ranked == case[2]).float().mean() > 0.9


def test_worth_is_the_ndcg_of_the_scores_it_gives():
    """With all items as candidates, what the search measures is what the ranking of the catalogue gives."""
    table, (_, history, _) = cycle(150, 30)
    drawn = torch.Generator().manual_seed(3)
    targets = torch.randint(1, 30, (150,), generator=drawn)
    logits = torch.randn(150, 30, generator=drawn)
    logits[torch.arange(150), targets] += 1.5
    made = ScoreFusion(("llm", "transitions", "repeat"), [], table, 30, 0.6)
    made.choose([(logits, history, targets)], 5)
    for weights, said in ((made.weights.clone(), made.worth[2]), (torch.tensor([1.0, 0, 0]), made.worth[1])):
        made.weights.copy_(weights)
        scores = made(logits.clone(), history)
        above = (scores >= scores.gather(1, targets.unsqueeze(1))).sum(1) - 1
        want = torch.where(above < 5, 1 / torch.log2(above + 2.0), 0.0).mean()
        assert float(said) == pytest.approx(float(want), abs=1e-4)


def test_nothing_to_choose_on_leaves_the_first_part_alone():
    made = fusion()
    made.choose([], 10)
    assert made.used()["llm"] == 1
    assert "nothing was validated" in made.in_words(10)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fusion_parts": ["llm", "transition"]}, r"unknown part 'transition' \(did you mean 'transitions'\?\)"),
        ({"fusion_parts": ["llm", "llm"]}, "'fusion_parts' must be a list of parts, each once"),
        (
            {"fusion_parts": ["repeat"]},
            "'fusion_parts' must be a list with 'llm', 'transitions', 'neighbours' or 'graph'",
        ),
        ({"fusion_decay": 0.0}, r"'fusion_decay' must be in \(0, 1\]"),
        ({"fusion_users": 0}, "'fusion_users' must be positive"),
        ({"fusion": "learnd"}, r"'fusion' must be one of 'learned', 'off', got 'learnd' \(did you mean 'learned'\?\)"),
    ],
)
def test_wrong_settings_are_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        FusionSpec.from_config(settings)


@pytest.mark.parametrize("value", ["off", False])
def test_the_bare_word_off_is_understood(value):
    assert not FusionSpec.from_config({"fusion": value}).learned


def test_the_mean_logit_is_added_by_its_weight(logits):
    weights, mean = [0.5, 1.5, 2.0, 0.25, 0.75, -3.0], torch.arange(N_ITEMS).float()
    plain, made = fusion(weights=weights), fusion()
    made.add_llm_mean()
    made.llm_mean.copy_(mean)
    made.weights.copy_(torch.tensor([*weights, -0.4]))
    want = plain(logits.clone(), HISTORIES) - 0.4 * mean
    torch.testing.assert_close(made(logits.clone(), HISTORIES), want)
    items = torch.tensor([3, 5, 1])
    each = torch.arange(3)
    torch.testing.assert_close(made.of_items(logits[each, items], HISTORIES, items), want[each, items])


def test_a_mean_that_misleads_is_taken_off():
    n_items, n_cases = 60, 400
    draw = torch.Generator().manual_seed(3)
    bias = 3 * torch.randn(n_items, generator=draw)
    targets = torch.randint(1, n_items, (n_cases,), generator=draw)
    logits = torch.randn(n_cases, n_items, generator=draw)
    logits[torch.arange(n_cases), targets] += 3  # what the histories say
    made = ScoreFusion(("llm",), [], None, n_items, 0.6)
    made.add_llm_mean()
    made.llm_mean.copy_(bias)
    histories = torch.zeros(n_cases, 2, dtype=torch.long)
    made.choose([(logits + bias, histories, targets)], k=5)
    weight, mean = made.weights.tolist()
    assert weight == 1
    assert -1.3 < mean < -0.75
    assert made.worth[2] > made.worth[1] + 0.2
