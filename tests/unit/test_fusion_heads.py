import pytest
import torch
from torch.nn import functional

from recbole_hellm.nn.fusion import ItemTokens
from recbole_hellm.nn.heads import ItemScoreHead


@pytest.fixture
def vectors():
    return torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(0))


def test_tokens_are_a_two_layer_projection(vectors):
    tokens = ItemTokens(3, 8)
    one, _, two = tokens.projection
    want = functional.gelu(vectors @ one.weight.T + one.bias) @ two.weight.T + two.bias
    torch.testing.assert_close(tokens(vectors), want)
    assert tokens(vectors).shape == (4, 5, 8)


def test_scaled_tokens_have_the_wanted_root_mean_square(vectors):
    tokens = ItemTokens(3, 8, rms=0.25)
    found = tokens(vectors)
    torch.testing.assert_close(found.square().mean(-1).sqrt(), torch.full((4, 5), 0.25), rtol=1e-3, atol=1e-3)
    cosine = functional.cosine_similarity(found, tokens.projection(vectors), dim=-1)
    torch.testing.assert_close(cosine, torch.ones(4, 5))


def test_tokens_come_from_trained_weights(vectors):
    tokens = ItemTokens(3, 8, rms=0.25)
    tokens(vectors)[..., 0].sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in tokens.parameters())


def test_the_head_is_an_inner_product_with_every_item():
    head, hidden = ItemScoreHead(4, 6), torch.randn(2, 3, 4)
    scores = head(hidden)
    assert scores.shape == (2, 3, 6)
    for item in range(6):
        torch.testing.assert_close(scores[..., item], (hidden * head.weight[item]).sum(-1))


def test_scores_of_chosen_items_are_those_of_the_full_ranking():
    head, hidden, items = ItemScoreHead(4, 6), torch.randn(5, 4), torch.tensor([0, 5, 2, 2, 1])
    torch.testing.assert_close(head.of_items(hidden, items), head(hidden)[torch.arange(5), items])


def test_the_head_is_trained_and_can_learn():
    """The released code leaves it at its random start; then this loss could not fall."""
    torch.manual_seed(0)
    head, hidden, target = ItemScoreHead(4, 6), torch.eye(4), torch.tensor([3, 1, 5, 2])
    optimizer = torch.optim.Adam(head.parameters(), lr=0.2)
    for _ in range(50):
        optimizer.zero_grad()
        functional.cross_entropy(head(hidden), target).backward()
        optimizer.step()
    assert head(hidden).argmax(1).tolist() == target.tolist()


def test_the_head_starts_near_uniform_scores():
    torch.manual_seed(0)
    head = ItemScoreHead(576, 200)
    loss = functional.cross_entropy(head(torch.randn(1000, 576)), torch.arange(1000) % 200)
    assert loss.item() == pytest.approx(torch.tensor(200.0).log().item(), abs=0.02)
    assert head.weight.std() > 0
